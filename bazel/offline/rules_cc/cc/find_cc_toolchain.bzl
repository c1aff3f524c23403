# SPDX-License-Identifier: Apache-2.0
"""How a rule finds its C compiler."""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

find_cc_toolchain = find_cpp_toolchain

def use_cc_toolchain():
    return ["@bazel_tools//tools/cpp:toolchain_type"]
