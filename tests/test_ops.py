# SPDX-License-Identifier: Apache-2.0
"""Every sample of every operator: NumPy reference, C under sanitizers, C on the boards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emx import passes
from emx.bundle import Bundle
from emx.interpret import outputs
from emx.load import load
from emx.options import Options
from many import SANITIZE, run_together
from sampled import sampled_bundles

BUNDLES = sampled_bundles()
IDS = [b.name for b in BUNDLES]


@pytest.mark.parametrize("bundle", BUNDLES, ids=IDS)
def test_reference_is_pytorch(bundle: Bundle) -> None:
    graph = load(bundle)
    optimised = passes.run(graph, check=[x[0] for x in bundle.vectors.inputs.values()])
    for v in range(bundle.vectors.count):
        inputs = [x[v] for x in bundle.vectors.inputs.values()]
        for g in (graph, optimised):
            with np.errstate(over="ignore"):
                y = outputs(g, inputs)[0].astype(np.float32)
            np.testing.assert_allclose(y, bundle.vectors.outputs["y"][v], rtol=2e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("io_arena", [False, True])
def test_host_under_sanitizers(tmp_path: Path, io_arena: bool) -> None:
    options = Options(test=True, taps=True, io_arena=io_arena)
    run_together(BUNDLES, tmp_path, "host", SANITIZE, options)


@pytest.mark.slow
@pytest.mark.parametrize("board", ["mps2-an386", "mps3-an547"])
def test_board(tmp_path: Path, board: str) -> None:
    run_together(BUNDLES, tmp_path, board, ("-O2",), Options(test=True, taps=True))
