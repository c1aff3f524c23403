# SPDX-License-Identifier: Apache-2.0
"""The checker refuses every plan that would corrupt memory; the contract of a trace is exact."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from emx.check_plan import PlanError, check
from emx.kernel import Trace
from emx.plan import plan
from emx.program import Plan, Program, Step
from emx.replay import replay
from plan_programs import (
    Call,
    elementwise,
    pointwise,
    program,
    random_program,
    random_trace,
    window,
)


def lifetimes(p: Program) -> dict[str, tuple[int, int]]:
    """Buffer, or step with a scratch -> first and last step that need it; inputs come at -1."""
    when: dict[str, list[int]] = {n: [-1] for _, n in p.inputs}
    for i, s in enumerate(p.steps):
        for n in (*s.reads.values(), s.writes, *([s.name] if s.kernel.scratch_bytes else [])):
            when.setdefault(n, []).append(i)
    for _, n in p.outputs:
        when[n].append(len(p.steps))
    return {n: (min(w), max(w)) for n, w in when.items()}


def conflicts(result: Plan) -> tuple[bool, bool]:
    """Whether two things overlap that must not, and whether any y overlaps its input."""
    p = result.program
    at = {**result.offsets, **result.scratch}
    size = {n: b.bytes for n, b in p.buffers.items()}
    size |= {s.name: s.kernel.scratch_bytes for s in p.steps}
    step = {s.writes: s for s in p.steps}
    live = lifetimes(p)
    clash = chase = False
    for a, b in itertools.combinations(at, 2):
        if live[a][0] > live[b][1] or live[b][0] > live[a][1]:
            continue
        if at[a] + size[a] <= at[b] or at[b] + size[b] <= at[a]:
            continue
        x, y = (a, b) if live[a][0] < live[b][0] else (b, a)
        fused = y in step and step[y].overlap(x) is not None and live[x][1] == live[y][0]
        chase |= fused
        clash |= not fused
    return clash, chase


@pytest.mark.parametrize("seed", range(30))
def test_the_checker_sees_every_clash(seed: int) -> None:
    rng = random.Random(2000 + seed)
    result = plan(random_program(rng, 8))
    seen = 0
    for name in [*result.offsets, *result.scratch]:
        for shift in (-16, 16, 160):
            table = result.offsets if name in result.offsets else result.scratch
            moved = {**table, name: table[name] + shift}
            which = "offsets" if name in result.offsets else "scratch"
            bad = replace(result, arena_bytes=result.arena_bytes + 160, **{which: moved})
            clash, chase = conflicts(bad)
            if table[name] + shift < 0 or clash:
                seen += 1
                with pytest.raises(PlanError):
                    check(bad)
            elif not chase:
                check(bad)
    assert seen > 5


def test_the_checker_replays_the_contract() -> None:
    """16 bytes nearer than the contract allows, and a byte is read too late."""
    for t in (pointwise(100, 64, 64), window(25, 5, 64, 64), window(16, 16, 16, 64, stride=2)):
        x, y = int(t.read_hi.max()), int(t.write_hi.max())
        good = plan(program({"x": x}, [Call("y", ["x"], y, {"x": t})], ["y"]))
        assert good.offsets["x"] - good.offsets["y"] == -(-t.distance() // 16) * 16
        near = replace(good, offsets=good.offsets | {"x": good.offsets["x"] - 16})
        with pytest.raises(PlanError, match=r"byte \d+ is written by event \d+, read by event \d+"):
            check(near)


def good_plan() -> Plan:
    calls = [
        Call("a", ["x"], 64, scratch=32),
        Call("b", ["a", "x"], 64, {"a": elementwise(64)}),
    ]
    return plan(program({"x": 64}, calls, ["b"]))


def test_the_checker_names_what_is_wrong() -> None:
    good = good_plan()
    p, at = good.program, good.offsets

    def refused(what: str, bad: Plan) -> None:
        with pytest.raises(PlanError, match=what):
            check(bad)

    def moved(**offsets: int) -> Plan:
        return replace(good, offsets={**at, **offsets})

    def steps(*new: Step) -> Plan:
        return replace(good, program=replace(p, steps=new))

    a, b = p.steps
    refused("x is not aligned", moved(x=at["x"] + 4))
    refused("b lies outside", moved(b=good.arena_bytes - 48))
    refused("b lies outside", moved(b=-16))
    refused("make_b writes b over its input x", moved(b=at["x"]))
    refused("scratch of make_a lies over a", replace(good, scratch={"make_a": at["a"]}))
    refused("scratch of make_a lies over x", replace(good, scratch={"make_a": at["x"] + 32}))
    refused("scratch of make_a has no place", replace(good, scratch={}))
    refused("a has no place", replace(good, offsets={k: v for k, v in at.items() if k != "a"}))
    refused("make_b reads a before it is written", steps(b, a))
    refused("output b is never written", steps(a))
    refused("two steps have one name", steps(a, a, b))
    refused("writes a again", steps(a, replace(b, name="again", writes="a"), b))
    refused("lower bound", replace(good, lower_bound=good.arena_bytes + 16))
    half = replace(b, kernel=replace(b.kernel, overlap={"x0": elementwise(32)}))
    refused("leave out some of the output", steps(a, half))
    wide = replace(b, kernel=replace(b.kernel, overlap={"x0": elementwise(128)}))
    refused("reads outside", steps(a, wide))


def test_a_call_without_bytes_is_replayed() -> None:
    """An empty tensor may lie over an empty one, and nothing is read or written."""
    nothing = np.zeros(0, np.int64)
    replay(Trace(nothing, nothing, nothing, nothing), 0, 0, 0, "empty")


# Trace.distance


def replayed(t: Trace, x: int, y: int, d: int) -> bool:
    """Whether y may start d bytes before x: byte by byte, event by event."""
    lost = [False] * x
    columns = (t.read_lo, t.read_hi, t.write_lo, t.write_hi)
    for read_lo, read_hi, write_lo, write_hi in zip(*(c.tolist() for c in columns), strict=True):
        if any(lost[read_lo:read_hi]):
            return False
        for byte in range(max(0, write_lo - d), min(x, write_hi - d)):
            lost[byte] = True
    return True


@pytest.mark.parametrize("seed", range(60))
def test_distance_against_a_replay(seed: int) -> None:
    rng = random.Random(3000 + seed)
    x, y = rng.randrange(1, 150), rng.randrange(1, 150)
    t = random_trace(rng, x, y)
    assert all(replayed(t, x, y, t.distance() + more) for more in range(y + 1))
    assert t.in_place() == replayed(t, x, y, 0)


def test_distance_of_real_kernels_is_exact() -> None:
    for t in (
        elementwise(64),
        pointwise(12, 32, 64),
        pointwise(12, 64, 32),
        window(6, 5, 16, 16),
        window(9, 9, 8, 32, stride=2),
    ):
        x, y, d = int(t.read_hi.max()), int(t.write_hi.max()), t.distance()
        assert replayed(t, x, y, d)
        assert d == 0 or not replayed(t, x, y, d - 1)
