# SPDX-License-Identifier: Apache-2.0
"""A functional program -> the bundle's nodes and tensors."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

from emx.bundle import Arg, AtenNode, Bundle, Ref, Vectors
from emx.errors import EmxError, Problem
from emx.export.decompose import packet
from emx.export.origin import common_root, origin_of
from emx.ir import Array, DType, TensorType

_DTYPES = {
    torch.float32: DType.F32, torch.float64: DType.F64, torch.int8: DType.S8,
    torch.uint8: DType.U8, torch.int16: DType.S16, torch.int32: DType.S32,
    torch.int64: DType.S64, torch.bool: DType.BOOL,
}  # fmt: skip
_CHECKS = """_assert_tensor_metadata _assert_async _functional_assert_async _assert_scalar
    sym_constrain_range sym_constrain_range_for_size"""
# In inference the value of the first argument, whatever the others are.
_COPIES = """alias clone detach detach_ lift lift_fresh lift_fresh_copy contiguous dropout
    feature_dropout alpha_dropout feature_alpha_dropout"""
# The value of the first argument, if the type is its type.
_CASTS = frozenset(["to", "_to_copy", "type_as"])
_PLACEMENT = (torch.layout, torch.device, torch.memory_format)

Value = Ref | tuple[Ref | None, ...] | None


def tensor_type(value: Any) -> TensorType:
    """The type of a tensor; ValueError says what emx cannot hold."""
    if value.dtype not in _DTYPES:
        raise ValueError(f"data type {str(value.dtype).removeprefix('torch.')} is not supported")
    if not all(isinstance(d, int) for d in value.shape):
        raise ValueError(f"shape [{'x'.join(map(str, value.shape))}] is not fixed")
    return TensorType(tuple(value.shape), _DTYPES[value.dtype])


def to_numpy(tensor: Any) -> Array:
    """A copy that later calls of the model cannot change."""
    copy: Array = np.array(tensor.detach().cpu().contiguous().numpy(), copy=True)
    return copy


def convert(
    program: Any,
    name: str,
    inputs: tuple[tuple[str, TensorType], ...],
    output_names: tuple[str, ...],
    producer: dict[str, str],
) -> Bundle:
    """The bundle of a decomposed program, without vectors; every problem in one EmxError."""
    calls = [n for n in program.graph.nodes if n.op not in ("placeholder", "output")]
    taken = {n.name for n in calls} | {argument for argument, _ in inputs}
    tensors, values = _lifted(program, taken)
    arguments = zip(user_inputs(program), inputs, strict=True)
    values |= {spec.arg.name: Ref(argument) for spec, (argument, _) in arguments}
    conversion = _Conversion(common_root(calls), values)
    for node in calls:
        conversion.add(node)
    if conversion.problems:
        raise EmxError.of(conversion.problems, "operators cannot be exported")
    results = [values[name] for name in user_outputs(program)]
    outputs = tuple(
        (n, r) for n, r in zip(output_names, results, strict=True) if isinstance(r, Ref)
    )
    used = conversion.used | {ref.name for _, ref in outputs}
    return Bundle(
        name=name,
        inputs=inputs,
        outputs=outputs,
        nodes=tuple(conversion.nodes),
        tensors={k: to_numpy(t) for k, t in tensors.items() if k in used},
        vectors=Vectors({}, {}),
        producer=producer,
    )


def user_inputs(program: Any) -> list[Any]:
    """The specs of the inputs that are tensors, in call order."""
    specs = program.graph_signature.input_specs
    return [
        s for s in specs if s.kind == InputKind.USER_INPUT and isinstance(s.arg, TensorArgument)
    ]


def user_outputs(program: Any) -> list[str]:
    """The names of the values that the program returns as tensors, in order."""
    specs = program.graph_signature.output_specs
    return [
        s.arg.name
        for s in specs
        if s.kind == OutputKind.USER_OUTPUT and isinstance(s.arg, TensorArgument)
    ]


def _lifted(program: Any, taken: set[str]) -> tuple[dict[str, Any], dict[str, Value]]:
    """Parameters, buffers and constants by readable name, and placeholder -> name.

    Tied tensors get the name of the first. A name that a node has too ("scale" for a parameter and
    for a call) gives way to the name of the placeholder, which no node has.
    """
    tensors: dict[str, Any] = {}
    values: dict[str, Value] = {}
    first: dict[Any, str] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT or not isinstance(spec.arg, TensorArgument):
            continue
        store = program.state_dict if spec.target in program.state_dict else program.constants
        tensor = store[spec.target]
        name = spec.arg.name if spec.target.split(".")[0] in taken else spec.target
        where = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        name = first.setdefault(where, name) if tensor.numel() else name
        tensors[name] = tensor
        values[spec.arg.name] = Ref(name)
    return tensors, values


@dataclass
class _Conversion:
    """Converts one node after the other. `values` maps names of the program to the bundle's."""

    root: str
    values: dict[str, Value]
    nodes: list[AtenNode] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def add(self, node: Any) -> None:
        self.values[node.name] = None
        try:
            self._add(node)
        except ValueError as error:
            where = str(origin_of(node, self.root))
            self.problems.append(Problem(str(error), where, str(node.target), _hint(str(error))))

    def _add(self, node: Any) -> None:
        if node.op != "call_function":
            raise ValueError("control flow inside the model is not supported")
        op = packet(node.target)
        if op in _CHECKS.split():
            return
        if node.target is operator.getitem:
            source, index = node.args
            parts = self.values[source.name]
            self.values[node.name] = parts[index] if isinstance(parts, tuple) else None
            return
        types = _output_types(node)
        if op in _COPIES.split() or (op in _CASTS and _output_types(node.args[0]) == types):
            self.values[node.name] = self.values[node.args[0].name]
            return
        args, kwargs = self._arguments(node)
        converted = AtenNode(
            node.name, str(node.target), args, kwargs, types, origin_of(node, self.root)
        )
        self.nodes.append(converted)
        names = converted.output_names
        single = not isinstance(node.meta["val"], tuple | list)
        self.values[node.name] = Ref(names[0]) if single else tuple(map(Ref, names))

    def _arguments(self, node: Any) -> tuple[tuple[Arg, ...], dict[str, Arg]]:
        """Positional arguments as in the operator's schema, with its defaults; kwargs as given.

        Where a tensor lies (layout, device, pinned memory) means nothing to emx and is dropped.
        """
        schema = node.target._schema.arguments
        given = dict(zip((a.name for a in schema), node.args, strict=False)) | node.kwargs
        args = [given.get(a.name, a.default_value) for a in schema if not a.kwarg_only]
        kwargs = {
            a.name: given[a.name]
            for a in schema
            if a.kwarg_only and given.get(a.name) is not None and a.name != "pin_memory"
        }
        kwargs = {k: v for k, v in kwargs.items() if not isinstance(v, _PLACEMENT)}
        return tuple(map(self._argument, args)), {k: self._argument(v) for k, v in kwargs.items()}

    def _argument(self, a: Any) -> Arg:
        if isinstance(a, torch.fx.Node):
            value = self.values[a.name]
            if not isinstance(value, Ref):
                raise ValueError(f"its argument {a.name} is not a tensor that emx has")
            self.used.add(value.name)
            return value
        if isinstance(a, torch.dtype):
            if a not in _DTYPES:
                raise ValueError(f"data type {str(a).removeprefix('torch.')} is not supported")
            return _DTYPES[a]
        if isinstance(a, _PLACEMENT):
            return None
        if isinstance(a, tuple | list):
            return tuple(map(self._argument, a))
        if a is None or isinstance(a, bool | int | float | str):
            return a
        raise ValueError(f"argument {a!r} is not supported")


def _output_types(node: Any) -> tuple[TensorType, ...]:
    value = node.meta.get("val")
    values = value if isinstance(value, tuple | list) else (value,)
    if not all(isinstance(v, torch.Tensor) for v in values):
        raise ValueError("its result is not a tensor: it depends on the values of the input")
    return tuple(map(tensor_type, values))


def _hint(what: str) -> str | None:
    if "data type" in what:
        return "export the model in float32: model.float()"
    if "not fixed" in what:
        return "export the model with fixed shapes, or give them: --inputs x=f32[1x3x32x32]"
    return None


def torch_dtype(dtype: DType) -> Any:
    return next(t for t, d in _DTYPES.items() if d is dtype)
