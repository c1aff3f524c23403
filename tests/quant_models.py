# SPDX-License-Identifier: Apache-2.0
"""Small quantised models, call by call, as PyTorch's conversions leave them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import numpy as np

from emx import passes
from emx.bundle import Bundle, Ref, Vectors
from emx.ir import DType, Graph, Op
from emx.load import load
from emx.options import Options
from emx.quant import Quant
from emx.twin import dequantised, run_twin
from per_layer import compare_layers
from sampled import Calls

Number = int | float
S8, U8 = DType.S8, DType.U8


@dataclass
class Model(Calls):
    """Calls named after what they call."""

    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    fresh: count[int] = field(default_factory=count)

    def x(self, *shape: int, scale: float = 0.05, zero: int = 3, dtype: DType = S8) -> Ref:
        """A quantised input, dequantised."""
        return self.integers(f"x{next(self.fresh)}", shape, quant(scale, zero, dtype))

    def floats(self, *shape: int, scale: float = 1.0) -> Ref:
        data = self.random.uniform(-scale, scale, (2, *shape)).astype(np.float32)
        return self.input(f"x{next(self.fresh)}", data)

    def w(self, *shape: int, axis: int = 0, most: int = 127) -> Ref:
        """int8 weights with a scale for each index of `axis`, dequantised."""
        data = self.random.uniform(-1, 1, shape).astype(np.float32)
        return self.by_channels(f"w{next(self.fresh)}", data, axis, Quant(1.0, lo=-most, hi=most))

    def b(self, *shape: int, low: float = -1.0) -> Ref:
        """Float parameters, from `low` on."""
        data = self.random.uniform(low, low + 2, shape).astype(np.float32)
        return self.tensor(f"b{next(self.fresh)}", data)

    def op(self, name: str, *args: object) -> Ref:
        """The first output of an ATen call."""
        given = tuple(self.argument(a, "") for a in args)
        return self.add(f"{name.split('.')[0]}_{next(self.fresh)}", f"aten.{name}", given)[0]

    def relu(self, x: Ref) -> Ref:
        return self.op("relu.default", x)

    def q(self, x: Ref, scale: float, zero: int = 0, dtype: DType = S8) -> Ref:
        """Quantised and dequantised again."""
        q = quant(scale, zero, dtype)
        return self.dequantised(self.quantised(f"q{next(self.fresh)}", x, q), q)

    def made(self, *outputs: Ref) -> Bundle:
        return self.bundle("model", outputs)


def quant(scale: float, zero: int, dtype: DType) -> Quant:
    return Quant(scale, zero, dtype, 0, 255) if dtype is U8 else Quant(scale, zero, dtype)


def optimised(bundle: Bundle, **options: object) -> Graph:
    """All passes, each checked."""
    check = [x[0] for x in bundle.vectors.inputs.values()]
    return passes.run(load(bundle), Options(**options), check=check)  # type: ignore[arg-type]


def all_integer(bundle: Bundle, **options: object) -> Graph:
    """The graph, which has no floats, and each layer of which is PyTorch's, give or take a step."""
    graph = optimised(bundle, **options)
    assert all(v.type.dtype is not DType.F32 for n in graph.nodes for v in (*n.inputs, n.output))
    assert graph.float_layers == ()
    vectors = bundle.vectors
    inputs = [{k: x[v] for k, x in vectors.inputs.items()} for v in range(vectors.count)]
    layers = compare_layers(bundle, inputs)
    assert all(layer.most <= 1 for layer in layers)
    off, size = sum(layer.off for layer in layers), sum(layer.size for layer in layers)
    assert off <= max(2, 0.004 * size)
    _check_outputs(graph, vectors)
    return graph


def _check_outputs(graph: Graph, vectors: Vectors) -> None:
    """Two steps, as there may be several layers."""
    twin = run_twin(graph, vectors).outputs
    for name, v in zip(graph.output_names, graph.outputs, strict=True):
        q = graph.quants.get(v.name)
        off = dequantised(q, twin[name]).astype(np.float64) - vectors.outputs[name]
        assert np.abs(off).max(initial=0) < 2.1 * (q.scale if q else 1)


def ops(graph: Graph, *kinds: type[Op]) -> list[Op]:
    return [n.op for n in graph.nodes if isinstance(n.op, kinds)]
