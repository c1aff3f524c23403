# SPDX-License-Identifier: Apache-2.0
"""Names of the actions of C compilers."""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", _ACTION_NAMES = "ACTION_NAMES", _C_COMPILE = "C_COMPILE_ACTION_NAME")

ACTION_NAMES = _ACTION_NAMES
C_COMPILE_ACTION_NAME = _C_COMPILE
