# SPDX-License-Identifier: Apache-2.0
"""The planner against an independent checker, a naive baseline and brute force."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from emx.check_plan import check
from emx.ir import DType, Origin, TensorType
from emx.kernel import Kernel, Trace
from emx.plan import plan
from emx.program import ALIGN, Buffer, Plan, Program, Step
from emx.target import find_target


@dataclass(frozen=True)
class Call:
    """One step of a test program: y = f(x...); `overlap` and `scratch` are the kernel's."""

    y: str
    xs: Sequence[str]
    bytes: int
    overlap: dict[str, Trace] = field(default_factory=dict)
    scratch: int = 0


def program(
    inputs: dict[str, int], calls: Sequence[Call], outputs: Sequence[str], homes: str = "arena"
) -> Program:
    """`inputs` are name -> bytes; with homes == "caller" inputs and outputs are the caller's."""
    sizes = inputs | {c.y: c.bytes for c in calls}
    caller = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    buffers = {
        name: Buffer(
            name,
            TensorType((size,), DType.S8),
            caller.get(name, "arena") if homes == "caller" else "arena",
        )
        for name, size in sizes.items()
    }
    return Program(
        name="test",
        target=find_target("generic"),
        buffers=buffers,
        steps=tuple(_step(c) for c in calls),
        instances=(),
        weights={},
        inputs=tuple((n, n) for n in inputs),
        outputs=tuple((n, n) for n in outputs),
    )


def _step(call: Call) -> Step:
    kernel = Kernel(
        header="test.h",
        function="test",
        inputs={f"x{i}": i for i in range(len(call.xs))},
        params={},
        key=(),
        scratch_bytes=call.scratch,
        overlap={f"x{i}": call.overlap[x] for i, x in enumerate(call.xs) if x in call.overlap},
    )
    reads = {f"x{i}": x for i, x in enumerate(call.xs)}
    return Step(f"make_{call.y}", kernel, reads, {}, call.y, Origin(), 0, 0)


def trace(events: Sequence[tuple[int, int, int, int]]) -> Trace:
    return Trace(*(np.array(column, np.int64) for column in zip(*events, strict=True)))


def elementwise(size: int, step: int = 4) -> Trace:
    return trace([(i, min(i + step, size)) * 2 for i in range(0, size, step)])


def pointwise(pixels: int, cin: int, cout: int) -> Trace:
    """A 1x1 convolution, 4 pixels by 4 channels at a time; channels in bytes."""
    return trace(
        [
            (
                p * cin,
                min(p + 4, pixels) * cin,
                p * cout + c,
                (min(p + 4, pixels) - 1) * cout + c + 16,
            )
            for p in range(0, pixels, 4)
            for c in range(0, cout, 16)
        ]
    )


def window(h: int, w: int, cin: int, cout: int, stride: int = 1, pad: int = 1, k: int = 3) -> Trace:
    """A convolution, pixel by pixel; channels in bytes."""
    oh, ow = (h + 2 * pad - k) // stride + 1, (w + 2 * pad - k) // stride + 1
    events = []
    for i, j in itertools.product(range(oh), range(ow)):
        top, left = max(0, i * stride - pad), max(0, j * stride - pad)
        bottom, right = min(h, i * stride - pad + k) - 1, min(w, j * stride - pad + k) - 1
        o = (i * ow + j) * cout
        events.append(((top * w + left) * cin, (bottom * w + right + 1) * cin, o, o + cout))
    return trace(events)


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


def random_trace(rng: random.Random, x: int, y: int) -> Trace:
    """Events that cover y, in a random manner, and read x more or less in step."""
    cuts = sorted({0, y, *(rng.randrange(y + 1) for _ in range(rng.randrange(12)))})
    events = []
    for lo, hi in itertools.pairwise(cuts):
        a = min(x, max(0, lo * x // y - rng.randrange(80)))
        b = min(x, a + rng.randrange(100))
        events.append((a, b, lo, hi))
    if rng.random() < 0.2:
        rng.shuffle(events)
    return trace(events)


def random_program(rng: random.Random, steps: int, sizes: int = 40) -> Program:
    size = {"in0": 16 * rng.randrange(1, sizes), "in1": 16 * rng.randrange(1, sizes)}
    inputs, calls = dict(size), []
    for i in range(steps):
        near = list(size)[-4:] if rng.random() < 0.8 else list(size)
        xs = rng.sample(near, min(len(near), rng.choice((1, 1, 1, 2, 3))))
        y = rng.randrange(1, 16 * sizes)
        overlap = {x: random_trace(rng, size[x], y) for x in xs if rng.random() < 0.7}
        scratch = rng.randrange(1, 300) if rng.random() < 0.2 else 0
        calls.append(Call(f"t{i}", xs, y, overlap, scratch))
        size[f"t{i}"] = y
    outputs = sorted(rng.sample(list(size), rng.choice((1, 1, 2))))
    return program(inputs, calls, outputs)


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
        for i, s in enumerate(order):
            for x in s.reads.values():
                t = s.overlap(x)
                if t is not None and max(live[x]) == i:
                    limits[x, s.writes] = -(-t.distance() // ALIGN) * ALIGN
        best = min(best, _least(names, size, live, limits, best))
    return best


def _least(names, size, live, limits, best):  # type: ignore[no-untyped-def]
    """Depth first over all aligned addresses."""
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
    least = brute_force(p)
    assert result.lower_bound <= least <= result.arena_bytes
    assert result.arena_bytes == least


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
    assert result.arena_bytes == 96 * 96 * 12 + 784  # distance 772, aligned


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
