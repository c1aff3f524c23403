# SPDX-License-Identifier: Apache-2.0
"""Images that hold a model, what it needs, and nothing else: no start-up, no test program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from emx import api
from emx.build import CONTRACT, find_machine, find_tool
from emx.bundle import Bundle
from emx.options import Options
from emx.paths import root
from emx.stack import USAGE_FLAG
from emx.target import find_target


def link_bare(board: str, sources: list[Path], entry: str, *flags: str) -> Path:
    """TOP.elf, beside the first source, with what the function `entry` reaches, and TOP.map."""
    machine, directory = find_machine(board), sources[0].parent
    specs = [f for f in machine.link_flags if f.startswith("--specs")]
    last = [f"-Wl,-e,{entry}", "-Wl,--gc-sections", "-Wl,-Map=top.map", "-lm", "-o", "top.elf"]
    include = f"-I{root() / 'runtime' / 'include'}"
    command = [find_tool(machine.compiler), *machine.flags, CONTRACT, USAGE_FLAG, *flags, include]
    command += ["-nostartfiles", *specs, *map(str, sources), *last]
    subprocess.run(command, cwd=directory, check=True)
    return directory / "top.elf"


def link_model(board: str, bundle: Bundle, directory: Path, *flags: str) -> Path:
    """The image of NAME_run()."""
    target = find_target(find_machine(board).target)
    api.write(api.generate(bundle, target, Options()), directory)
    sources = [directory / f"{bundle.name}{suffix}.c" for suffix in ("", "_weights")]
    return link_bare(board, sources, f"{bundle.name}_run", *flags)
