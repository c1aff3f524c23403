# SPDX-License-Identifier: Apache-2.0
"""A functional program -> the bundle's nodes and tensors."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

from emx.bundle import Arg, AtenNode, Bundle, Ref, Vectors
from emx.errors import EmxError, Problem
from emx.exporter.constants import COPIES, fold, is_random
from emx.exporter.decompose import packet
from emx.exporter.origin import common_root, origin_of
from emx.ir import Array, DType, TensorType
from emx.ops import unsupported

_DTYPES = {
    torch.float32: DType.F32, torch.float64: DType.F64, torch.int8: DType.S8,
    torch.uint8: DType.U8, torch.int16: DType.S16, torch.int32: DType.S32,
    torch.int64: DType.S64, torch.bool: DType.BOOL,
}  # fmt: skip
_CHECKS = """_assert_tensor_metadata _assert_async _functional_assert_async _assert_scalar
    sym_constrain_range sym_constrain_range_for_size"""
# The value of the first argument, if the type is its type.
_CASTS = frozenset(["to", "_to_copy", "type_as"])
_STATIC = "the operators and shapes of a model must not depend on the values of its inputs"
_FLOAT32 = "export the model in float32: model.float()"
_PLACEMENT = (torch.layout, torch.device, torch.memory_format)

# What a node of the program is in the bundle; None for what is no value there.
Value = Ref | bool | int | float | tuple["Value", ...] | None


class Unconvertible(Exception):
    """(what, hint) of a node that cannot be converted."""


def tensor_type(value: Any) -> TensorType:
    """The type of a tensor that torch.export traced."""
    if not all(isinstance(d, int) for d in value.shape):
        shape = "x".join(map(str, value.shape))
        raise Unconvertible(f"the shape [{shape}] depends on the values of the input", _STATIC)
    return TensorType(tuple(value.shape), _dtype(value.dtype))


def _dtype(dtype: Any) -> DType:
    if dtype not in _DTYPES:
        raise Unconvertible(
            f"data type {str(dtype).removeprefix('torch.')} is not supported",
            "compute with real numbers" if dtype.is_complex else _FLOAT32,
        )
    return _DTYPES[dtype]


def to_numpy(tensor: Any) -> Array:
    """A copy that later calls of the model cannot change."""
    copy: Array = np.array(tensor.detach().cpu().contiguous().numpy(), copy=True)
    return copy


def _view(tensor: Any) -> Array:
    """The tensor's own memory, if it lies row-major."""
    view: Array = tensor.detach().cpu().contiguous().numpy()
    return view


def convert(
    program: Any,
    name: str,
    inputs: tuple[tuple[str, TensorType], ...],
    output_names: tuple[str, ...],
    producer: dict[str, str],
) -> Bundle:
    """The bundle of a decomposed program, without vectors; every problem in one EmxError. Its
    tensors are the program's memory."""
    calls = [n for n in program.graph.nodes if n.op not in ("placeholder", "output")]
    taken = {n.name for n in calls} | {argument for argument, _ in inputs}
    tensors, values = _lifted(program, taken)
    arguments = zip(user_inputs(program), inputs, strict=True)
    values |= {spec.arg.name: Ref(argument) for spec, (argument, _) in arguments}
    folded = fold(program)
    live = _live(program, folded)
    conversion = _Conversion(common_root(calls), values, tensors, folded)
    for node in calls:
        if node.name in live:
            conversion.add(node)
    if conversion.problems:
        problems = [*conversion.problems, *_unsupported(conversion.nodes)]
        raise EmxError.of(problems, "parts of this model are not supported")
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
        tensors={k: _view(t) for k, t in tensors.items() if k in used},
        vectors=Vectors({}, {}),
        producer=producer,
    )


def _live(program: Any, folded: Mapping[str, Any]) -> set[str]:
    """The nodes that an output needs."""
    nodes = {n.name: n for n in program.graph.nodes}
    live: set[str] = set()
    pending = [nodes[name] for name in user_outputs(program)]
    while pending:
        node = pending.pop()
        if node.name not in live:
            live.add(node.name)
            done = node.name in folded and node.target is not operator.getitem
            pending += [] if done else node.all_input_nodes
    return live


def _unsupported(nodes: list[AtenNode]) -> Iterator[Problem]:
    """What loading the bundle would complain of: all problems of a model come at once."""
    for n in nodes:
        if unknown := unsupported(n.target):
            what, hint = unknown
            yield Problem(what, str(n.origin), n.target, hint)


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
        name = spec.arg.name if _is_taken(spec.target, taken) else spec.target
        where = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        name = first.setdefault(where, name) if tensor.numel() else name
        tensors[name] = tensor
        values[spec.arg.name] = Ref(name)
    return tensors, values


def _is_taken(name: str, taken: set[str]) -> bool:
    """True for "scale" and "scale.1" if a node is called scale."""
    node, _, index = name.rpartition(".")
    return name in taken or (index.isdigit() and node in taken)


@dataclass
class _Conversion:
    """Converts one node after the other. `values` maps names of the program to the bundle's."""

    root: str
    values: dict[str, Value]
    tensors: dict[str, Any]
    folded: Mapping[str, Any]
    nodes: list[AtenNode] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def add(self, node: Any) -> None:
        self.values[node.name] = None
        if self.failed & {n.name for n in node.all_input_nodes}:
            self.failed.add(node.name)  # a consequence of a problem that is known
            return
        try:
            self._add(node)
        except Unconvertible as error:
            self.failed.add(node.name)
            what, hint = error.args
            where = str(origin_of(node, self.root))
            self.problems.append(Problem(what, where, str(node.target), hint))

    def _add(self, node: Any) -> None:
        if node.op != "call_function":
            return  # a branch of control flow: refused with the operator that runs it
        op = packet(node.target)
        if op in _CHECKS.split():
            return
        if node.target is operator.getitem:
            source, index = node.args
            parts = self.values[source.name]
            self.values[node.name] = parts[index] if isinstance(parts, tuple) else None
            return
        if not isinstance(node.target, torch._ops.OpOverload):
            raise Unconvertible("control flow on values is not supported", _STATIC)
        if node.name in self.folded:
            self.values[node.name] = self._constant(node.name, self.folded[node.name])
            return
        types = _output_types(node)
        if op in COPIES.split() or (op in _CASTS and _output_types(node.args[0]) == types):
            self.values[node.name] = self.values[node.args[0].name]
            return
        if is_random(node.target):
            raise Unconvertible(f"{op} is random", "pass random numbers as an input")
        args, kwargs = self._arguments(node)
        converted = AtenNode(
            node.name, str(node.target), args, kwargs, types, origin_of(node, self.root)
        )
        self.nodes.append(converted)
        names = converted.output_names
        single = not isinstance(node.meta["val"], tuple | list)
        self.values[node.name] = Ref(names[0]) if single else tuple(map(Ref, names))

    def _constant(self, name: str, value: Any) -> Value:
        """A value that the export computed; tensors go into the bundle if a node uses them."""
        if isinstance(value, torch.Tensor):
            self.tensors[name] = value
            return Ref(name)
        if isinstance(value, tuple | list):
            return tuple(self._constant(f"{name}.{i}", v) for i, v in enumerate(value))
        return value if isinstance(value, bool | int | float) else None

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
            if isinstance(value, bool | int | float):
                return value
            if not isinstance(value, Ref):
                raise Unconvertible(f"its argument {a.name} is not a tensor", None)
            self.used.add(value.name)
            return value
        if isinstance(a, torch.dtype):
            return _dtype(a)
        if isinstance(a, _PLACEMENT):
            return None
        if isinstance(a, tuple | list):
            return tuple(map(self._argument, a))
        if a is None or isinstance(a, bool | int | float | str):
            return a
        raise Unconvertible(f"argument {a!r} is not supported", None)


def _output_types(node: Any) -> tuple[TensorType, ...]:
    value = node.meta.get("val")
    values = value if isinstance(value, tuple | list) else (value,)
    if not all(isinstance(v, torch.Tensor) for v in values):
        raise Unconvertible("its result depends on the values of the input", _STATIC)
    return tuple(map(tensor_type, values))


def torch_dtype(dtype: DType) -> Any:
    return next(t for t, d in _DTYPES.items() if d is dtype)
