# SPDX-License-Identifier: Apache-2.0
"""Random networks through the whole pipeline: passes, planner, C under sanitizers, a board."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

import emx
from emx import passes
from emx.bundle import Bundle
from emx.load import load
from emx.options import Options
from many import SANITIZE, run_together
from random_nets import network

FEW = range(8)
# 500 networks, as many in one program as a board's memory takes.
MANY = [range(start, start + 8) for start in range(8, 508, 8)]
SEEDS = pytest.mark.parametrize(
    "seeds",
    [pytest.param(FEW, marks=pytest.mark.slow)]
    + [pytest.param(seeds, marks=pytest.mark.soak) for seeds in MANY],
    ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}",
)


@lru_cache(maxsize=1)
def bundles(seeds: range) -> tuple[Bundle, ...]:
    return tuple(emx.export(*network(s), name=f"net_{s}", vectors=2) for s in seeds)


@SEEDS
def test_passes_keep_the_meaning(seeds: range) -> None:
    for bundle in bundles(seeds):
        passes.run(load(bundle), check=[x[0] for x in bundle.vectors.inputs.values()])


@SEEDS
@pytest.mark.parametrize(
    ("machine", "flags", "io_arena"),
    [("host", SANITIZE, False), ("host", ("-O3",), True), ("mps3-an547", ("-Os",), True)],
)
def test_networks(
    tmp_path: Path, machine: str, flags: tuple[str, ...], io_arena: bool, seeds: range
) -> None:
    run_together(
        bundles(seeds), tmp_path, machine, flags, Options(test=True, taps=True, io_arena=io_arena)
    )
