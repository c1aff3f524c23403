# SPDX-License-Identifier: Apache-2.0
"""Random networks through the whole pipeline: passes, planner, C under sanitizers, a board."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import emx
from emx import passes
from emx.bundle import Bundle
from emx.load import load
from emx.options import Options
from many import SANITIZE, run_together
from random_nets import network

COUNT = 14
pytestmark = pytest.mark.slow


@cache
def bundles() -> tuple[Bundle, ...]:
    return tuple(emx.export(*network(s), name=f"net_{s}", vectors=2) for s in range(COUNT))


def test_passes_keep_the_meaning() -> None:
    for bundle in bundles():
        passes.run(load(bundle), check=[x[0] for x in bundle.vectors.inputs.values()])


@pytest.mark.parametrize(
    ("machine", "flags", "io_arena"),
    [("host", SANITIZE, False), ("host", ("-O3",), True), ("mps3-an547", ("-Os",), True)],
)
def test_networks(tmp_path: Path, machine: str, flags: tuple[str, ...], io_arena: bool) -> None:
    run_together(
        bundles(), tmp_path, machine, flags, Options(test=True, taps=True, io_arena=io_arena)
    )
