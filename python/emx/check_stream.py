# SPDX-License-Identifier: Apache-2.0
"""Plays a stream through, call by call, as runtime/include/emx/stream.h does it, and believes
nothing that emx.stream concluded. Memory is tokens, one for each byte of each row of each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emx.kernel import Kernel, Span
from emx.program import FEED, Line, Stage, Step
from emx.replay import replay, require

Bytes = np.ndarray[Any, np.dtype[np.int32]]


@dataclass
class _Rows:
    """A line at run time. memory: where it is, from its first row on; tokens: of the whole image,
    or of the one row that all calls write."""

    line: Line
    memory: Bytes
    tokens: Bytes
    first: int = 0
    made: int = 0

    def there(self, row: int) -> Bytes:
        """The memory of a row."""
        size = self.line.row_bytes or len(self.tokens)
        at = (row - self.first) * self.line.row_bytes
        require(0 <= at <= len(self.memory) - size, f"row {row} of {self.line.name} is nowhere")
        return self.memory[at : at + size]

    def wanted(self, row: int) -> Bytes:
        size = self.line.row_bytes or len(self.tokens)
        return self.tokens[row * self.line.row_bytes :][:size]

    def next(self) -> Bytes:
        """Where the next row goes."""
        if self.made - self.first == self.line.rows:
            kept = [self.there(r).copy() for r in range(self.made - self.line.keep, self.made)]
            self.first = self.made - self.line.keep
            for i, row in enumerate(kept):
                self.there(self.first + i)[:] = row
        self.made += 1
        require(self.made <= self.line.height, f"{self.line.name} has too many rows")
        return self.there(self.made - 1)


class _Replay:
    """The arena during the step; `scratch` is where the stream's begins."""

    def __init__(
        self, step: Step, arena: Bytes, scratch: int, outside: Mapping[str, tuple[Bytes, Bytes]]
    ) -> None:
        assert step.stream
        self.step, self.stream, self.arena, self.scratch = step, step.stream, arena, scratch
        token = 1 + max((int(t.max(initial=0)) for _, t in outside.values()), default=0)
        self.lines: dict[str, _Rows] = {}
        for name, line in self.stream.lines.items():
            if line.offset is None:
                memory, tokens = outside[name]
                made = line.height if name in step.reads.values() else 0
                self.lines[name] = _Rows(line, memory, tokens, made=made)
                continue
            tokens = np.arange(token, token + line.height * line.row_bytes, dtype=np.int32)
            token += len(tokens)
            memory = self.region(line.offset, line.rows * line.row_bytes, f"the line {name}")
            self.lines[name] = _Rows(line, memory, tokens)
        self.token = token
        self.state = self.region(self.stream.state, 4 + 4 * len(self.lines), "the state")
        self.state[:] = self.fresh()

    def region(self, offset: int, size: int, what: str) -> Bytes:
        inside = offset % 4 == 0 and 0 <= offset <= self.step.kernel.scratch_bytes - size
        require(inside, f"{what} lies outside of the scratch of {self.step.name}")
        return self.arena[self.scratch + offset : self.scratch + offset + size]

    def fresh(self) -> int:
        self.token += 1
        return self.token

    def run(self) -> None:
        state = int(self.state[0])
        sums = 0  # the token of what accumulates
        for call in self.stream.order:
            require(bool((self.state == state).all()), f"{self.step.name} loses its state")
            if call == FEED:
                line = next(iter(self.lines.values()))
                arrives = line.wanted(line.made)
                line.next()[:] = arrives
            else:
                sums = self.call(self.stream.stages[call], sums)
        for i, (name, rows) in enumerate(self.lines.items()):
            whole = rows.line.offset is None or (self.stream.fed and i == 0)
            require(not whole or rows.made == rows.line.height, f"{name} is not complete")

    def call(self, stage: Stage, sums: int) -> int:
        """One row: what it needs is there, and what it writes is written."""
        name, kernel = stage.step.writes, stage.step.kernel
        row = self.lines[name].made
        for operand, span in stage.spans.items():
            self.expect(self.lines[stage.step.reads[operand]], span, row, f"{name} {row}")
        y = self.lines[name].next()
        scratch = self.region(stage.scratch, kernel.scratch_bytes, f"the scratch of {name}")
        require(not np.shares_memory(scratch, y), f"{name} writes over its scratch")
        for operand, span in stage.spans.items():
            x = self.lines[stage.step.reads[operand]]
            taken = _taken(x, span, row)
            require(not np.shares_memory(scratch, taken), f"the scratch of {name} is in use")
            if np.shares_memory(taken, y):
                _overlap(kernel, operand, taken, y, name)
        if stage.accumulates:
            whole = row == 0 or (bool((y == sums).all()) and bool((scratch == sums).all()))
            require(whole, f"{name} loses its sums")
            sums = self.fresh()
        scratch[:] = sums if stage.accumulates else 0
        last = row == self.lines[name].line.height - 1
        y[:] = sums if stage.accumulates and not last else self.lines[name].wanted(row)
        return sums

    def expect(self, x: _Rows, span: Span, row: int, what: str) -> None:
        first, last = span.rows(row)
        require(first < last <= x.made, f"row {what} reads rows of {x.line.name} too early")
        size = x.line.row_bytes
        for plane in range(span.planes):
            start = plane * span.height * size
            lo, hi = start + (first - x.first) * size, start + (last - x.first) * size
            require(lo >= 0 and hi <= len(x.memory), f"rows of {x.line.name} are nowhere")
            lost = np.flatnonzero(x.memory[lo:hi] != x.tokens[start:][first * size : last * size])
            where = f"row {first + lost[0] // size} of {x.line.name}" if lost.size else ""
            require(not lost.size, f"row {what} finds {where} lost")


def _taken(x: _Rows, span: Span, row: int) -> Bytes:
    """The memory that a call reads of x, from the first byte to the last."""
    first, last = span.rows(row)
    start = (first - x.first) * x.line.row_bytes
    size = (last - first) * x.line.row_bytes
    return x.memory[start : start + size + (span.planes - 1) * span.height * x.line.row_bytes]


def _overlap(kernel: Kernel, operand: str, x: Bytes, y: Bytes, name: str) -> None:
    """A row that is written over the one that is read."""
    trace = kernel.overlap.get(operand)
    require(trace is not None, f"{name} writes a row over what it reads")
    assert trace is not None
    shift = (y.ctypes.data - x.ctypes.data) // x.itemsize
    replay(trace, len(x), len(y), shift, f"a row of {name} over {operand}")


def check_stream(
    step: Step, arena: Bytes, scratch: int, outside: Mapping[str, tuple[Bytes, Bytes]]
) -> None:
    """PlanError unless every call finds its rows. outside: the buffers that the stream reads and
    writes, as their memory and their tokens; the inputs are there, the output is afterwards."""
    _Replay(step, arena, scratch, outside).run()
    memory, tokens = outside[step.writes]
    require(bool((memory == tokens).all()), f"the stream {step.name} leaves something else")
