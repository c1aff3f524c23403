# SPDX-License-Identifier: Apache-2.0
"""The planner against an independent checker, a naive baseline and brute force."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import pytest

from emx import schedule
from emx.check_plan import PlanError, check
from emx.plan import plan, render
from emx.program import ALIGN, Plan, Program
from plan_programs import Call, elementwise, pointwise, program, random_program, trace, window


def baseline(p: Program) -> int:
    """Largest first, each at the lowest offset that is free; no overlap, the given order."""
    last = {b: i for i, s in enumerate(p.steps) for b in (*s.reads.values(), s.writes)}
    first = {s.writes: i for i, s in enumerate(p.steps)}
    last |= dict.fromkeys((b for _, b in p.outputs), len(p.steps))
    items = [(b.bytes, first.get(n, 0), last.get(n, 0)) for n, b in p.buffers.items()]
    items += [(-(-s.kernel.scratch_bytes // 16) * 16, i, i) for i, s in enumerate(p.steps)]
    placed: list[tuple[int, int, int, int]] = []
    for size, lo, hi in sorted(items, reverse=True):
        at = 0
        for start, end, _, _ in sorted(q for q in placed if q[2] <= hi and lo <= q[3]):
            if at + size <= start:
                break
            at = max(at, end)
        placed.append((at, at + size, lo, hi))
    return max(end for _, end, _, _ in placed)


def planned(p: Program) -> Plan:
    result = plan(p)
    check(result)
    assert result.lower_bound <= result.arena_bytes
    return result


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    rng = random.Random(seed)
    p = random_program(rng, rng.randrange(1, 25))
    assert planned(p).arena_bytes <= baseline(p)


def brute_force(p: Program) -> int:
    """The least arena over every order and every address: independent of plan and its bounds."""
    names = list(p.buffers) + [s.name for s in p.steps if s.kernel.scratch_bytes]
    size = {n: b.bytes for n, b in p.buffers.items()}
    size |= {s.name: -(-s.kernel.scratch_bytes // ALIGN) * ALIGN for s in p.steps}
    best = sum(size[n] for n in names)
    for order in itertools.permutations(p.steps):
        made = [n for _, n in p.inputs]
        if not all(set(s.reads.values()) <= {*made, *(q.writes for q in order[:i])}
                   for i, s in enumerate(order)):  # fmt: skip
            continue
        live = {n: [0] for _, n in p.inputs}
        for i, s in enumerate(order):
            for n in (*s.reads.values(), s.writes, *([s.name] if s.kernel.scratch_bytes else [])):
                live.setdefault(n, []).append(i)
        for _, n in p.outputs:
            live[n].append(len(order))
        limits: dict[tuple[str, str], int] = {}  # (a, b): b may start this many bytes before a
        same = set[tuple[str, str]]()  # (a, b): b may start where a does
        for i, s in enumerate(order):
            for x in s.reads.values():
                t = s.overlap(x)
                if t is not None and max(live[x]) == i:
                    limits[x, s.writes] = -(-t.distance() // ALIGN) * ALIGN
                    if t.in_place():
                        same.add((x, s.writes))
        best = min(best, _least(names, size, live, limits, same, best))
    return best


def _least(
    names: Sequence[str],
    size: Mapping[str, int],
    live: Mapping[str, Sequence[int]],
    limits: Mapping[tuple[str, str], int],
    same: Set[tuple[str, str]],
    best: int,
) -> int:
    """Depth first over all aligned addresses that need less than `best`."""
    placed: dict[str, int] = {}

    def fits(n: str, at: int) -> bool:
        for m, other in placed.items():
            if min(live[n]) > max(live[m]) or min(live[m]) > max(live[n]):
                continue
            if at + size[n] <= other or other + size[m] <= at:
                continue
            if (m, n) in limits and at <= other - limits[m, n]:
                continue
            if (n, m) in limits and other <= at - limits[n, m]:
                continue
            if at == other and not same.isdisjoint({(m, n), (n, m)}):
                continue
            return False
        return True

    def descend(todo: list[str], top: int) -> None:
        nonlocal best
        if not todo:
            best = min(best, top)
            return
        n, *rest = todo
        for at in range(0, best - size[n], ALIGN):
            if fits(n, at):
                placed[n] = at
                descend(rest, max(top, at + size[n]))
                del placed[n]

    descend(sorted(names, key=lambda n: -size[n]), 0)
    return best


@pytest.mark.parametrize("seed", range(40))
def test_tiny_programs_reach_the_optimum(seed: int) -> None:
    rng = random.Random(1000 + seed)
    p = random_program(rng, rng.randrange(1, 4), sizes=5)
    result = planned(p)
    assert result.lower_bound <= result.arena_bytes == brute_force(p)


def test_in_place_in_any_order() -> None:
    """A tile writes four pixels of some channels: y may be skip, but not start just before it."""
    pixels, channels, lanes = 8, 16, 4
    tiles = [
        (4 * (p * channels + c), 4 * (p * channels + c + lanes))
        for first in range(0, pixels, 4)
        for c in range(0, channels, lanes)
        for p in range(first, first + 4)
    ]
    tiled = trace([(lo, hi, lo, hi) for lo, hi in tiles])
    size = 4 * pixels * channels
    assert tiled.in_place() and tiled.distance() > 0
    p = program({"skip": size, "x": size}, [Call("y", ["x", "skip"], size, {"skip": tiled})], ["y"])
    done = planned(p)
    assert done.arena_bytes == done.lower_bound == 2 * size
    assert done.offsets["y"] == done.offsets["skip"]
    for wrong in (-16, 16):
        moved = replace(done, offsets={**done.offsets, "y": done.offsets["y"] + wrong})
        with pytest.raises(PlanError):
            check(moved)


def test_a_kernel_that_reads_what_it_wrote_is_not_in_place() -> None:
    assert not trace([(0, 4, 0, 4), (0, 8, 4, 8)]).in_place()
    assert not trace([(0, 4, 0, 4), (0, 4, 0, 4)]).in_place()


def test_residual_is_added_in_place() -> None:
    size = 32 * 32 * 16 * 4
    conv = window(32, 32, 64, 64)
    p = program(
        {"image": 12288},
        [
            Call("skip", ["image"], size),
            Call("a", ["skip"], size),
            Call("b", ["a", "skip"], size, {"skip": elementwise(size), "a": conv}),
        ],
        ["b"],
        homes="caller",
    )
    assert planned(p).arena_bytes == 2 * size  # skip and a; b is the caller's

    p = replace(p, outputs=())
    p = replace(p, buffers=p.buffers | {"b": replace(p.buffers["b"], home="arena")})
    result = planned(p)
    assert result.arena_bytes == 2 * size
    assert result.offsets["b"] == result.offsets["skip"]


def test_pointwise_convolutions_chase() -> None:
    pixels, channels = 100, 64
    t = pointwise(pixels, channels, channels)
    names = [f"t{i}" for i in range(6)]
    calls = [Call(y, [x], 6400, {x: t}) for x, y in itertools.pairwise(["x", *names])]
    result = planned(program({"x": 6400}, calls, ["t5"]))
    assert t.distance() == 240
    assert result.arena_bytes == 6400 + 6 * 240
    assert result.lower_bound == result.arena_bytes


def test_a_strided_convolution_eats_its_input() -> None:
    t = window(96, 96, 12, 32, stride=2)
    result = planned(
        program({"x": 96 * 96 * 12}, [Call("y", ["x"], 48 * 48 * 32, {"x": t})], ["y"])
    )
    assert result.arena_bytes == result.lower_bound == 96 * 96 * 12 + 784  # distance 772, aligned


def kws() -> Program:
    size = 25 * 5 * 256
    calls = [Call("stem", ["x"], size)]
    x = "stem"
    for i in range(4):
        calls.append(Call(f"dw{i}", [x], size, {x: window(25, 5, 256, 256)}))
        calls.append(Call(f"pw{i}", [f"dw{i}"], size, {f"dw{i}": pointwise(125, 256, 256)}))
        x = f"pw{i}"
    calls += [Call("pool", [x], 256), Call("y", ["pool"], 48)]
    return program({"x": 1960}, calls, ["y"])


def vww() -> Program:
    calls = [
        Call("stem", ["x"], 48 * 48 * 32, {"x": window(96, 96, 12, 32, 2)}),
        Call("dw", ["stem"], 48 * 48 * 32, {"stem": window(48, 48, 32, 32)}),
        Call("pw", ["dw"], 48 * 48 * 64, {"dw": pointwise(48 * 48, 32, 64)}),
    ]
    x, c, h = "pw", 64, 48
    for i, (out, stride) in enumerate([(128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]):
        o = h // stride
        calls.append(Call(f"dw{i}", [x], o * o * c, {x: window(h, h, c, c, stride)}))
        calls.append(Call(f"pw{i}", [f"dw{i}"], o * o * out, {f"dw{i}": pointwise(o * o, c, out)}))
        x, c, h = f"pw{i}", out, o
    calls.append(Call("y", [x], 16))
    return program({"x": 96 * 96 * 12}, calls, ["y"])


def ic() -> Program:
    """ResNet-8, each residual added by the convolution that ends its block."""
    calls = [Call("skip0", ["x"], 65536)]
    x, size, h, c = "skip0", 65536, 32, 64
    for i, stride in enumerate((1, 2, 2)):
        h, inner = h // stride, c * stride
        size = h * h * inner
        calls.append(Call(f"a{i}", [x], size))
        if stride == 2:
            calls.append(Call(f"skip{i}", [x], size))
        fused = {f"skip{i}": elementwise(size, inner), f"a{i}": window(h, h, inner, inner)}
        calls.append(Call(f"b{i}", [f"a{i}", f"skip{i}"], size, fused))
        x, c = f"b{i}", inner
    return program({"x": 12288}, [*calls, Call("pool", [x], 256), Call("y", ["pool"], 40)], ["y"])


def without_overlap(p: Program) -> Program:
    steps = tuple(replace(s, kernel=replace(s.kernel, overlap={})) for s in p.steps)
    return replace(p, steps=steps)


def test_keyword_spotting() -> None:
    assert planned(without_overlap(kws())).arena_bytes == 64_000
    result = planned(kws())
    # Every step lies 1,536 (depthwise) or 1,008 (pointwise) bytes lower than the one before.
    assert result.arena_bytes == result.lower_bound == 32_000 + 4 * (1536 + 1008)


def test_visual_wake_words() -> None:
    assert planned(without_overlap(vww())).arena_bytes == 221_184
    result = planned(vww())
    assert result.arena_bytes <= 152_000


def test_two_inputs_are_chased_at_once() -> None:
    calls = [
        Call("a", ["x"], 640),
        Call("b", ["x"], 640),
        Call("y", ["a", "b"], 1280, {"a": elementwise(640), "b": elementwise(640)}),
    ]
    slow = trace([(i, i + 4, 2 * i, 2 * i + 8) for i in range(0, 640, 4)])  # y grows twice as fast
    calls[2] = replace(calls[2], overlap={"a": slow, "b": slow})
    result = planned(program({"x": 16}, calls, ["y"]))
    # a and b side by side, each at least 640 bytes behind y: nothing of y but its first half fits.
    assert slow.distance() == 636
    assert result.arena_bytes == result.lower_bound == 640 + 640 + 640


def test_inputs_and_outputs_keep_their_places() -> None:
    calls = [
        Call("a", ["x"], 64, {"x": elementwise(64)}),
        Call("b", ["a"], 64, {"a": elementwise(64)}),
        Call("unread", ["b"], 32),
    ]
    p = program({"x": 64, "nobody": 48, "through": 80}, calls, ["b", "through"])
    result = planned(p)
    assert result.arena_bytes == 64 + 48 + 80  # "unread" may lie where "nobody" was
    with pytest.raises(PlanError, match="through is lost"):
        check(replace(result, offsets=result.offsets | {"b": result.offsets["through"]}))


def test_a_program_without_steps() -> None:
    result = planned(program({"x": 60}, [], ["x"]))
    assert (result.arena_bytes, result.lower_bound) == (64, 64)
    assert planned(program({"x": 60}, [], ["x"], homes="caller")).arena_bytes == 0


def test_scratch_counts() -> None:
    calls = [Call("a", ["x"], 64), Call("b", ["a"], 64, scratch=100), Call("y", ["b"], 64)]
    result = planned(program({"x": 64}, calls, ["y"]))
    assert result.arena_bytes == result.lower_bound == 64 + 64 + 112
    assert list(result.scratch) == ["make_b"]


@pytest.mark.parametrize("states", [schedule.STATES, 0])
def test_wide_graphs_get_a_good_order(states: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more sets of finished steps than the search may visit; also without the search."""
    monkeypatch.setattr(schedule, "STATES", states)
    calls = list[Call]()
    for stage, size in enumerate((2048, 64, 16)):
        for branch in range(24):
            x = f"t{stage - 1}_{branch}" if stage else "x"
            calls.append(Call(f"t{stage}_{branch}", [x], size))
    ends = [c.y for c in calls[-24:]]
    p = program({"x": 16}, [*calls, Call("y", ends, 16)], ["y"])
    assert baseline(p) > 24 * 2048
    assert planned(p).arena_bytes <= 2048 + 64 + 26 * 16


def test_a_better_order_is_found() -> None:
    """Two branches that grow and shrink: one after the other needs less than side by side."""
    wide = [Call(f"wide{i}", ["x"], 4096) for i in range(3)]
    thin = [Call(f"thin{i}", [f"wide{i}"], 16) for i in range(3)]
    p = program({"x": 16}, [*wide, *thin, Call("y", ["thin0", "thin1", "thin2"], 16)], ["y"])
    result = planned(p)
    assert baseline(p) == 3 * 4096 + 16
    assert result.arena_bytes == 4096 + 3 * 16
    assert sorted(s.name for s in result.program.steps) == sorted(s.name for s in p.steps)


def test_planning_is_quick_and_stops_at_the_bound() -> None:
    names = ["x", *(f"t{i}" for i in range(2000))]
    t = elementwise(640, 64)
    calls = [
        Call(y, [x], 640 - i % 7 * 16, {x: t} if i % 5 == 0 and i % 7 == 0 else {})
        for i, (x, y) in enumerate(itertools.pairwise(names))
    ]
    began = time.perf_counter()
    result = plan(program({"x": 640}, calls, names[-1:]))
    assert time.perf_counter() - began < 2
    check(result)


def test_the_plan_does_not_depend_on_the_hash_seed() -> None:
    here = Path(__file__)
    code = (
        "import random, test_plan as t; r = t.plan(t.random_program(random.Random(7), 20));"
        "print(r.offsets, r.scratch, [s.name for s in r.program.steps], r.arena_bytes)"
    )
    path = f"{here.parent}:{here.parent.parent / 'python'}"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": path, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_render() -> None:
    calls = [Call("a", ["x"], 64, scratch=20), Call("b", ["a"], 128), Call("y", ["b"], 16)]
    assert render(plan(program({"x": 16}, calls, ["y"], homes="caller"))) == (
        "step    writes  arena     used  map\n"
        "make_a  a       128..192  96    ....................~~~~~~##############\n"
        "make_b  b       0..128    192   ###########################=============\n"
        "make_y  y       -         128   ===========================.............\n"
        "arena 192 bytes (no less than 192)"
    )


def test_image_classification() -> None:
    assert planned(without_overlap(ic())).arena_bytes == 3 * 65536
    result = planned(ic())
    assert result.arena_bytes == result.lower_bound == 2 * 65536
