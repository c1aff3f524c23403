# SPDX-License-Identifier: Apache-2.0
"""y = (x - mean) / sqrt(var + eps) * w + b, over groups of channels (Wu, He, 2018).

Instance normalisation is the case of one channel in a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emx.builder import Builder, Lowering, require_f32
from emx.ir import Array, Node, Op, TensorType, Unsupported, Value
from emx.kernel import Kernel, Trace
from emx.sample import P, Sample, X


@dataclass(frozen=True)
class GroupNorm(Op):
    """Inputs x, w and b; w and b have one element for each channel, channels lie on `axis`, and
    every image (axis 0) has means of its own."""

    name: ClassVar[str] = "group_norm"
    groups: int
    axis: int
    eps: float

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        x, w, b = arrays
        channels = x.shape[self.axis]
        folded = (x.shape[0], prod(x.shape[1 : self.axis]), self.groups, channels // self.groups)
        g = x.reshape(*folded, -1)
        centred = g - g.mean(axis=(1, 3, 4), keepdims=True)
        var = (centred**2).mean(axis=(1, 3, 4), keepdims=True)
        y = (centred / np.sqrt(var + self.eps)).reshape(x.shape)
        shape = [-1 if i == self.axis else 1 for i in range(x.ndim)]
        return np.asarray(y * w.reshape(shape) + b.reshape(shape))

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        dims = node.output.type.dims
        batch, outer, inner = dims[0], prod(dims[1 : self.axis]), prod(dims[self.axis + 1 :])
        run = dims[self.axis] // self.groups * inner  # elements of a group that lie together
        n, g, o = np.meshgrid(
            np.arange(batch), np.arange(self.groups), np.arange(outer), indexing="ij"
        )
        lo = (((n * outer + o) * self.groups + g) * run * 4).ravel()
        hi = lo + run * 4  # x[i] is read for the last time just before y[i] is written
        w, b = (constants[v.name] for v in node.inputs[1:])
        return Kernel(
            header="group_norm",
            function="emx_group_norm_f32",
            inputs={"x": 0},
            params={
                "batch": batch,
                "groups": self.groups,
                "outer": outer,
                "chans": dims[self.axis] // self.groups,
                "inner": inner,
                "eps": self.eps,
            },
            key=("inner",),
            weights={"w": w, "b": b},
            overlap={"x": Trace(lo, hi, lo, hi)},
        )


def lower_group_norm(
    b: Builder,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    require_f32(x)
    channels = x.type.dims[1]
    if weight is None:
        weight = b.constant(np.ones(channels, np.float32), "weight")
    if bias is None:
        bias = b.constant(np.zeros(channels, np.float32), "bias", beside=weight)
    b.data(weight, "the weight of a group norm")
    b.data(bias, "the bias of a group norm")
    return b.node(GroupNorm(groups, 1, eps), x, weight, bias)


def lower_native(
    b: Builder,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    batch: int,
    channels: int,
    pixels: int,
    groups: int,
    eps: float,
) -> tuple[Value]:
    """The form of decompositions; its other two outputs are means and variances."""
    return (lower_group_norm(b, x, groups, weight, bias, eps),)


def lower_instance_norm(
    b: Builder,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    """With stored statistics it is a batch norm."""
    if use_input_stats:
        return lower_group_norm(b, x, x.type.dims[1], weight, bias, eps)
    if mean is None or var is None:
        raise Unsupported("instance_norm without any statistics", "use_input_stats=True")
    args = (weight, bias, mean, var, False, momentum, eps, False)
    return b.aten("aten.batch_norm.default", x, *args)


ATEN: dict[str, Lowering] = {
    "aten.group_norm.default": lower_group_norm,
    "aten.native_group_norm.default": lower_native,
    "aten.instance_norm.default": lower_instance_norm,
}

SAMPLES = (
    Sample("aten.group_norm.default", X(1, 1, 2), 1),
    Sample("aten.group_norm.default", X(2, 6), 2, P(6), P(6)),
    Sample("aten.group_norm.default", X(2, 6, 5), 3, P(6), P(6), 1e-3),
    Sample("aten.group_norm.default", X(2, 4, 3, 5, low=90.0, high=100.0), 2, P(4), None),
    Sample("aten.native_group_norm.default", X(2, 4, 3), P(4), P(4), 2, 4, 3, 2, 1e-5),
    Sample(
        "aten.instance_norm.default",
        X(1, 3, 4, 5), None, None, None, None, True, 0.1, 1e-5, False,
    ),
    Sample(
        "aten.instance_norm.default",
        X(2, 3, 7), P(3), P(3), None, None, True, 0.1, 1e-5, False,
    ),
    Sample(
        "aten.instance_norm.default",
        X(2, 3, 7), P(3), P(3), P(3), P(3, low=0.5, high=2.0), False, 0.1, 1e-5, False,
    ),
)  # fmt: skip
