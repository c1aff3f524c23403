# SPDX-License-Identifier: Apache-2.0
"""Bundles from the operators' samples: one ATen call each, computed by PyTorch itself.

Quantised arguments and outputs make the calls around it that PyTorch's converted models have."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, reduce
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed

from emx.bundle import Arg, AtenNode, Bundle, Ref, Vectors
from emx.exporter.convert import torch_dtype
from emx.ir import Array, DType, Origin, TensorType
from emx.ops import modules
from emx.quant import Quant
from emx.sample import Sample, T

VECTORS = 2
DECOMPOSED = "quantized_decomposed"


@cache
def sampled_bundles() -> tuple[Bundle, ...]:
    """One bundle for each sample of each operator, named MODULE_NUMBER."""
    return tuple(
        bundle_of(f"{module}_{i}", sample)
        for module, m in modules().items()
        for i, sample in enumerate(m.SAMPLES)
    )


def bundle_of(name: str, sample: Sample) -> Bundle:
    calls = Calls(np.random.default_rng(abs(hash_of(name))))
    args = tuple(calls.argument(a, f"t{i}") for i, a in enumerate(sample.args))
    kwargs = {k: calls.argument(a, k) for k, a in sample.kwargs}
    results = calls.add("call", sample.target, args, kwargs)[: sample.outputs]
    if sample.y:
        results = (calls.quantised("quantize", results[0], sample.y),)
    return calls.bundle(name, results)


def numbers(q: Quant) -> tuple[Arg, ...]:
    """The arguments of a call that quantises or dequantises."""
    return q.scale, q.zero, q.lo, q.hi, q.dtype


@dataclass
class Calls:
    """A model under construction: each call is computed by PyTorch when it is added."""

    random: np.random.Generator
    inputs: dict[str, Array] = field(default_factory=dict)  # first axis: vector
    tensors: dict[str, Array] = field(default_factory=dict)
    nodes: list[AtenNode] = field(default_factory=list)
    values: dict[str, list[Array]] = field(default_factory=dict)  # of each vector

    def argument(self, a: object, name: str) -> Any:
        """The argument for a call, with tensors as references; lists may hold tensors."""
        if isinstance(a, list | tuple):
            return tuple(self.argument(x, f"{name}_{i}") for i, x in enumerate(a))
        if not isinstance(a, T):
            return a
        if a.quant:
            return self._parameter(a, name) if a.const else self.integers(name, a.shape, a.quant)
        if a.const:
            return self.tensor(name, data_of(self.random, a, a.shape))
        return self.input(name, data_of(self.random, a, (VECTORS, *a.shape)))

    def tensor(self, name: str, data: Array) -> Ref:
        self.tensors[name] = data
        return Ref(name)

    def input(self, name: str, data: Array) -> Ref:
        self.inputs[name] = data
        return Ref(name)

    def integers(self, name: str, shape: tuple[int, ...], q: Quant) -> Ref:
        """An input of all integers that q has, dequantised."""
        data = self.random.integers(q.lo, q.hi, (VECTORS, *shape), endpoint=True)
        return self.dequantised(self.input(name, data.astype(q.dtype.numpy)), q)

    def quantised(self, name: str, x: Ref, q: Quant) -> Ref:
        return self.add(name, f"{DECOMPOSED}.quantize_per_tensor.default", (x, *numbers(q)))[0]

    def dequantised(self, x: Ref, q: Quant) -> Ref:
        call = f"{DECOMPOSED}.dequantize_per_tensor.default"
        return self.add(f"{x.name}_dq", call, (x, *numbers(q)))[0]

    def _parameter(self, a: T, name: str) -> Ref:
        assert a.quant
        data = data_of(self.random, a, a.shape)
        if a.axis is None:
            return self.dequantised(self.tensor(name, a.quant.quantise(data)), a.quant)
        return self.by_channels(name, data, a.axis, a.quant)

    def by_channels(self, name: str, data: Array, axis: int, q: Quant) -> Ref:
        """The parameter quantised to -q.hi..q.hi, each index of `axis` with its own scale."""
        others = tuple(i for i in range(data.ndim) if i != axis % data.ndim)
        scales = (np.abs(data).max(others, keepdims=True) / q.hi).astype(np.float32)
        scales = np.maximum(scales, np.finfo(np.float32).eps)
        w = self.tensor(name, np.rint(data / scales).astype(q.dtype.numpy))
        s = self.tensor(f"{name}_scales", scales.reshape(-1))
        z = self.tensor(f"{name}_zeros", np.zeros(scales.size, np.int64))
        call = f"{DECOMPOSED}.dequantize_per_channel.default"
        return self.add(f"{name}_dq", call, (w, s, z, axis, q.lo, q.hi, q.dtype))[0]

    def add(
        self, name: str, target: str, args: tuple[Arg, ...], kwargs: dict[str, Arg] | None = None
    ) -> tuple[Ref, ...]:
        """The call's outputs."""
        results = [
            call_torch(target, list(args), kwargs or {}, self._known(v)) for v in range(VECTORS)
        ]
        types = tuple(TensorType(tuple(t.shape), DType.of(t.numpy().dtype)) for t in results[0])
        node = AtenNode(name, target, args, kwargs or {}, types, Origin("m", "net.py:1", "y"))
        self.nodes.append(node)
        for i, output in enumerate(node.output_names):
            self.values[output] = [r[i].numpy() for r in results]
        return tuple(map(Ref, node.output_names))

    def _known(self, vector: int) -> dict[str, Array]:
        inputs = {k: x[vector] for k, x in self.inputs.items()}
        return self.tensors | inputs | {k: v[vector] for k, v in self.values.items()}

    def bundle(self, name: str, results: tuple[Ref, ...]) -> Bundle:
        names = [f"y{i or ''}" for i in range(len(results))]
        outputs = {n: np.stack(self.values[r.name]) for n, r in zip(names, results, strict=True)}
        inputs = {k: TensorType(v.shape[1:], DType.of(v.dtype)) for k, v in self.inputs.items()}
        layers = {k: v[0] for k, v in self.values.items()}
        return Bundle(
            name=name,
            inputs=tuple(inputs.items()),
            outputs=tuple(zip(names, results, strict=True)),
            nodes=tuple(self.nodes),
            tensors=self.tensors,
            vectors=Vectors(self.inputs, outputs, layers),
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

    op = reduce(getattr, target.split("."), torch.ops)
    result = op(*map(tensor, args), **{k: tensor(a) for k, a in kwargs.items()})
    return tuple(result) if isinstance(result, tuple | list) else (result,)
