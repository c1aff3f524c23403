# SPDX-License-Identifier: Apache-2.0
"""Bundles from the operators' samples: one ATen call each, computed by PyTorch itself."""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

import numpy as np
import torch

from emx.bundle import Arg, AtenNode, Bundle, Ref, Vectors
from emx.exporter.convert import torch_dtype
from emx.ir import Array, DType, Origin, TensorType
from emx.ops import modules
from emx.sample import Sample, T

VECTORS = 2


@cache
def sampled_bundles() -> tuple[Bundle, ...]:
    """One bundle for each sample of each operator, named MODULE_NUMBER."""
    return tuple(
        bundle_of(f"{module}_{i}", sample)
        for module, m in modules().items()
        for i, sample in enumerate(m.SAMPLES)
    )


def bundle_of(name: str, sample: Sample) -> Bundle:
    random = np.random.default_rng(abs(hash_of(name)))
    tensors: dict[str, Array] = {}
    inputs: dict[str, Array] = {}

    def argument(a: object, name: str) -> Any:
        """The argument for the call, with tensors as references; lists may hold tensors."""
        if isinstance(a, list | tuple):
            return tuple(argument(x, f"{name}_{i}") for i, x in enumerate(a))
        if not isinstance(a, T):
            return a
        shape = a.shape if a.const else (VECTORS, *a.shape)
        (tensors if a.const else inputs)[name] = data_of(random, a, shape)
        return Ref(name)

    args: list[Arg] = [argument(a, f"t{i}") for i, a in enumerate(sample.args)]
    kwargs: dict[str, Arg] = {k: argument(a, k) for k, a in sample.kwargs}
    results = [
        call_torch(sample.target, args, kwargs, tensors | {k: x[v] for k, x in inputs.items()})
        for v in range(VECTORS)
    ]
    outputs = tuple(TensorType(tuple(t.shape), DType.of(t.numpy().dtype)) for t in results[0])
    origin = Origin("m", "net.py:1", "y")
    node = AtenNode("call", sample.target, tuple(args), kwargs, outputs, origin)
    values = [np.stack([r[i].numpy() for r in results]) for i in range(sample.outputs)]
    names = [f"y{i or ''}" for i in range(sample.outputs)]
    return Bundle(
        name=name,
        inputs=tuple((k, TensorType(v.shape[1:], DType.of(v.dtype))) for k, v in inputs.items()),
        outputs=tuple((n, Ref(o)) for n, o in zip(names, node.output_names, strict=False)),
        nodes=(node,),
        tensors=tensors,
        vectors=Vectors(
            inputs,
            dict(zip(names, values, strict=True)),
            {o: v[0] for o, v in zip(node.output_names, values, strict=False)},
        ),
    )


SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0)


def data_of(random: np.random.Generator, a: T, shape: tuple[int, ...]) -> Array:
    if a.dtype is not DType.F32:
        return random.integers(int(a.low), int(a.high), shape).astype(a.dtype.numpy)
    data = np.asarray(random.uniform(a.low, a.high, shape).astype(np.float32))
    if a.special:
        where = random.permutation(data.size)[: data.size // 2]
        data.flat[where] = np.resize(SPECIAL, len(where))
    return data


def hash_of(name: str) -> int:
    """The same number in every process, unlike hash()."""
    return int.from_bytes(name.encode(), "little") % (1 << 32)


def call_torch(
    target: str, args: list[Arg], kwargs: dict[str, Any], tensors: dict[str, Array]
) -> tuple[torch.Tensor, ...]:
    """PyTorch's results of a call on these tensors."""

    def tensor(a: Any) -> Any:
        if isinstance(a, tuple):
            return [tensor(x) for x in a]
        if isinstance(a, Ref):
            return torch.from_numpy(np.asarray(tensors[a.name]))
        return torch_dtype(a) if isinstance(a, DType) else a

    op = reduce(getattr, target.split(".")[1:], torch.ops.aten)
    result = op(*map(tensor, args), **{k: tensor(a) for k, a in kwargs.items()})
    return tuple(result) if isinstance(result, tuple | list) else (result,)
