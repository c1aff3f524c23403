# SPDX-License-Identifier: Apache-2.0
"""A file cannot export a name that it uses as a global."""

NativeCcInfo = CcInfo
native_cc_common = cc_common
