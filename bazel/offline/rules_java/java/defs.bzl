# SPDX-License-Identifier: Apache-2.0
"""Bazel's own rules."""

java_binary = native.java_binary
java_import = native.java_import
java_runtime = native.java_runtime
java_toolchain = native.java_toolchain
