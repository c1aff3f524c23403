# SPDX-License-Identifier: Apache-2.0
"""Plays a plan through, byte by byte, and believes nothing that the planner concluded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from emx.kernel import Offsets, Trace
from emx.program import ALIGN, Buffer, Plan, Step

Bytes = np.ndarray[Any, np.dtype[np.int32]]
CHUNK = 1 << 20  # reads and writes that are replayed together


class PlanError(AssertionError):
    """The plan would corrupt memory: a bug in emx, never in the user's model."""


def check(plan: Plan) -> None:
    """Raise PlanError unless every step of `plan` finds its inputs, and the caller the outputs.

    Every byte of the arena holds the token of one byte of one buffer, or none. Each step
    needs the tokens of all its inputs, wipes its scratch and then leaves those of y. Where
    y lies over an input, the kernel's events are replayed.
    """
    _check_places(plan)
    memory = _Memory(plan)
    buffers, steps = plan.program.buffers, plan.program.steps
    known = [name for _, name in plan.program.inputs]
    for name in known:
        memory.write(buffers[name])
    for name in known:
        memory.expect(buffers[name], "at the start")
    for step in steps:
        _require(step.writes not in known, f"{step.name} writes {step.writes} again")
        for name in step.reads.values():
            _require(name in known, f"{step.name} reads {name} before it is written")
            memory.expect(buffers[name], f"when {step.name} reads it")
        _run(plan, step, memory)
        known.append(step.writes)
    for _, name in plan.program.outputs:
        _require(name in known, f"output {name} is never written")
        memory.expect(buffers[name], "at the end")


class _Memory:
    """The arena: one token for each byte. Token 0 is garbage."""

    def __init__(self, plan: Plan) -> None:
        self.offsets = plan.offsets
        self.bytes: Bytes = np.zeros(plan.arena_bytes, np.int32)
        self.tokens: dict[str, Bytes] = {}
        first = 1
        for name in plan.offsets:
            last = first + plan.program.buffers[name].bytes
            self.tokens[name] = np.arange(first, last, dtype=np.int32)
            first = last

    def write(self, buffer: Buffer) -> None:
        if buffer.home == "arena":
            at = self.offsets[buffer.name]
            self.bytes[at : at + buffer.bytes] = self.tokens[buffer.name]

    def wipe(self, start: int, end: int) -> None:
        self.bytes[start:end] = 0

    def expect(self, buffer: Buffer, when: str) -> None:
        if buffer.home == "arena":
            at = self.offsets[buffer.name]
            found = self.bytes[at : at + buffer.bytes]
            wrong = np.flatnonzero(found != self.tokens[buffer.name])
            where = f"byte {wrong[0]} of {buffer.name} is lost" if wrong.size else ""
            _require(not wrong.size, f"{where} {when}")


def _run(plan: Plan, step: Step, memory: _Memory) -> None:
    buffers = plan.program.buffers
    y = buffers[step.writes]
    if step.kernel.scratch_bytes:
        start = plan.scratch[step.name]
        end = start + step.kernel.scratch_bytes
        memory.wipe(start, end)
        for name in (*step.reads.values(), y.name):
            apart = not _overlap(plan, buffers[name], start, end)
            _require(apart, f"the scratch of {step.name} lies over {name}")
    for operand, name in step.reads.items():
        x = buffers[name]
        if y.home == "arena" and _overlap(plan, x, plan.offsets[y.name], _end(plan, y)):
            trace = step.kernel.overlap.get(operand)
            if trace is None:
                raise PlanError(f"{step.name} writes {y.name} over its input {name}")
            shift = plan.offsets[y.name] - plan.offsets[name]
            _replay(trace, x, y, shift, f"{step.name} overwrites {name} with {y.name}")
    memory.write(y)


def _replay(trace: Trace, x: Buffer, y: Buffer, shift: int, what: str) -> None:
    """Run the events, with y `shift` bytes behind x: no byte of x is read after it is lost.

    Bytes are counted from the start of x, or of y, whichever is lower, in units that every range
    begins and ends with. `lost[u]` is the first event that writes unit u, `needed[u]` the last that
    reads it; an event reads, then writes.
    """
    _check_ranges(trace.read_lo, trace.read_hi, x, f"{what}: event %d reads outside")
    _check_ranges(trace.write_lo, trace.write_hi, y, f"{what}: event %d writes outside")
    reads, writes = (trace.read_lo, trace.read_hi), (trace.write_lo, trace.write_hi)
    every = np.concatenate([*reads, *writes, [shift, x.bytes, y.bytes, y.type.bytes]])
    unit = int(np.gcd.reduce(every))
    events = len(trace.read_lo)
    x0, y0 = max(0, -shift) // unit, max(0, shift) // unit
    size = max(x0 + x.bytes // unit, y0 + y.bytes // unit)
    lost = np.full(size, events, np.int64)
    needed = np.full(size, -1, np.int64)
    for event, at in _touched(*writes, unit):
        np.minimum.at(lost, y0 + at, event)
    for event, at in _touched(*reads, unit):
        np.maximum.at(needed, x0 + at, event)
    covered = lost[y0 : y0 + y.type.bytes // unit] < events
    _require(bool(covered.all()), f"{what}: the events leave out some of {y.name}")
    early = np.flatnonzero(lost < needed)
    if early.size:
        u = int(early[0])
        when = f"written by event {lost[u]}, read by event {needed[u]}"
        raise PlanError(f"{what}: byte {(u - x0) * unit} is {when}")


def _check_ranges(lo: Offsets, hi: Offsets, buffer: Buffer, what: str) -> None:
    outside = np.flatnonzero((lo < 0) | (hi < lo) | (hi > buffer.type.bytes))
    _require(not outside.size, what % outside[0] if outside.size else "")


def _touched(lo: Offsets, hi: Offsets, unit: int) -> Iterator[tuple[Offsets, Offsets]]:
    """All (event, unit it touches), CHUNK of them at a time or those of one event."""
    length = (hi - lo) // unit
    ends = np.cumsum(length)
    first = 0
    while first < len(lo):
        done = ends[first] - length[first]
        last = max(first + 1, int(np.searchsorted(ends, done + CHUNK, "right")))
        counts = length[first:last]
        event = np.repeat(np.arange(first, last), counts)
        begin = np.repeat(lo[first:last] // unit - (ends[first:last] - counts - done), counts)
        yield event, begin + np.arange(len(event))
        first = last


def _end(plan: Plan, buffer: Buffer) -> int:
    return plan.offsets[buffer.name] + buffer.bytes


def _overlap(plan: Plan, buffer: Buffer, start: int, end: int) -> bool:
    """Whether `buffer` has a byte in [start, end) of the arena."""
    if buffer.home != "arena":
        return False
    return plan.offsets[buffer.name] < end and start < _end(plan, buffer)


def _check_places(plan: Plan) -> None:
    """Everything has a place that is aligned and inside the arena."""
    program = plan.program
    _require(0 <= plan.lower_bound <= plan.arena_bytes, "the lower bound is above the arena")
    names = [step.name for step in program.steps]
    _require(len(set(names)) == len(names), "two steps have one name")
    used = [name for _, name in program.inputs] + [step.writes for step in program.steps]
    for name in used:
        buffer = program.buffers[name]
        if buffer.home == "arena":
            _require(name in plan.offsets, f"{name} has no place")
            _check_place(plan, name, plan.offsets[name], buffer.bytes)
    for step in program.steps:
        if step.kernel.scratch_bytes:
            _require(step.name in plan.scratch, f"the scratch of {step.name} has no place")
            at = plan.scratch[step.name]
            _check_place(plan, f"the scratch of {step.name}", at, step.kernel.scratch_bytes)


def _check_place(plan: Plan, name: str, start: int, size: int) -> None:
    _require(start % ALIGN == 0, f"{name} is not aligned: offset {start}")
    _require(0 <= start <= plan.arena_bytes - size, f"{name} lies outside the arena")


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise PlanError(what)
