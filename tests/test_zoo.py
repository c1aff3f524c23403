# SPDX-License-Identifier: Apache-2.0
"""The networks of zoo.py, exported, compiled, and compared with PyTorch."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

import emx
import zoo
from emx.bundle import Bundle
from emx.options import Options
from many import run_together

TRANSFORMERS = (zoo.gpt2, zoo.bert, zoo.vit, zoo.convnext)
TORCH = tuple(f for f in zoo.ZOO if f not in TRANSFORMERS)
OPTIONS = Options(test=True, rtol=1e-3, atol=0)

pytestmark = pytest.mark.slow


@cache
def exported(factory: zoo.Factory) -> Bundle:
    name = factory.__name__
    return emx.export(f"{zoo.__file__}:{name}", name=name, vectors=2)


def agrees(networks: tuple[zoo.Factory, ...], machine: str, directory: Path) -> None:
    """Each output within 1e-3 of the largest value that PyTorch gives."""
    bundles = [exported(factory) for factory in networks]
    printed = run_together(bundles, directory, machine, ("-O1",), OPTIONS)
    outputs = sum(len(b.outputs) for b in bundles)
    assert len(re.findall(r"emx: pass \w+: output .* vectors 2\)", printed)) == outputs


@pytest.mark.parametrize("machine", ["host", "mps2-an386"])
def test_networks_of_torch(machine: str, tmp_path: Path) -> None:
    agrees(TORCH, machine, tmp_path)


@pytest.mark.parametrize("machine", ["host", "mps2-an386"])
def test_networks_of_transformers(machine: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    agrees(TRANSFORMERS, machine, tmp_path)
