# SPDX-License-Identifier: Apache-2.0
"""The module extension that MODULE.bazel uses."""

load(":repositories.bzl", "emx_boards")

def _boards_impl(_ctx):
    emx_boards(name = "emx_boards")

boards = module_extension(implementation = _boards_impl)
