# SPDX-License-Identifier: Apache-2.0
"""Every row of the pointwise table on shapes and values at the edge: rank 0, no elements, broadcast
over many axes, transposed operands, NaN and infinities. The calls are those of the samples, with
other tensors; many are one model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import many
from emx.bundle import Arg, AtenNode, Bundle, Ref, Vectors
from emx.ir import Array, DType, Origin, TensorType
from emx.ops import logic, pointwise
from emx.options import Options
from emx.sample import Sample, T
from sampled import call_torch, data_of

# Kind -> shape of the first tensor of a call, of the second and so on.
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "scalar": ((), (), ()),
    "empty": ((0, 3), (1, 3), (0, 1)),
    "broadcast": ((2, 1, 3, 1, 2), (1, 2, 1, 2, 1), (2, 1)),
    "one": ((3, 4), (), (1,)),
    "strided": ((4, 3), (4, 3), (4, 3)),
    "special": ((29,), (29,), (29,)),
}
SHAPED = {
    "aten.prelu.default",
    "aten.glu.default",
    "aten.masked_fill.Tensor",
}  # calls whose arguments depend on the shape
# Of infinity or NaN PyTorch gives what its vector unit happens to give: gelu(inf) is NaN, and any
# integer may come out of a conversion.
UNDEFINED = {"aten.gelu.default", "aten._to_copy.default", "aten.to.dtype"}
AT_ONCE = 40  # outputs of a model; the test program takes 64


def calls() -> Iterator[Sample]:
    """One sample of each operator in each combination of element types."""
    seen = set()
    for s in (*pointwise.SAMPLES, *logic.SAMPLES):
        tensors = [a for a in s.args if isinstance(a, T)]
        key = (s.target, tuple(t.dtype for t in tensors), tuple(s.kwargs))
        plain = not any(t.const for t in tensors) and s.target not in SHAPED
        if tensors and plain and key not in seen:
            seen.add(key)
            yield s


def tensors_of(kind: str, s: Sample) -> list[T]:
    shapes = iter(SHAPES[kind])
    special = kind == "special" and s.target not in UNDEFINED
    return [
        replace(a, shape=next(shapes), special=special and a.dtype is DType.F32)
        for a in s.args
        if isinstance(a, T)
    ]


def bundle(kind: str, number: int, samples: list[Sample]) -> Bundle:
    """A model that makes all calls, each on inputs of its own; of one vector."""
    random = np.random.default_rng(number)
    inputs: dict[str, Array] = {}
    nodes: list[AtenNode] = []
    values: dict[str, Array] = {}
    for i, s in enumerate(samples):
        names = iter(range(9))
        given = iter(tensors_of(kind, s))
        args: list[Arg] = []
        for a in s.args:
            if not isinstance(a, T):
                args.append(a)
                continue
            name = f"x{i}_{next(names)}"
            data = data_of(random, t := next(given), t.shape)
            inputs[name] = data[None]
            if kind == "strided":
                nodes.append(node(f"{name}t", "aten.t.default", [Ref(name)], data.T))
                values[f"{name}t"] = data.T
            args.append(Ref(f"{name}t" if kind == "strided" else name))
        tensors = {k: v[0] for k, v in inputs.items()} | values
        (result, *_) = call_torch(s.target, args, dict(s.kwargs), tensors)
        values[f"y{i}"] = result.numpy()
        nodes.append(node(f"y{i}", s.target, args, values[f"y{i}"], s))
    outputs = {k: v for k, v in values.items() if k.startswith("y")}
    return Bundle(
        name=f"{kind}_{number}",
        inputs=tuple((k, TensorType(v.shape[1:], DType.of(v.dtype))) for k, v in inputs.items()),
        outputs=tuple((k, Ref(k)) for k in outputs),
        nodes=tuple(nodes),
        tensors={},
        vectors=Vectors(inputs, {k: v[None] for k, v in outputs.items()}, {}),
    )


def node(
    name: str, target: str, args: list[Arg], value: Array, sample: Sample | None = None
) -> AtenNode:
    kwargs = dict(sample.kwargs) if sample else {}
    types = (TensorType(value.shape, DType.of(value.dtype)),)
    return AtenNode(name, target, tuple(args), kwargs, types, Origin("m", "net.py:1", target))


def bundles(kind: str) -> list[Bundle]:
    samples = list(calls())
    chunks = [samples[i : i + AT_ONCE] for i in range(0, len(samples), AT_ONCE)]
    return [bundle(kind, i, chunk) for i, chunk in enumerate(chunks)]


def test_all_rows_are_called() -> None:
    covered = {s.target for s in calls()} | SHAPED | {"aten.rrelu.default"}
    assert covered >= {*pointwise.ATEN, *logic.ATEN}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHAPES)
def test_rows_at_the_edge(tmp_path: Path, kind: str) -> None:
    torch.set_num_threads(1)
    options = Options(test=True, rtol=1e-4, atol=1e-6)
    many.run_together(bundles(kind), tmp_path, "host", many.SANITIZE, options)
