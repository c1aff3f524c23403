# SPDX-License-Identifier: Apache-2.0
"""What a lowering of an ATen call writes with: nodes and constants, named and placed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from emx.ir import Array, DType, Node, Op, Origin, TensorType, Unsupported, Value
from emx.quant import Grid

# Gives the call's output, or the first few of several outputs.
Lowering = Callable[..., Value | tuple[Value, ...]]


class Builder:
    """Collects the nodes of a graph, one ATen call after the other."""

    def __init__(self, lowerings: Mapping[str, Lowering], constants: Mapping[str, Array]) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = dict(constants)
        self.grids: dict[str, Grid] = {}
        self._lowerings = lowerings
        self._call = ""
        self._origin = Origin()
        self._fresh = 0

    def begin(self, call: str, origin: Origin) -> None:
        """The nodes to come belong to the ATen call named `call`."""
        self._call, self._origin, self._fresh = call, origin, 0

    def aten(self, target: str, *args: object, **kwargs: object) -> Value:
        """Lower a call, also one that is part of another: b.aten("aten.permute.default", x, p)."""
        result = self.lower(target, *args, **kwargs)
        assert isinstance(result, Value), f"{target} has several outputs"
        return result

    def lower(self, target: str, *args: object, **kwargs: object) -> Value | tuple[Value, ...]:
        """As `aten`, for calls with any number of outputs."""
        return self._lowerings[target](self, *args, **kwargs)

    def node(self, op: Op, *inputs: Value) -> Value:
        """Append `op(inputs)`; raises Unsupported if the operator cannot do that."""
        self._fresh += 1
        out = Value(f"{self._call}.part{self._fresh}", op.infer(*(v.type for v in inputs)))
        self.nodes.append(Node(op, inputs, (out,), self._origin))
        return out

    def constant(self, data: Array, label: str, beside: Value | None = None) -> Value:
        """A constant of this call, such as a bias of zeros; named after the module of the
        parameter `beside`, if given and free, else after the call."""
        name = f"{self._call}.{label}"
        if beside:
            sibling = f"{beside.name.rpartition('.')[0]}.{label}"
            name = name if sibling in self.constants else sibling
        self.constants[name] = np.asarray(data, order="C")
        return Value(name, TensorType(tuple(data.shape), DType.of(data.dtype)))

    def permuted(self, v: Value, data: Array) -> Value:
        """A constant with the elements of the constant `v` in another order, named after it."""
        name = f"{v.name.removesuffix('.permuted')}.permuted"
        if not np.array_equal(self.constants.get(name, data), data):
            name = f"{self._call}.permuted"
        self.constants[name] = np.ascontiguousarray(data)
        return Value(name, TensorType(tuple(data.shape), v.type.dtype))

    def dequantised(self, v: Value, grid: Grid) -> Value:
        """The constant that the integers of the constant `v` stand for, named after it."""
        name = f"{v.name}.dequantised"
        if name in self.constants:
            name = f"{self._call}.dequantised"
        self.constants[name], self.grids[name] = grid.reals(), grid
        return Value(name, TensorType(v.type.shape))

    def data(self, v: Value, what: str) -> Array:
        """The data of a constant; `what` names the argument in the error for a computed one."""
        if v.name not in self.constants:
            raise Unsupported(f"{what} is computed at run time", f"make {what} a parameter")
        return self.constants[v.name]


def promoted(*args: Value | float | None) -> DType:
    """PyTorch's common type of tensors and numbers. The highest kind of bool, integer and float
    decides; tensors of rank 0, and numbers even more, decide only by a kind that others have not.
    """
    groups: tuple[list[DType], ...] = ([], [], [])
    for a in args:
        if isinstance(a, Value):
            groups[0 if a.type.rank else 1].append(a.type.dtype)
        elif a is not None:
            groups[2].append(_type_of_number(a))
    result = DType.BOOL
    for i, group in enumerate(groups):
        widest = max(group, key=_PROMOTION.index, default=DType.BOOL)
        if _kind(widest) > _kind(result) or (not any(groups[:i]) and group):
            result = widest
    return result


_PROMOTION = (DType.BOOL, DType.U8, DType.S8, DType.S16, DType.S32, DType.S64, DType.F32, DType.F64)


def _kind(t: DType) -> int:
    return 0 if t is DType.BOOL else 2 if t in (DType.F32, DType.F64) else 1


def _type_of_number(v: float) -> DType:
    return DType.BOOL if isinstance(v, bool) else DType.S64 if isinstance(v, int) else DType.F32


def require_f32(*values: Value) -> None:
    for v in values:
        if v.type.dtype != DType.F32:
            raise Unsupported(
                f"{v.type.dtype.value} tensors are not supported here",
                "convert the tensor to float32 before this line: x.float()",
            )


def pair(v: int | Sequence[int]) -> tuple[int, int]:
    """PyTorch's int-or-two-ints argument."""
    values = (v,) if isinstance(v, int) else tuple(v)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def ints(v: int | Sequence[int], count: int) -> tuple[int, ...]:
    """PyTorch's argument of one integer, or one for each of `count` axes."""
    values = (v,) if isinstance(v, int) else tuple(v)
    return values * count if len(values) == 1 else values


def axis_of(axis: int, rank: int) -> int:
    """A possibly negative axis as an index; a rank of 0 counts as 1, as in PyTorch."""
    return axis % max(rank, 1)
