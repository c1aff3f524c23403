# SPDX-License-Identifier: Apache-2.0
"""The typed graph: values, operators, nodes. Everything is immutable; passes build new graphs.

Shapes are `int | Dim` and mutable state is a first-class value from the first day, although this
version refuses both when it loads a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from emx.kernel import Array as Array
from emx.kernel import Kernel, Rows, Wishes
from emx.target import Target

if TYPE_CHECKING:
    from emx.quant import Grid, Quant


class DType(Enum):
    """Element types; the value is the name in text, `numpy` the type in memory."""

    F32 = "f32"
    F64 = "f64"
    S8 = "s8"
    U8 = "u8"
    S16 = "s16"
    S32 = "s32"
    S64 = "s64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(_NUMPY[self.value])

    @property
    def c(self) -> str:
        """The C type of one element."""
        return _C[self.value]

    @property
    def bytes(self) -> int:
        return self.numpy.itemsize

    @staticmethod
    def of(dtype: np.dtype[Any]) -> DType:
        for d in DType:
            if d.numpy == dtype:
                return d
        raise ValueError(f"no emx type for numpy {dtype}")


_NUMPY = {"f32": "<f4", "f64": "<f8", "s8": "i1", "u8": "u1", "s16": "<i2", "s32": "<i4",
          "s64": "<i8", "bool": "?"}  # fmt: skip
_C = {"f32": "float", "f64": "double", "s8": "int8_t", "u8": "uint8_t", "s16": "int16_t",
      "s32": "int32_t", "s64": "int64_t", "bool": "bool"}  # fmt: skip


@dataclass(frozen=True)
class Dim:
    """An extent known only at run time, between `min` and `max`."""

    name: str
    min: int
    max: int

    def __str__(self) -> str:
        return f"{self.name}:{self.min}..{self.max}"


@dataclass(frozen=True)
class TensorType:
    shape: tuple[int | Dim, ...]
    dtype: DType = DType.F32

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape, when every extent is known; loading refuses all other models."""
        if not all(isinstance(d, int) for d in self.shape):
            raise ValueError(f"{self} has an extent known only at run time")
        return tuple(d for d in self.shape if isinstance(d, int))

    @property
    def size(self) -> int:
        return prod(self.dims)

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.bytes

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.value}[{'x'.join(map(str, self.shape))}]"


def raw(data: Array) -> memoryview:
    """The bytes of an array, little-endian and row-major; not copied if they lie so."""
    flat = np.ascontiguousarray(data, data.dtype.newbyteorder("<")).reshape(-1)
    return flat.view(np.uint8).data


@dataclass(frozen=True)
class Origin:
    """Where in the user's model a node came from."""

    module: str = ""  # "head.attn"
    source: str = ""  # "net.py:24", relative to the model file
    text: str = ""  # "return torch.softmax(x, dim=1)"

    def __str__(self) -> str:
        where = f"{self.source}: {self.text}" if self.text else self.source
        module = f"(module {self.module})" if self.module else ""
        return "  ".join(part for part in (where, module) if part) or "(unknown)"


@dataclass(frozen=True)
class Eager:
    """How a value follows from a tensor that PyTorch computed: eager[name].transpose(perm); where
    that is uint8 and the value int8, less 128."""

    name: str
    perm: tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor of the graph. Identity is the name; names are unique in a graph."""

    name: str
    type: TensorType
    eager: Eager | None = None


class Op(ABC):
    """Base of every operator: a frozen dataclass whose fields are the attributes."""

    name: ClassVar[str]

    @abstractmethod
    def infer(self, *types: TensorType) -> TensorType:
        """Output type; raises Unsupported with a hint where emx cannot."""

    @abstractmethod
    def reference(self, *arrays: Array) -> Array:
        """NumPy semantics of the operator, in the precision of its inputs."""

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Kernel:
        """The C kernel that computes `node`, with packed constants and its memory contract.
        Operators without one are gone, or views, when kernels are selected."""
        raise AssertionError(f"{self.name} has no kernel")

    def kernel_for(self, node: Node, constants: Mapping[str, Array], target: Target) -> Kernel:
        """The same for an operator whose weights or tiles depend on the target."""
        return self.kernel(node, constants)

    def kernels_for(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Sequence[Kernel]:
        """The candidates for `node`, all of the same result to the bit; one of them is chosen by
        its cost, scratch and overlap. Those that `wishes.optimize` rules out are left out."""
        return (self.kernel_for(node, constants, target),)

    def rows(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Rows | None:
        """How `node` is computed row by row, bit for bit as by its kernel; None if it cannot be."""
        return None

    def macs(self, node: Node) -> int:
        """Multiply-accumulates, padded taps counted; 0 for operators that have none."""
        return 0


class Unsupported(Exception):
    """Raised by an operator for a case emx does not do; the caller adds where it happened."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


@dataclass(frozen=True)
class Node:
    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    origin: Origin = field(default_factory=Origin)

    @property
    def output(self) -> Value:
        (value,) = self.outputs
        return value

    def __str__(self) -> str:
        outs = ", ".join(f"%{v.name}: {v.type}" for v in self.outputs)
        ins = ", ".join(f"%{v.name}" for v in self.inputs)
        where = f"  # {self.origin.source}" if self.origin.source else ""
        return f"{outs} = {_op_text(self.op)}({ins}){where}"


@dataclass(frozen=True)
class State:
    """A buffer that outlives a call: `value` is read, `next` holds it after the call."""

    value: Value
    next: Value
    initial: str  # a name in Graph.constants


@dataclass(frozen=True)
class Slimmed:
    """A layer that lost output channels (passes/slim.py), and how many of them for which reason.

    zero      the filter is zero, so the output is constant
    clamped   every sum that can occur gives the same output
    constant  all inputs that count are constant
    unread    no layer has a weight for it
    """

    layer: str
    before: int
    after: int
    zero: int
    clamped: int
    constant: int
    unread: int
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True)
class FloatLayer:
    """A layer of a quantised model that computes with floats; `inside`: between quantised values.
    `layer` is the name of its output."""

    layer: str
    origin: Origin
    reason: str
    hint: str
    inside: bool


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can run. `constants` maps value names to data.

    quants  the values of `inputs` and `outputs` that are quantised: what their integers stand for
    grids   the constants that the model has as integers
    slimmed the layers that lost channels
    float_layers   those of a quantised model that compute with floats
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    output_names: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array] = field(repr=False)
    states: tuple[State, ...] = ()
    quants: Mapping[str, Quant] = field(default_factory=dict)
    grids: Mapping[str, Grid] = field(default_factory=dict, repr=False)
    slimmed: tuple[Slimmed, ...] = ()
    float_layers: tuple[FloatLayer, ...] = ()

    def users(self) -> dict[str, list[Node]]:
        """Value name -> nodes that read it."""
        table: dict[str, list[Node]] = {}
        for n in self.nodes:
            for v in dict.fromkeys(n.inputs):
                table.setdefault(v.name, []).append(n)
        return table

    def producers(self) -> dict[str, Node]:
        return {v.name: n for n in self.nodes for v in n.outputs}

    def with_nodes(self, nodes: Sequence[Node]) -> Graph:
        return replace(self, nodes=tuple(nodes))

    def __str__(self) -> str:
        sig = ", ".join(f"%{v.name}: {v.type}" for v in self.inputs)
        used = {v.name for n in self.nodes for v in n.inputs} | {v.name for v in self.outputs}
        consts = [
            f"  %{k}: {TensorType(c.shape, DType.of(c.dtype))} = constant"
            for k, c in self.constants.items()
            if k in used
        ]
        body = [f"  {n}" for n in self.nodes]
        ret = f"  return {', '.join('%' + v.name for v in self.outputs)}"
        return "\n".join([f"graph {self.name}({sig}) {{", *consts, *body, ret, "}"])


def verify(graph: Graph) -> None:
    """Check the invariants every pass must keep; an AssertionError here is a bug in emx."""
    known: dict[str, TensorType] = {v.name: v.type for v in graph.inputs}
    for name, data in graph.constants.items():
        assert name not in known, f"{name} is defined twice"
        known[name] = TensorType(tuple(data.shape), DType.of(data.dtype))
    for n in graph.nodes:
        for v in n.inputs:
            assert v.name in known, f"{n}: %{v.name} is read before it is written"
            assert known[v.name] == v.type, f"{n}: %{v.name} is {known[v.name]}"
        inferred = n.op.infer(*(v.type for v in n.inputs))
        assert inferred == n.output.type, f"{n}: infers {inferred}"
        for v in n.outputs:
            assert v.name not in known, f"%{v.name} is defined twice"
            known[v.name] = v.type
    for v in graph.outputs:
        assert known.get(v.name) == v.type, f"output %{v.name} is not defined"
    assert len(graph.outputs) == len(graph.output_names)


def _op_text(op: Op) -> str:
    attrs = [f"{k}={v}" for k, v in vars(op).items()]
    return f"{op.name}[{', '.join(attrs)}]" if attrs else op.name
