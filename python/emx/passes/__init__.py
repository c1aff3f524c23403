# SPDX-License-Identifier: Apache-2.0
"""Graph -> Graph. PIPELINE is the whole story, in order; every pass is a pure function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from emx.interpret import interpret, outputs
from emx.ir import Array, DType, Graph, verify
from emx.ops.rnn_s8 import RecurrentS8
from emx.options import Options
from emx.passes.boundary import integer_io, note_float_layers, require_integers
from emx.passes.cleanup import drop_dead_code, fold_constants
from emx.passes.fold import expand_batch_norm, fold_batch_norm, fold_permute_into_linear
from emx.passes.fuse import fuse_clamp, fuse_pad, fuse_pointwise, fuse_residual
from emx.passes.fuse_s8 import (
    fuse_pad_s8,
    fuse_residual_s8,
    fuse_tables_s8,
    raise_tables_s8,
)
from emx.passes.integers import to_integers
from emx.passes.layout import (
    absorb_input_layout,
    drop_idle_permutes,
    merge_permutes,
    sink_permutes,
)
from emx.passes.narrow import narrow_weights
from emx.passes.pixels import fold_pixels, read_pixels
from emx.passes.recurrent import trim_recurrent
from emx.passes.settle import settle_quantisation, sign_integers
from emx.passes.slim import slim
from emx.passes.stride import raise_strides
from emx.passes.views import absorb_views
from emx.twin import dequantised, is_quantised, quantised

Pass = Callable[[Graph], Graph]

_ROUGH = 8 / 128  # of the largest value of an output
_RECURRENT = 16  # steps that a layer may be off whose weights become int8 here
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
    trim_recurrent,
    # What is left between dequantise and quantise becomes integer.
    sign_integers,
    settle_quantisation,
    fold_pixels,
    to_integers,
    note_float_layers,
    raise_tables_s8,
    fuse_tables_s8,
    fuse_pad_s8,
    fuse_residual_s8,
    raise_strides,
    integer_io,
    fuse_pointwise,
    # What is left of the permutes moves nothing, or into weights, or into strides of a layer.
    merge_permutes,
    drop_idle_permutes,
    fold_permute_into_linear,
    absorb_input_layout,
    narrow_weights,
    absorb_views,
    trim_recurrent,
    slim,
    read_pixels,
    drop_dead_code,
)


def run(
    graph: Graph,
    options: Options | None = None,
    *,
    check: Sequence[Array] | None = None,
    dump: Path | None = None,
) -> Graph:
    """Apply PIPELINE, or what `options` leave of it. EmxError if they ask for integers alone and
    there are floats between them.

    `check`: inputs on which every pass must leave the outputs as they were, to float64 rounding;
    `dump`: a directory that gets the graph after every pass.
    """
    options = options or Options()
    steps: list[tuple[str, Graph]] = [("load", graph)]
    for p in PIPELINE:
        if (p is integer_io and options.io != "int8") or (p is slim and not options.slim):
            continue
        graph = p(graph)
        verify(graph)
        steps.append((p.__name__, graph))
    if dump:
        _dump(steps, dump)
    if check is not None:
        _check(steps, check)
    if options.strict:
        require_integers(graph)
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
    """Until to_integers() rounding may differ by a step here and there, which layers behind it
    make more of; it is held to one step for each layer by itself, and the passes after it to the
    results as they are."""
    want = _reals(steps[0][1], inputs)
    rough = is_quantised(steps[0][1])
    for (_, before), (name, graph) in pairwise(steps):
        got = _reals(graph, inputs)
        if name == to_integers.__name__ and rough:
            _check_layers(before, graph, inputs)
            want, rough = got, False
        for v, a, b in zip(graph.outputs, want, got, strict=True):
            most = float(np.abs(a[np.isfinite(a)]).max(initial=0))
            atol = _ROUGH * most if rough else 1e-5 * max(1.0, most)
            assert np.allclose(a, b, rtol=0, atol=atol, equal_nan=True), (
                f"pass {name} changed %{v.name} by {np.abs(a - b).max()}"
            )


def _check_layers(before: Graph, after: Graph, inputs: Sequence[Array]) -> None:
    """What each layer makes of the integers that the others make."""
    twin = interpret(after, inputs)
    recurrent = {n.output.name for n in after.nodes if isinstance(n.op, RecurrentS8)}
    env = interpret(replace(before, nodes=()), inputs)
    for n in before.nodes:
        y = n.op.reference(*(env[v.name] for v in n.inputs))
        if n.output.type.dtype is not DType.F32 and n.output.name in twin:
            off = np.abs(y.astype(np.int64) - twin[n.output.name]).max(initial=0)
            most = _RECURRENT if n.output.name in recurrent else 1
            assert off <= most, f"pass to_integers changed %{n.output.name} by {off} steps"
            y = twin[n.output.name]
        env[n.output.name] = y


def _reals(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The outputs for inputs, both as the reals that their integers stand for."""
    given = [quantised(graph, v, x) for v, x in zip(graph.inputs, inputs, strict=True)]
    return [
        dequantised(graph.quants.get(v.name), y)
        for v, y in zip(graph.outputs, outputs(graph, given), strict=True)
    ]
