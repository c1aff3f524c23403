# SPDX-License-Identifier: Apache-2.0
"""Bundles from the operators' samples: one ATen call each, computed by PyTorch itself."""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

import numpy as np
import torch

from emx.bundle import Arg, AtenNode, Bundle, Ref, Vectors
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
    args: list[Arg] = []
    for i, a in enumerate(sample.args):
        if isinstance(a, T):
            shape = a.shape if a.const else (VECTORS, *a.shape)
            data = random.uniform(a.low, a.high, shape).astype(np.float32)
            (tensors if a.const else inputs)[f"t{i}"] = data
            args.append(Ref(f"t{i}"))
        else:
            args.append(_arg(a))
    results = [_call(sample, tensors, inputs, v) for v in range(VECTORS)]
    outputs = tuple(TensorType(tuple(t.shape), DType.F32) for t in results[0])
    node = AtenNode("call", sample.target, tuple(args), {}, outputs, Origin("m", "net.py:1", "y"))
    values = np.stack([r[0].numpy() for r in results])
    return Bundle(
        name=name,
        inputs=tuple((k, TensorType(v.shape[1:], DType.F32)) for k, v in inputs.items()),
        outputs=(("y", Ref(node.output_names[0])),),
        nodes=(node,),
        tensors=tensors,
        vectors=Vectors(inputs, {"y": values}, {node.output_names[0]: values[0]}),
    )


def hash_of(name: str) -> int:
    """The same number in every process, unlike hash()."""
    return int.from_bytes(name.encode(), "little") % (1 << 32)


def _arg(a: Any) -> Arg:
    return tuple(_arg(x) for x in a) if isinstance(a, list | tuple) else a


def _call(
    sample: Sample, tensors: dict[str, Array], inputs: dict[str, Array], vector: int
) -> tuple[torch.Tensor, ...]:
    """PyTorch's result for one vector; empty tensors of tuple results are left out."""
    op = reduce(getattr, sample.target.split(".")[1:], torch.ops.aten)
    args = [
        torch.from_numpy(tensors[f"t{i}"] if a.const else np.asarray(inputs[f"t{i}"][vector]))
        if isinstance(a, T)
        else a
        for i, a in enumerate(sample.args)
    ]
    result = op(*args)
    return result if isinstance(result, tuple) else (result,)
