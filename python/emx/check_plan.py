# SPDX-License-Identifier: Apache-2.0
"""Plays a plan through, byte by byte, and believes nothing that the planner concluded."""

from __future__ import annotations

from typing import Any

import numpy as np

from emx.check_stream import check_stream
from emx.program import ALIGN, Buffer, Plan, Step
from emx.replay import PlanError as PlanError
from emx.replay import replay, require

Bytes = np.ndarray[Any, np.dtype[np.int32]]


def check(plan: Plan) -> None:
    """Raise PlanError unless every step of `plan` finds its inputs, and the caller the outputs.

    Every byte of the arena holds the token of one byte of one buffer, or none. Each step
    needs the tokens of all its inputs, wipes its scratch and then leaves those of y. Where
    y lies over an input, the kernel's events are replayed.
    """
    _check_places(plan)
    memory = _Memory(plan)
    buffers, steps = plan.program.buffers, plan.program.steps
    fed = plan.program.fed
    require(not fed or bool(steps[0].stream), f"{fed} comes row by row, but not first")
    known = [name for _, name in plan.program.inputs]
    for name in known:
        memory.write(buffers[name])
    for name in known:
        memory.expect(buffers[name], "at the start")
    for step in steps:
        require(step.writes not in known, f"{step.name} writes {step.writes} again")
        for name in step.reads.values():
            require(name in known, f"{step.name} reads {name} before it is written")
            memory.expect(buffers[name], f"when {step.name} reads it")
        _run(plan, step, memory)
        known.append(step.writes)
    for _, name in plan.program.outputs:
        require(name in known, f"output {name} is never written")
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

    def of(self, buffer: Buffer) -> tuple[Bytes, Bytes]:
        """The bytes that a value has, or memory of the caller's, and the tokens they should be."""
        size = buffer.type.bytes
        if buffer.home != "arena":
            tokens = np.arange(1, size + 1, dtype=np.int32)
            return tokens.copy(), tokens
        at = self.offsets[buffer.name]
        return self.bytes[at : at + size], self.tokens[buffer.name][:size]

    def wipe(self, start: int, end: int) -> None:
        self.bytes[start:end] = 0

    def expect(self, buffer: Buffer, when: str) -> None:
        if buffer.home == "arena":
            at = self.offsets[buffer.name]
            found = self.bytes[at : at + buffer.bytes]
            wrong = np.flatnonzero(found != self.tokens[buffer.name])
            where = f"byte {wrong[0]} of {buffer.name} is lost" if wrong.size else ""
            require(not wrong.size, f"{where} {when}")


def _run(plan: Plan, step: Step, memory: _Memory) -> None:
    buffers = plan.program.buffers
    y = buffers[step.writes]
    if step.kernel.scratch_bytes:
        start = plan.scratch[step.name]
        end = start + step.kernel.scratch_bytes
        memory.wipe(start, end)
        for name in (*step.reads.values(), y.name):
            apart = not _overlap(plan, buffers[name], start, end)
            require(apart, f"the scratch of {step.name} lies over {name}")
    if step.stream:
        outside = {n: memory.of(buffers[n]) for n in (*step.reads.values(), y.name)}
        check_stream(step, memory.bytes, plan.scratch[step.name], outside)
    for operand, name in step.reads.items():
        x = buffers[name]
        if y.home == "arena" and _overlap(plan, x, plan.offsets[y.name], _end(plan, y)):
            trace = step.kernel.overlap.get(operand)
            if trace is None:
                raise PlanError(f"{step.name} writes {y.name} over its input {name}")
            shift = plan.offsets[y.name] - plan.offsets[name]
            what = f"{step.name} overwrites {name} with {y.name}"
            replay(trace, x.type.bytes, y.type.bytes, shift, what)
    memory.write(y)


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
    require(0 <= plan.lower_bound <= plan.arena_bytes, "the lower bound is above the arena")
    names = [step.name for step in program.steps]
    require(len(set(names)) == len(names), "two steps have one name")
    used = [name for _, name in program.inputs] + [step.writes for step in program.steps]
    for name in used:
        buffer = program.buffers[name]
        if buffer.home == "arena":
            require(name in plan.offsets, f"{name} has no place")
            _check_place(plan, name, plan.offsets[name], buffer.bytes)
    for step in program.steps:
        if step.kernel.scratch_bytes:
            require(step.name in plan.scratch, f"the scratch of {step.name} has no place")
            at = plan.scratch[step.name]
            _check_place(plan, f"the scratch of {step.name}", at, step.kernel.scratch_bytes)


def _check_place(plan: Plan, name: str, start: int, size: int) -> None:
    require(start % ALIGN == 0, f"{name} is not aligned: offset {start}")
    require(0 <= start <= plan.arena_bytes - size, f"{name} lies outside the arena")
