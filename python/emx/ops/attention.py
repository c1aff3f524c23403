# SPDX-License-Identifier: Apache-2.0
"""y = softmax(scale * q @ k^T + mask) @ v (Vaswani et al., 2017), without the matrix of scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, prod, sqrt
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, DType, Node, TensorType, Unsupported, Value
from emx.kernel import Kernel
from emx.sample import B, P, Sample, X
from emx.view import Strided, View, batch_loops, whole

BLOCK = 8  # rows whose scores are kept at once; every block packs k and v anew
NAMES = ("q", "k", "v", "mask")


@dataclass(frozen=True)
class Attention(Strided):
    """Inputs q [...][rows][dim], k [...][keys][dim], v [...][keys][out] and, if there is one,
    mask [...][rows][keys], which is added to the scores; what stands before broadcasts."""

    name: ClassVar[str] = "attention"
    scale: float = 1.0
    causal: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(self.placed(self._result(types))[0])

    def _views(self, types: tuple[TensorType, ...]) -> list[View]:
        return [self.viewed(i, t) for i, t in enumerate(types)]

    def _result(self, types: tuple[TensorType, ...]) -> tuple[int, ...]:
        q, k, v, *mask = (view.dims for view in self._views(types))
        scores = (q[-2], k[-2])
        if q[-1] != k[-1] or k[-2] != v[-2] or np.broadcast_shapes(scores, *mask)[-2:] != scores:
            text = ", ".join(map(str, types))
            raise Unsupported(f"attention of {text} is not possible", "make the shapes agree")
        batch = np.broadcast_shapes(q[:-2], k[:-2], v[:-2], *(m[:-2] for m in mask))
        return (*batch, q[-2], v[-1])

    def reference(self, *arrays: Array) -> Array:
        q, k, v, *mask = self.read(arrays)
        score = q @ np.swapaxes(k, -1, -2) * self.scale + sum(mask)
        if self.causal:
            score = np.where(np.tri(*score.shape[-2:]), score, -inf)
        top = score.max(axis=-1, keepdims=True, initial=-inf)
        e = np.exp(score - np.where(top == -inf, 0.0, top))
        total = e.sum(axis=-1, keepdims=True)
        return self.written(np.asarray(e / np.where(total == 0, 1.0, total) @ v))

    def macs(self, node: Node) -> int:
        q, k, v, *_ = self._views(tuple(v.type for v in node.inputs))
        batch = node.output.type.size // max(1, q.dims[-2] * v.dims[-1])
        return batch * q.dims[-2] * k.dims[-2] * (q.dims[-1] + v.dims[-1])

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        types = tuple(v.type for v in node.inputs)
        views = self._views(types)
        q, k, _, *mask = views
        dims = self._result(types)
        _, y = self.placed(dims)
        if not mask:
            views.append(whole((1, 1)))
        matrices = dict(zip((*NAMES, "y"), (*views, y), strict=True))
        batch, *steps = batch_loops(dims[:-2], (*views, y))
        block, keys = min(dims[-2], BLOCK), k.dims[-2]
        return Kernel(
            header="attention",
            function="emx_attention_mask_f32" if mask else "emx_attention_f32",
            inputs={name: i for i, name in enumerate(NAMES[: len(types)])},
            params={
                "batch": batch,
                **{f"{n}_batch": s for n, s in zip(matrices, steps, strict=True)},
                "rows": dims[-2], "keys": keys, "dim": q.dims[-1], "out": dims[-1],
                "block": block, "causal": int(self.causal),
                **{k: n for name, view in matrices.items() for k, n in _steps(name, view)},
                "scale": self.scale,
            },
            key=("causal", "q_col", "k_col", "v_col", "y_col"),
            scratch_bytes=4 * (block * (-(-keys // 4) * 4) + 4 * max(q.dims[-1], keys, 1)),
        )  # fmt: skip


def _steps(name: str, view: View) -> list[tuple[str, int]]:
    start = [] if name == "y" else [(f"{name}_start", view.start)]
    return [*start, (f"{name}_row", view.steps[-2]), (f"{name}_col", view.steps[-1])]


def lower_attention(
    b: Builder, q: Value, k: Value, v: Value, mask: Value | None = None, dropout: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    require_f32(q, k, v)
    mask, causal = _mask(b, mask, (q.type.dims[-2], k.type.dims[-2]))
    op = Attention(
        scale=1 / sqrt(q.type.dims[-1]) if scale is None else scale, causal=causal or is_causal
    )
    heads = q.type.dims[-3] if enable_gqa else 1
    if not enable_gqa or k.type.dims[-3] == heads:
        return b.node(op, q, k, v, *([mask] if mask else ()))
    groups = heads // k.type.dims[-3]
    operands = [q, k, v, *([mask] if mask and mask.type.rank > 2 else ())]
    grouped = [_grouped(b, x, groups if x.type.dims[-3] == heads else 1) for x in operands]
    if mask and mask.type.rank == 2:
        grouped.append(mask)
    y = b.node(op, *grouped)
    dims = (*q.type.dims[:-1], v.type.dims[-1])
    return b.aten("aten.reshape.default", y, dims)


def _grouped(b: Builder, x: Value, groups: int) -> Value:
    """[...][heads][][] -> [...][heads / groups][groups][][]"""
    *batch, heads, rows, cols = x.type.dims
    return b.aten("aten.reshape.default", x, (*batch, heads // groups, groups, rows, cols))


def _mask(b: Builder, mask: Value | None, shape: tuple[int, int]) -> tuple[Value | None, bool]:
    """The mask as what is added to the scores, None if it adds nothing; or, if that is all that a
    constant one does, that it hides the keys after each row."""
    if mask is None:
        return None, False
    data = b.constants.get(mask.name)
    if data is None and mask.type.dtype is DType.BOOL:
        return b.aten("aten.where.Scalar", mask, 0.0, -inf), False
    if data is None:
        require_f32(mask)
        return mask, False
    hidden = ~data if mask.type.dtype is DType.BOOL else data < -1e30
    if not np.any(hidden if mask.type.dtype is DType.BOOL else data):
        return None, False
    seen = np.tri(*shape, dtype=np.bool_)
    plain = mask.type.dtype is DType.BOOL or not np.any(data[~hidden])
    if plain and prod(data.shape[-2:]) == seen.size and np.all(hidden == ~seen):
        return None, True
    if mask.type.dtype is DType.BOOL:
        return b.constant(np.where(data, 0.0, -inf).astype(np.float32), "mask"), False
    return mask, False


ATEN: dict[str, Lowering] = {"aten.scaled_dot_product_attention.default": lower_attention}

_SDPA = "aten.scaled_dot_product_attention.default"
SAMPLES = (
    Sample(_SDPA, X(1, 1), X(1, 1), X(1, 1)),
    Sample(_SDPA, X(0, 4), X(3, 4), X(3, 4)),
    Sample(_SDPA, X(3, 4), X(5, 4), X(5, 7)),
    Sample(_SDPA, X(2, 13, 4), X(2, 5, 4), X(2, 5, 9), None, 0.0, True),
    Sample(_SDPA, X(2, 3, 6, 8), X(2, 3, 11, 8), X(2, 3, 11, 8), None, 0.0, True),
    Sample(_SDPA, X(2, 3, 6, 4), X(2, 3, 5, 4), X(2, 3, 5, 4), X(2, 1, 6, 5, low=-9.0)),
    Sample(_SDPA, X(2, 6, 4), X(2, 5, 4), X(2, 5, 4), X(1, 5)),
    Sample(_SDPA, X(2, 6, 4), X(2, 5, 4), X(2, 5, 4), P(6, 5)),
    Sample(_SDPA, X(2, 6, 4), X(2, 2, 4), X(2, 2, 4), B(2, 1, 2)),
    Sample(_SDPA, X(1, 6, 5, 4), X(1, 2, 7, 4), X(1, 2, 7, 4), B(5, 7), scale=0.3, enable_gqa=True),
    Sample(_SDPA, X(1, 4, 5, 4), X(1, 2, 7, 4), X(1, 2, 7, 4), X(1, 4, 1, 7), enable_gqa=True),
)
