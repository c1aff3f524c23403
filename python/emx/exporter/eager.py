# SPDX-License-Identifier: Apache-2.0
"""What PyTorch computes for the test vectors: outputs, and the value of every node."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

from emx.bundle import Bundle
from emx.errors import EmxError
from emx.exporter.constants import placeholders
from emx.exporter.convert import to_numpy, user_inputs
from emx.ir import Array, DType, TensorType


def eager_outputs(
    module: Any, program: Any, bundle: Bundle, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """The outputs of `module` for every test vector; first axis: test vector.

    A call may change the module (buffers, caches, a first-call flag), so that each vector starts
    from a copy.
    """
    count = len(next(iter(inputs.values())))
    types = _types(bundle)
    rows: dict[str, list[Array]] = {name: [] for name, _ in bundle.outputs}
    for k in range(count):
        results = call(module, program, [inputs[name][k] for name, _ in bundle.inputs])
        for (name, ref), value in zip(bundle.outputs, results, strict=True):
            rows[name].append(_checked(f"the output {name}", value, types[ref.name]))
    return {name: np.stack(row) for name, row in rows.items()}


def _types(bundle: Bundle) -> dict[str, TensorType]:
    """Value name -> type."""
    known = {k: TensorType(a.shape, DType.of(a.dtype)) for k, a in bundle.tensors.items()}
    outputs = [zip(n.output_names, n.outputs, strict=True) for n in bundle.nodes]
    return known | dict(bundle.inputs) | {name: t for pairs in outputs for name, t in pairs}


def _checked(what: str, value: Any, expected: TensorType) -> Array:
    array = to_numpy(value)
    found = TensorType(array.shape, DType.of(array.dtype))
    if found != expected:
        raise EmxError(
            f"{what} is {expected} in the exported program, but PyTorch computes {found}",
            hint="what a model computes must not depend on the values of its inputs",
        )
    return array


def call(module: Any, program: Any, arrays: list[Array]) -> list[Any]:
    """The tensors that a copy of `module` returns, in the order of the program's outputs."""
    args, kwargs = call_arguments(program, arrays)
    with torch.no_grad():
        results = pytree.tree_leaves(_fresh(module)(*args, **kwargs))
    specs = [s for s in program.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    return [r for r, s in zip(results, specs, strict=True) if isinstance(s.arg, TensorArgument)]


def call_arguments(program: Any, arrays: Iterable[Array]) -> tuple[Any, Any]:
    """Positional and keyword arguments of a call with these inputs."""
    tensors = iter(arrays)
    flat = [
        _tensor(next(tensors)) if isinstance(spec.arg, TensorArgument) else spec.arg.value
        for spec in program.graph_signature.input_specs
        if spec.kind == InputKind.USER_INPUT
    ]
    return pytree.tree_unflatten(flat, program.call_spec.in_spec)  # type: ignore[no-any-return]


def _fresh(module: Any) -> Any:
    """A module that no call has changed yet. An exported program that would is refused before."""
    return module if isinstance(module, torch.fx.GraphModule) else copy.deepcopy(module)


def layer_values(program: Any, bundle: Bundle, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The value of every output of every node of `bundle` that depends on an input, for test
    vector 0.

    `program` is the decomposed program that `bundle` was converted from.
    """
    names = {n.name: n.output_names for n in bundle.nodes}
    types = _types(bundle)
    values = placeholders(program)
    arguments = zip(user_inputs(program), bundle.inputs, strict=True)
    given = {spec.arg.name: _tensor(inputs[name][0]) for spec, (name, _) in arguments}
    values, varying = values | given, set(given)
    layers: dict[str, Array] = {}
    for node in program.graph.nodes:
        known = all(n.name in values for n in node.all_input_nodes)
        if node.op != "call_function" or not known:
            continue  # a check with effects: no output needs it
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: values[n.name])
        with torch.no_grad():
            values[node.name] = result = node.target(*args, **kwargs)
        if varying.isdisjoint(n.name for n in node.all_input_nodes):
            continue  # a weight that is dequantised
        varying.add(node.name)
        if node.name in names:
            results = result if isinstance(result, tuple | list) else [result]
            for name, value in zip(names[node.name], results, strict=True):
                layers[name] = _checked(f"the value {name}", value, types[name])
    return layers


def _tensor(array: Array) -> Any:
    """A tensor in memory that PyTorch aligned: some kernels compute differently without."""
    return torch.from_numpy(np.array(array)).clone()
