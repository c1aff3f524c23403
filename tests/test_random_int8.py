# SPDX-License-Identifier: Apache-2.0
"""Random networks in int8: quantised, slimmed, planned; every layer as the twin on every byte."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import emx
from emx.bundle import Bundle
from emx.options import Options
from many import SANITIZE, run_together
from random_int8 import network

FEW = range(25)
MANY = [range(start, start + 25) for start in range(25, 525, 25)]
SEEDS = pytest.mark.parametrize(
    "seeds",
    [pytest.param(FEW, marks=pytest.mark.slow)]
    + [pytest.param(seeds, marks=pytest.mark.soak) for seeds in MANY],
    ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}",
)


@lru_cache(maxsize=1)
def bundles(seeds: range, directory: Path) -> tuple[Bundle, ...]:
    return tuple(bundle(seed, directory) for seed in seeds)


def bundle(seed: int, directory: Path) -> Bundle:
    net, samples = network(seed)
    np.savez(directory / f"{seed}.npz", x=samples.numpy())
    return emx.export(
        net,
        (samples[:1],),
        name=f"net_{seed}",
        quantize="int8",
        calibration=directory / f"{seed}.npz",
        vectors=2,
    )


@SEEDS
def test_networks(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, seeds: range) -> None:
    """On the host under sanitizers, then on every kind of core; with the wishes that change what is
    generated."""
    made = bundles(seeds, tmp_path_factory.mktemp("calibration"))
    for machine, flags, wishes in (
        ("host", SANITIZE, Options(slim=False)),
        ("host", SANITIZE, Options(ram="min", io_arena=True, optimize="size")),
        ("mps2-an386", ("-O2",), Options(io_arena=True)),
        ("mps3-an547", ("-O2",), Options(ram="small", io_arena=True)),
        ("mps2-an385", ("-Os",), Options(io_arena=True)),
        ("mps2-an500", ("-O3",), Options(ram="min", io_arena=True)),
        ("mps2-an505", ("-Os",), Options(optimize="size", io_arena=True)),
    ):
        directory = tmp_path / f"{machine}_{wishes.ram}"
        run_together(made, directory, machine, flags, replace(wishes, test=True, taps=True))
