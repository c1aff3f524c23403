# SPDX-License-Identifier: Apache-2.0
"""How operators on images are computed row by row: the answers of `Op.rows`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from emx.ir import Array, Node, Op, TensorType, Value
from emx.kernel import Param, Rows, Span, Wishes
from emx.target import Target
from emx.window import Window


def window_rows(
    node: Node,
    constants: Mapping[str, Array],
    target: Target,
    wishes: Wishes,
    same: Sequence[str] = (),
) -> Rows | None:
    """Of an operator with a field `window`, perhaps `channels_first`, whose first input is the
    image; further inputs that are no constants have y's shape. A row is the same operator on an
    image of which its window sees all rows; where there may be rows that do not exist, one of them
    does not, so that the kernel is prepared for them. The parameters `same` are those of the whole
    image."""
    op: Any = node.op
    window: Window = op.window
    first = getattr(op, "channels_first", False)
    x, y = node.inputs[0].type.dims, node.output.type.dims
    axis = 2 if first else 1
    top, bottom, left, right = window.pad
    reach, beyond = window.reach(0), int(max(top, bottom) > 0)
    if x[0] != 1 or max(top, bottom) >= reach:
        return None
    flat: Op = replace(op, window=replace(window, pad=(beyond, 0, left, right)))
    image = _cut(node.inputs[0], axis, reach - beyond)
    rest = [v if v.name in constants else _cut(v, 1, 1) for v in node.inputs[1:]]
    row = Node(flat, (image, *rest), (_cut(node.output, 1, 1),), node.origin)
    kernels = flat.kernels_for(row, constants, target, wishes)
    fixed: dict[str, Param] = {"x_chan": x[2] * x[3]} if first else {}  # where its planes lie
    if same:
        whole = op.kernel_for(node, constants, target)
        fixed |= {name: whole.params[name] for name in same}
    kernels = [replace(k, params={**k.params, **fixed}) for k in kernels]
    span = Span(x[axis], reach, window.stride[0], top, x[1] if first else 1)
    spans = {k: span if i == 0 else Span(y[1]) for k, i in kernels[0].inputs.items()}
    return Rows(kernels, spans, y[1])


def image_rows(
    node: Node, constants: Mapping[str, Array], target: Target, scratch_bytes: int = 0
) -> Rows | None:
    """Of a pool whose window is the whole image: each call adds a row to what it finds, in y or in
    scratch. The function is that of the image with `_row` in its name; in_h is 1, pad_top the
    number of the row."""
    op: Any = node.op
    window: Window = op.window
    batch, height, width, _ = node.inputs[0].type.dims
    if batch != 1 or window.kernel != (height, width) or any(window.pad) or height == 1:
        return None
    kernel = op.kernel_for(node, constants, target)
    name, _, kind = kernel.function.rpartition("_")
    row = replace(
        kernel,
        function=f"{name}_row_{kind}",
        params={**kernel.params, "in_h": 1},
        scratch_bytes=scratch_bytes,
        cost=kernel.cost // height,
    )
    return Rows((row,), {"x": Span(height)}, height, accumulates=True)


def same_rows(
    node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
) -> Rows | None:
    """Of an operator that makes a row from the same row of each input; constants are the same for
    all rows."""
    y = node.output.type.dims
    fixed = [v.name in constants and (v.type.rank < 3 or v.type.dims[-3] == 1) for v in node.inputs]
    fits = all(f or v.type.dims[:-2] == y[:-2] for v, f in zip(node.inputs, fixed, strict=True))
    if len(y) != 4 or y[0] != 1 or not fits:
        return None
    inputs = tuple(v if f else _cut(v, 1, 1) for v, f in zip(node.inputs, fixed, strict=True))
    row = Node(node.op, inputs, (_cut(node.output, 1, 1),), node.origin)
    kernels = node.op.kernels_for(row, constants, target, wishes)
    spans = {k: Span(y[1]) for k, i in kernels[0].inputs.items() if not fixed[i]}
    return Rows(kernels, spans, y[1])


def _cut(v: Value, axis: int, extent: int) -> Value:
    dims = list(v.type.dims)
    dims[axis] = extent
    return replace(v, type=TensorType(tuple(dims), v.type.dtype))
