# SPDX-License-Identifier: Apache-2.0
"""Programs for the tests of the planner: by hand, like real kernels, and random."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from emx.ir import DType, Origin, TensorType
from emx.kernel import Kernel, Trace
from emx.program import Buffer, Program, Step
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
    return Step(f"make_{call.y}", kernel, reads, {}, {}, call.y, Origin(), 0, 0)


def trace(events: Sequence[tuple[int, int, int, int]]) -> Trace:
    return Trace(*(np.array(column, np.int64) for column in zip(*events, strict=True)))


def elementwise(size: int, step: int = 4) -> Trace:
    return trace([(i, min(i + step, size)) * 2 for i in range(0, size, step)])


def pointwise(pixels: int, cin: int, cout: int) -> Trace:
    """A 1x1 convolution, 4 pixels by 4 channels at a time; channels in bytes."""
    events = []
    for p, c in itertools.product(range(0, pixels, 4), range(0, cout, 16)):
        end = min(p + 4, pixels)
        events.append((p * cin, end * cin, p * cout + c, (end - 1) * cout + c + 16))
    return trace(events)


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
        scratch = rng.randrange(1, 8 * sizes) if rng.random() < 0.2 else 0
        calls.append(Call(f"t{i}", xs, y, overlap, scratch))
        size[f"t{i}"] = y
    outputs = sorted(rng.sample(list(size), rng.choice((1, 1, 2))))
    return program(inputs, calls, outputs)
