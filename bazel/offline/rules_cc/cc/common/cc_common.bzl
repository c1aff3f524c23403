# SPDX-License-Identifier: Apache-2.0
"""Bazel's own."""

load(":private.bzl", "native_cc_common")

cc_common = native_cc_common
