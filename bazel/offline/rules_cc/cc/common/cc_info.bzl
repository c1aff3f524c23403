# SPDX-License-Identifier: Apache-2.0
"""Bazel's own."""

load(":private.bzl", "NativeCcInfo")

CcInfo = NativeCcInfo
