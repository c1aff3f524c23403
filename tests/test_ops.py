# SPDX-License-Identifier: Apache-2.0
"""Every sample of every operator: NumPy reference, C under sanitizers, C on the boards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emx import passes
from emx.api import generate
from emx.bundle import Bundle
from emx.interpret import outputs
from emx.ir import Array, DType
from emx.load import load
from emx.options import Options
from emx.target import find_target
from many import SANITIZE, run_together
from sampled import sampled_bundles

BUNDLES = sampled_bundles()
IDS = [b.name for b in BUNDLES]
# A call that quantises would be gone if its input were the integers.
OPTIONS = Options(test=True, taps=True, io="float")


@pytest.mark.parametrize("bundle", BUNDLES, ids=IDS)
def test_reference_is_pytorch(bundle: Bundle) -> None:
    graph = load(bundle)
    check = [x[0] for x in bundle.vectors.inputs.values()]
    optimised = passes.run(graph, Options(io="float"), check=check)
    if is_quantised(bundle):
        assert not any(v.type.dtype is DType.F32 for n in optimised.nodes for v in n.outputs)
    for v in range(bundle.vectors.count):
        inputs = [x[v] for x in bundle.vectors.inputs.values()]
        for g in (graph, optimised):
            results = dict(zip(g.output_names, outputs(g, inputs), strict=True))
            for name, want in bundle.vectors.outputs.items():
                with np.errstate(over="ignore"):
                    y = results[name].astype(want.dtype)
                rtol, atol = tolerance(bundle, want)
                np.testing.assert_allclose(y, want[v], rtol, atol)


def tolerance(bundle: Bundle, want: Array) -> tuple[float, float]:
    """(rtol, atol); quantised results may be the neighbour of PyTorch's."""
    if want.dtype == np.float32:
        return 2e-5, 2e-6
    return 0, int(is_quantised(bundle))


def is_quantised(bundle: Bundle) -> bool:
    """Whether the call that is sampled lies between dequantise and quantise."""
    return bundle.nodes[-1].name == "quantize"


def call(bundle: Bundle) -> str:
    """The operator that a bundle samples, apart from what quantises its arguments and result."""
    return next(n.target for n in bundle.nodes if n.name == "call")


ONE_OF_EACH = list({call(b): b for b in BUNDLES}.values())


@pytest.mark.slow
def test_host_under_sanitizers(tmp_path: Path) -> None:
    run_together(BUNDLES, tmp_path, "host", SANITIZE, OPTIONS)


@pytest.mark.slow
def test_inputs_and_outputs_in_the_arena(tmp_path: Path) -> None:
    run_together(ONE_OF_EACH, tmp_path, "host", SANITIZE, replace(OPTIONS, io_arena=True))


# The others have the instructions of these: M7 those of M4, AArch64 is to the compiler as x86-64.
BOARDS = {"mps2-an386": "-O2", "mps3-an547": "-O2"}
SOAKED = {
    "mps2-an385": "-Os",
    "mps2-an505": "-Os",
    "rv32-virt": "-Os",
    "mps2-an500": "-O3",
    "aarch64-linux": "-O3",
}


@pytest.mark.parametrize(
    ("board", "level"),
    [
        *(pytest.param(*b, marks=pytest.mark.slow) for b in BOARDS.items()),
        *(pytest.param(*b, marks=pytest.mark.soak) for b in SOAKED.items()),
    ],
)
def test_board(tmp_path: Path, board: str, level: str) -> None:
    run_together(BUNDLES, tmp_path, board, (level,), OPTIONS)


def memory(bundle: Bundle) -> int:
    """Bytes of RAM that a sample takes in a test program."""
    manifest = generate(bundle, find_target("cortex-m0"), OPTIONS).manifest
    return int(manifest["arena_bytes"] + sum(t["bytes"] for t in manifest["outputs"]))


def small_programs(limit: int = 7000, most: int = 60) -> list[list[Bundle]]:
    """A small sample of every ATen call, packed into programs of at most `limit` bytes of RAM."""
    chosen: dict[str, tuple[int, Bundle]] = {}
    for bundle in BUNDLES:
        name, size = call(bundle), memory(bundle)
        if size <= 1500 and (name not in chosen or chosen[name][0] < 32 <= size):
            chosen[name] = (size, bundle)
    programs: list[list[Bundle]] = [[]]
    used = 0
    for size, bundle in chosen.values():
        if used + size > limit or len(programs[-1]) == most:
            programs.append([])
            used = 0
        programs[-1].append(bundle)
        used += size
    assert len(chosen) > 0.95 * len(ONE_OF_EACH)
    return programs


@pytest.mark.slow
@pytest.mark.parametrize("board", ["mps2-an385", "mps2-an505", "rv32-virt"])
def test_board_with_each_call(tmp_path: Path, board: str) -> None:
    """Boards whose compilers and libraries differ: a sample of every ATen call."""
    run_together(ONE_OF_EACH, tmp_path, board, ("-Os",), OPTIONS)


@pytest.mark.slow
def test_small_board(tmp_path: Path) -> None:
    """Armv6-M, which has neither an FPU nor unaligned access, and 16 KB of RAM."""
    for i, bundles in enumerate(small_programs()):
        directory = tmp_path / str(i)
        run_together(bundles, directory, "microbit", ("-Os",), replace(OPTIONS, taps=False))
