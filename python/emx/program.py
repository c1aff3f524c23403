# SPDX-License-Identifier: Apache-2.0
"""What select, plan and emit pass on: Program (kernels on buffers) and Plan (order, addresses)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emx.ir import Array, FloatLayer, Origin, Slimmed, TensorType
from emx.kernel import Kernel, Span, Trace
from emx.quant import Quant
from emx.target import Target

FEED = 255  # in the order of a stream
ALIGN = 16  # bytes; every buffer of the arena and every tensor of the weight blob


def padded(size: int) -> int:
    """`size` bytes as they lie in memory: whole lots of ALIGN, also for a tensor of no elements."""
    return -(-max(size, 1) // ALIGN) * ALIGN


@dataclass(frozen=True)
class Buffer:
    """Memory that holds one value. `home` says who owns it.

    value  the name of that value in the graph
    quant  what its integers stand for, if the caller has to know
    """

    name: str
    type: TensorType
    home: str  # "arena"; "input" or "output" (the caller's memory); "rows": comes in row by row
    value: str = ""
    quant: Quant | None = None

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
    stream   the layers that run row by row in this step, in place of a call of `kernel`, which then
             only says what memory they need; `weights` are those of all, and there is no instance
    candidates   the kernels that `kernel` was chosen from
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
    stream: Stream | None = None
    candidates: tuple[Kernel, ...] = ()

    def overlap(self, buffer: str) -> Trace | None:
        """The trace that lets y overlap `buffer`, if every read of it is covered by one."""
        operands = [op for op, b in self.reads.items() if b == buffer]
        if len(operands) != 1 or operands[0] in self.starts:
            return None
        return self.kernel.overlap.get(operands[0])


@dataclass(frozen=True)
class Line:
    """The rows of one image in a stream: all of them in a buffer, or the latest in the stream's
    scratch, where they follow upon each other. When there is no room for the next row, the last
    `keep` rows move to the front.

    row_bytes  from row to row; 0 if all calls write the same row
    height     rows of the image, or calls that write it
    rows       rows there is room for
    offset     in the stream's scratch; None for a buffer outside of it
    """

    name: str
    row_bytes: int
    height: int
    rows: int
    keep: int = 0
    offset: int | None = None


@dataclass(frozen=True)
class Stage:
    """A layer of a stream. `step` reads and writes lines, its kernel computes one row, from the
    rows that `spans` says for each operand.

    varies       the kernel's in_h and pad_top are set for each call (emx.kernel.Rows)
    accumulates  its output is one row, to which each call adds
    scratch      its offset in the stream's
    """

    step: Step
    spans: Mapping[str, Span]
    varies: bool = False
    accumulates: bool = False
    scratch: int = 0


@dataclass(frozen=True)
class Stream:
    """Layers that run row by row, as one step of the program: its scratch has everything between
    its inputs and its output.

    lines   the inputs, and what the stages write
    order   the stage of each call; FEED where the next row of the input arrives
    state   where in the scratch stands which rows there are (runtime/include/emx/stream.h)
    fed     the input comes in row by row, all channels of a pixel together: the planes it has in
            the model's own order; 0 if it does not
    """

    lines: Mapping[str, Line]
    stages: tuple[Stage, ...]
    order: tuple[int, ...]
    state: int
    fed: int = 0


@dataclass(frozen=True)
class Instance:
    """One C function: `kernel.function` with its parameters as constants, except the `varying`
    fields, in which the layers that share the instance differ; those it reads at run time."""

    name: str
    kernel: Kernel
    varying: tuple[str, ...]

    @property
    def at_struct(self) -> str:
        """The C struct of the varying fields."""
        return f"{self.name}_at_t"


@dataclass(frozen=True)
class Program:
    """Kernel calls in an order that can run; the planner may choose another.

    inputs, outputs   (C name, buffer name) in the order of the signature
    float_layers, slimmed   as of the graph
    """

    name: str
    target: Target
    buffers: Mapping[str, Buffer]
    steps: tuple[Step, ...]
    instances: tuple[Instance, ...]
    weights: Mapping[str, Array]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    float_layers: tuple[FloatLayer, ...] = ()
    slimmed: tuple[Slimmed, ...] = ()

    @property
    def fed(self) -> str | None:
        """The input that comes in row by row."""
        return next((name for name, b in self.buffers.items() if b.home == "rows"), None)

    def kernel_name(self, step: Step) -> str:
        """Of the function that the step calls; of a stream, what it does."""
        return step.kernel.variant if step.stream else self.instances[step.instance].name


@dataclass(frozen=True)
class Plan:
    """`program` with its steps in the chosen order and an arena offset for every arena buffer.

    scratch      step name -> offset of its scratch, for steps that need some
    lower_bound  no plan of this program, in any order the planner knows, can need less
    fastest      the plan with the fastest kernels and without streams, where that is another
    """

    program: Program
    offsets: Mapping[str, int]
    scratch: Mapping[str, int]
    arena_bytes: int
    lower_bound: int
    fastest: Plan | None = None

    @property
    def cost(self) -> int:
        """Predicted instructions."""
        return sum(step.kernel.cost for step in self.program.steps)
