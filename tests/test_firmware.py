# SPDX-License-Identifier: Apache-2.0
"""What firmware gets with its models: no heap, no stdio, no locale; a stack that has a bound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bare import link_model
from emx import api, passes
from emx.build import Program, board_names, build, find_machine
from emx.bundle import Bundle
from emx.load import load
from emx.options import Options
from emx.select import select
from emx.stack import USAGE_FLAG, read_usage, stack_bound
from emx.target import find_target
from golden_models import NAMES, golden_bundle
from sampled import sampled_bundles
from test_boards import read_symbols

pytestmark = pytest.mark.slow
BOARDS = tuple(b for b in board_names() if find_machine(b).count_args)
UNWANTED = re.compile(
    r"malloc|calloc|realloc|\bfree\b|_free_r|sbrk|printf|scanf|\bf?put[cs]|fopen|fwrite|fread"
    r"|fflush|stdio|stdin|stdout|__sinit|__sf\b|_iob|locale|ctype|strto[dfl]|wctomb"
)


def every_kernel() -> list[Bundle]:
    """The golden networks, and samples that together have every kernel and scalar function."""
    bundles, seen = [golden_bundle(n) for n in NAMES], set[str]()
    for bundle in sampled_bundles():
        program = select(passes.run(load(bundle)), find_target("generic"))
        kernels = [step.kernel for step in program.steps]
        text = " ".join(line for k in kernels for s in k.scalars for line in s.body)
        parts = {k.function for k in kernels} | set(re.findall(r"(\w+)\(", text))
        if parts - seen:
            bundles.append(bundle)
        seen |= parts
    assert {"powf", "emx_linear_f32", "emx_tanh_f32"} <= seen
    return bundles


def firmware(board: str, bundles: list[Bundle], directory: Path, more: str = "") -> Path:
    """A board's program that calls each of the models, as a user would write it."""
    machine = find_machine(board)
    for b in bundles:
        artifacts = api.generate(b, find_target(machine.target), Options())
        api.write(artifacts, directory)
    lines = [f'#include "{b.name}.h"' for b in bundles]
    lines += ["#include <stdio.h>", "static float memory[1024];", "int main(void) {", more]
    for b in bundles:
        lines.append(f"{b.name}_run({', '.join(['memory'] * len((*b.inputs, *b.outputs)))});")
    (directory / "main.c").write_text("\n".join([*lines, "return (int)memory[0]; }", ""]))
    flags = ("-O1", "-w", USAGE_FLAG, f"-Wl,-Map={directory / 'fw.map'}")
    program = Program(tuple(sorted(directory.glob("*.c"))), (directory,), flags=flags)
    return build(machine, program, directory / "fw.elf")


def unwanted(image: Path) -> list[str]:
    """Symbols of the image and members of archives in its map that are of a heap, stdio, locale."""
    text = image.with_suffix(".map").read_text()
    members = re.findall(r"^\S*\((\S+\.o)\)$", text, re.MULTILINE)
    assert members, "the map names what comes from libraries"
    return [s for s in (*read_symbols(image), *members) if UNWANTED.search(s)]


@pytest.mark.parametrize("board", BOARDS)
def test_models_bring_no_heap_stdio_or_locale(board: str, tmp_path: Path) -> None:
    image = firmware(board, every_kernel(), tmp_path)
    assert unwanted(image) == []
    bound = stack_bound(find_machine(board).compiler, image, ("main",), read_usage(tmp_path))
    assert 100 < bound.bytes < 2000


def test_printf_would_be_noticed(tmp_path: Path) -> None:
    found = unwanted(firmware(BOARDS[0], [golden_bundle("dense")], tmp_path, 'printf("%d", 1);'))
    assert {"printf", "_malloc_r", "_sbrk"} <= set(found)


@pytest.mark.parametrize("board", BOARDS)
def test_a_model_alone_needs_nothing_of_the_board(board: str, tmp_path: Path) -> None:
    """It links without start-up code and system calls, against libc and libm only."""
    image = link_model(board, golden_bundle("pointwise"), tmp_path, "-Os")
    ours = {s for s in read_symbols(image) if s.startswith("pointwise_")}
    assert {"pointwise_run", "pointwise_run_in"} <= ours
    assert not [s for s in read_symbols(image) if s in ("main", "exit", "_exit", "_write")]
