# SPDX-License-Identifier: Apache-2.0
"""Graph -> Graph. PIPELINE is the whole story, in order; every pass is a pure function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from emx.interpret import outputs
from emx.ir import Array, Graph, verify
from emx.passes.cleanup import drop_dead_code, fold_constants
from emx.passes.fold import expand_batch_norm, fold_batch_norm, fold_permute_into_linear
from emx.passes.fuse import fuse_clamp, fuse_pad, fuse_pointwise, fuse_residual
from emx.passes.layout import (
    absorb_input_layout,
    drop_idle_permutes,
    merge_permutes,
    sink_permutes,
)
from emx.passes.recurrent import trim_recurrent
from emx.passes.views import absorb_views

Pass = Callable[[Graph], Graph]

PIPELINE: tuple[Pass, ...] = (
    fold_constants,
    # Convolutions are channels last between two permutes; those meet and cancel first, so that
    # the passes below see producer and consumer side by side.
    sink_permutes,
    fold_batch_norm,
    expand_batch_norm,
    fuse_pad,
    # A residual add before the clamp after it: y = clamp(conv + skip).
    fuse_residual,
    fuse_clamp,
    fuse_pointwise,
    # What is left of the permutes moves nothing, or into weights, or into strides of a layer.
    merge_permutes,
    drop_idle_permutes,
    fold_permute_into_linear,
    absorb_input_layout,
    absorb_views,
    trim_recurrent,
    drop_dead_code,
)


def run(graph: Graph, *, check: Sequence[Array] | None = None, dump: Path | None = None) -> Graph:
    """Apply PIPELINE. `check`: inputs on which every pass must leave the outputs as they were,
    to float64 rounding; `dump`: a directory that gets the graph after every pass."""
    steps: list[tuple[str, Graph]] = [("load", graph)]
    for p in PIPELINE:
        graph = p(graph)
        verify(graph)
        steps.append((p.__name__, graph))
    if dump:
        _dump(steps, dump)
    if check is not None:
        _check(steps, check)
    return graph


def _dump(steps: list[tuple[str, Graph]], directory: Path) -> None:
    """One file for each pass that changed something, numbered in order."""
    directory.mkdir(parents=True, exist_ok=True)
    last = ""
    for i, (name, graph) in enumerate(steps):
        if str(graph) != last:
            last = str(graph)
            (directory / f"{i:02}_{name}.txt").write_text(last + "\n")


def _check(steps: list[tuple[str, Graph]], inputs: Sequence[Array]) -> None:
    want = outputs(steps[0][1], inputs)
    for name, graph in steps[1:]:
        for v, a, b in zip(graph.outputs, want, outputs(graph, inputs), strict=True):
            scale = max(1.0, float(np.abs(a).max(initial=0)))
            assert np.allclose(a, b, rtol=0, atol=1e-5 * scale, equal_nan=True), (
                f"pass {name} changed %{v.name} by {np.abs(a - b).max()}"
            )
