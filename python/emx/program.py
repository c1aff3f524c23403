# SPDX-License-Identifier: Apache-2.0
"""What select, plan and emit pass on: Program (kernels on buffers) and Plan (order, addresses)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emx.ir import Array, Eager, Origin, TensorType
from emx.kernel import Kernel, Trace
from emx.target import Target

ALIGN = 16  # bytes; every buffer of the arena and every tensor of the weight blob


def padded(size: int) -> int:
    """`size` bytes as they lie in memory: whole lots of ALIGN, also for a tensor of no elements."""
    return -(-max(size, 1) // ALIGN) * ALIGN


@dataclass(frozen=True)
class Buffer:
    """Memory that holds one value. `home` says who owns it."""

    name: str
    type: TensorType
    home: str  # "arena", "input" or "output" (the caller's memory)
    eager: Eager | None = None

    @property
    def bytes(self) -> int:
        """Bytes the planner must reserve."""
        return padded(self.type.bytes)


@dataclass(frozen=True)
class Step:
    """One kernel call.

    reads    operand name -> buffer name; writes: the buffer y.
    starts   operand name -> the element of its buffer that it starts at, where not the first
    weights  operand name -> name in Program.weights.
    instance index into Program.instances.
    """

    name: str
    kernel: Kernel
    reads: Mapping[str, str]
    starts: Mapping[str, int]
    weights: Mapping[str, str]
    writes: str
    origin: Origin
    macs: int
    instance: int

    def overlap(self, buffer: str) -> Trace | None:
        """The trace that lets y overlap `buffer`, if every read of it is covered by one."""
        operands = [op for op, b in self.reads.items() if b == buffer]
        if len(operands) != 1 or operands[0] in self.starts:
            return None
        return self.kernel.overlap.get(operands[0])


@dataclass(frozen=True)
class Instance:
    """One C function: `kernel.function` with its parameters as constants, except the `varying`
    fields, in which the layers that share the instance differ; those it reads at run time."""

    name: str
    kernel: Kernel
    varying: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """Kernel calls in an order that can run; the planner may choose another.

    inputs, outputs   (C name, buffer name) in the order of the signature
    """

    name: str
    target: Target
    buffers: Mapping[str, Buffer]
    steps: tuple[Step, ...]
    instances: tuple[Instance, ...]
    weights: Mapping[str, Array]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plan:
    """`program` with its steps in the chosen order and an arena offset for every arena buffer.

    scratch      step name -> offset of its scratch, for steps that need some
    lower_bound  no plan of this program, in any order the planner knows, can need less
    """

    program: Program
    offsets: Mapping[str, int]
    scratch: Mapping[str, int]
    arena_bytes: int
    lower_bound: int
