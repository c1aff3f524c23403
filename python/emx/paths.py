# SPDX-License-Identifier: Apache-2.0
"""Where the C runtime, the boards, the toolchains and the CMake package are."""

from __future__ import annotations

from pathlib import Path


def root() -> Path:
    """The directory of runtime/, boards/, toolchains/ and cmake/.

    The source tree when this package is used in place or installed as editable; otherwise the
    installed package, which carries the four directories.
    """
    package = Path(__file__).resolve().parent
    tree = package.parent.parent
    in_tree = package.parent.name == "python" and (tree / "runtime").is_dir()
    return tree if in_tree else package
