# SPDX-License-Identifier: Apache-2.0
"""What an operator tells the compiler about the C kernel that computes one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Param: TypeAlias = "int | float | tuple[Param, ...]"
Offsets = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Trace:
    """The kernel's element order for one input, as events: read a byte range, then write one.

    Event e reads bytes [read_lo[e], read_hi[e]) of the input, then writes bytes
    [write_lo[e], write_hi[e]) of the output. Ranges may be larger than what is touched, never
    smaller. An event that reads nothing has read_lo == read_hi.
    """

    read_lo: Offsets
    read_hi: Offsets
    write_lo: Offsets
    write_hi: Offsets

    def distance(self) -> int:
        """Least d >= 0 such that the output may start d bytes before the input.

        Each byte must be read before it is overwritten: with y at x - d, byte w of y is byte
        w - d of x, so d >= write_hi[e] - read_lo[f] for every event f that comes after e.
        """
        reads = np.where(self.read_lo < self.read_hi, self.read_lo, np.iinfo(np.int64).max // 2)
        later = np.minimum.accumulate(reads[::-1])[::-1][1:]
        return max(0, int((self.write_hi[:-1] - later).max(initial=0)))

    def in_place(self) -> bool:
        """Whether the output may start exactly where the input does: no event reads what one
        before it has written. In any order, so also where distance() is not 0."""
        if self.distance() == 0:
            return True
        reads, writes = (self.read_lo, self.read_hi), (self.write_lo, self.write_hi)
        unit = np.gcd.reduce(np.concatenate([*reads, *writes]))
        size = int(max(self.read_hi.max(), self.write_hi.max()) // unit)
        needed = _last(self.read_lo // unit, self.read_hi // unit, size)
        kept = _last(self.write_lo[::-1] // unit, self.write_hi[::-1] // unit, size)
        return bool((needed < len(self.read_lo) - kept).all())


def _last(lo: Offsets, hi: Offsets, size: int) -> Offsets:
    """For each number below `size` the last of the ranges [lo, hi) that has it; -1 for none.

    A range is two blocks whose length is a power of two; blocks fall apart into halves.
    """
    level = np.frexp(hi - lo)[1] - 1
    found = np.full(size, -1, np.int64)
    for k in range(int(level.max(initial=0)), -1, -1):
        half = 1 << k
        found[half:] = np.maximum(found[half:], found[:-half])
        chosen = np.flatnonzero(level == k)
        np.maximum.at(found, lo[chosen], chosen)
        np.maximum.at(found, hi[chosen] - half, chosen)
    return found


@dataclass(frozen=True)
class Wishes:
    """What the user wants of the kernels, in the words of emx.options.

    optimize  "speed", "balanced" or "size"
    ram       "default", "small" or "min"
    """

    optimize: str = "balanced"
    ram: str = "default"


@dataclass(frozen=True)
class Scalar:
    """A C function on elements that a kernel takes as its argument, after the parameters.

    role        what the kernel calls it: "f", "combine", "finish"
    parameters  (C type, name) of each, in order; it returns nothing
    body        its statements
    """

    role: str
    parameters: tuple[tuple[str, str], ...]
    body: tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """One call of a C kernel: `function(&params, operands..., y)`.

    function   emx_NAME_f32 takes pointers to float, emx_NAME pointers to void: it moves elements of
               any type, or leaves them to a scalar function
    operands   C parameter names in call order, `y` last: inputs of the node as they are (`inputs`,
               also constants), packed constants (`weights`, standing for the node's other inputs
               in order), `scratch`.
    params     every field of the kernel's parameter struct.
    key        the fields that must be compile-time constants; layers that agree on them may
               share an instance, and the rest is then read at run time.
    overlap    operand -> Trace for inputs that y may overlap; an input not named here must be
               disjoint from y.
    types      operand -> C element type, where it is not the one that `function` says
    array      True if `function` takes the operands before y as one array of pointers
    variant    what tells this kernel from the node's other candidates: "pixels=1"; the manifest has
               it
    cost       instructions that one call will take, roughly; what counts is the difference between
               the candidates of a node
    """

    header: str
    function: str
    inputs: Mapping[str, int]  # operand name -> index in node.inputs
    params: Mapping[str, Param]
    key: tuple[str, ...]
    weights: Mapping[str, Array] = field(default_factory=dict)
    scratch_bytes: int = 0
    overlap: Mapping[str, Trace] = field(default_factory=dict)
    scalars: tuple[Scalar, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    array: bool = False
    variant: str = ""
    cost: int = 0

    @property
    def struct(self) -> str:
        """The parameter struct, one for all functions of a header and element type."""
        return f"emx_{self.header}_f32_t" if self._is_float else f"emx_{self.header}_t"

    @property
    def _is_float(self) -> bool:
        return self.function.endswith("_f32")

    def c_type(self, operand: str) -> str:
        """C element type of an operand."""
        if operand == "scratch":
            return "void"
        if operand in self.types:
            return self.types[operand]
        packed = self.weights.get(operand)
        whole = packed is not None and packed.dtype == np.int32
        return "int32_t" if whole else "float" if self._is_float else "void"

    @property
    def operands(self) -> tuple[str, ...]:
        scratch = ("scratch",) if self.scratch_bytes else ()
        return (*self.inputs, *self.weights, *scratch, "y")


@dataclass(frozen=True)
class Span:
    """Row r of an output needs the rows [r * stride - pad, r * stride - pad + reach) of an input,
    those of them that exist.

    height  rows of that input
    planes  it has this many images of one channel one after the other: channels first
    """

    height: int
    reach: int = 1
    stride: int = 1
    pad: int = 0
    planes: int = 1

    def rows(self, r: int) -> tuple[int, int]:
        """The rows that exist of those that row r needs, as [first, last)."""
        corner = r * self.stride - self.pad
        return min(max(0, corner), self.height), max(0, min(corner + self.reach, self.height))


@dataclass(frozen=True)
class Rows:
    """How to compute an image [1][height][width][channels] with a call for each row.

    kernels  candidates; each computes one row of y from the rows that it needs, which follow upon
             each other as a small image. If it has the parameters in_h and pad_top, they are set
             for each call, and not in its key: the number of these rows, and how many above them
             do not exist.
    spans    operand -> what a row needs of it
    calls    as many as y has rows
    accumulates   not so: y is one row, to which each call adds a row of its input, in y or in
             scratch that is its own, and which is ready after the last. pad_top is then the number
             of the call.
    """

    kernels: Sequence[Kernel]
    spans: Mapping[str, Span]
    calls: int
    accumulates: bool = False

    @property
    def varies(self) -> bool:
        """Whether in_h and pad_top are not the same in all calls."""
        return self.accumulates or any(s.reach > 1 for s in self.spans.values())
