# SPDX-License-Identifier: Apache-2.0
"""What a result depends on, for build tools."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def own_files(also: str) -> list[Path]:
    """The files of emx that have a part in this run: its modules, and those of a pattern."""
    package = Path(__file__).resolve().parent
    modules = [getattr(m, "__file__", None) for m in list(sys.modules.values())]
    loaded = {Path(f).resolve() for f in modules if f}
    return sorted({*(f for f in loaded if f.is_relative_to(package)), *package.glob(also)})


def write_depfile(depfile: Path, output: Path, files: Sequence[Path]) -> None:
    """What `output` depends on, in make's syntax. Names are those that the build tool gave: it
    would not know a resolved link."""
    names = " \\\n  ".join(_make_name(f) for f in files)
    depfile.write_text(f"{_make_name(output.absolute())}: \\\n  {names}\n")


def _make_name(path: Path) -> str:
    return str(path).replace("\\", "/").replace(" ", "\\ ").replace("#", "\\#").replace("$", "$$")
