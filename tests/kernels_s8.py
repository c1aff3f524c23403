# SPDX-License-Identifier: Apache-2.0
"""Kernels of int8 layers called by hand: bit by bit against the operator's reference, also with y
over an input as far as the kernel's traces say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emx.build import Program, build, find_machine, run
from emx.c_text import initialiser
from emx.ir import Array, DType, Node, Op, TensorType, Value
from emx.kernel import Kernel, Trace, Wishes
from emx.quant import Quant, multipliers
from emx.target import find_target

BEYOND = (0, 1, 5, 64)  # bytes further than the distance; all must do


@dataclass(frozen=True)
class Layer:
    """A node by hand: its operator, its first input and last (or None), constants in between."""

    op: Op
    x: Array
    constants: Sequence[Array]
    skip: Array | None = None

    @property
    def arrays(self) -> list[Array]:
        return [self.x, *self.constants, *([] if self.skip is None else [self.skip])]

    @property
    def node(self) -> Node:
        values = tuple(
            Value(f"v{i}", TensorType(a.shape, DType.of(a.dtype)))
            for i, a in enumerate(self.arrays)
        )
        y = Value("y", self.op.infer(*(v.type for v in values)))
        return Node(self.op, values, (y,))

    @property
    def data(self) -> Mapping[str, Array]:
        return {f"v{i + 1}": a for i, a in enumerate(self.constants)}

    @property
    def expected(self) -> Array:
        return self.op.reference(*self.arrays)

    def kernels(self, target: str, wishes: Wishes = Wishes()) -> Sequence[Kernel]:  # noqa: B008
        return self.op.kernels_for(self.node, self.data, find_target(target), wishes)


def alike(layer: Layer) -> Layer:
    """A layer with weights whose scaled sums all start alike."""
    *others, c = layer.constants
    return replace(layer, constants=(*others, np.zeros_like(c)))


def scaled(
    w: Array, x: Quant, y: Quant, spread: float = 3.0, seed: int = 0
) -> tuple[Array, Array, Array]:
    """(b, m, c) for weights w [o][...]: scales per output, so that results fill y's range."""
    random = np.random.default_rng(seed)
    norm = np.sqrt((w.reshape(len(w), -1).astype(np.float64) ** 2).sum(axis=1)) * 74 + 1
    reals = spread ** random.uniform(-1, 1, len(w)) * 60 / norm
    b = np.rint(random.uniform(-1, 1, len(w)) * norm).astype(np.int32)
    return b, multipliers(reals), random.integers(-900, 900, len(w), np.int32)


def array_text(name: str, data: Array) -> str:
    """A constant array in C, 16-byte aligned."""
    kind = f"{data.dtype.name}_t"
    values = ",".join(map(str, data.ravel().tolist())) or "0"
    return f"static const {kind} EMX_ALIGNED(16) {name}[] = {{{values}}};\n"


HEAD = """
#include <emx/emx.h>
%(headers)s
#include "emx_port.h"
#include <stdio.h>

enum { ROOM = %(room)d, GUARD = 32 };
static int8_t EMX_ALIGNED(16) pool[3 * ROOM], EMX_ALIGNED(16) y_memory[ROOM],
    EMX_ALIGNED(16) scratch_memory[%(scratch)d + 2 * GUARD];

static void check(const char *what, int distance, const int8_t *y, const int8_t *want, int n)
{
    for (int i = 0; i < n; i++) {
        if (y[i] != want[i]) {
            printf("%%s %%d [%%d] is %%d, not %%d\\n", what, distance, i, y[i], want[i]);
            return;
        }
    }
    printf("%%s %%d good\\n", what, distance);
}

static void guard(const char *what, const int8_t *memory, int n)
{
    for (int i = 0; i < GUARD; i++) {
        if (memory[i] != 0x55 || memory[GUARD + n + i] != 0x55) {
            printf("%%s is written outside\\n", what);
            return;
        }
    }
}
"""

# One kernel: with memory of its own, then with y `d` bytes before an operand.
CASE = """
static void %(name)s(void)
{
%(data)s
    static const %(struct)s p = {
        %(fields)s
    };
    const int moves[][3] = {%(moves)s{-1, 0, 0}};
    int8_t *const y = y_memory + GUARD, *const scratch = scratch_memory + GUARD;
    int8_t *moved = NULL;
    (void)moved;
    memset(y_memory, 0x55, sizeof y_memory);
    memset(scratch_memory, 0x55, sizeof scratch_memory);
    %(clock)s
    %(own)s;
    %(stop)s
    check("%(name)s", -1, y, want, %(bytes)d);
    guard("%(name)s y", y_memory, %(bytes)d);
    guard("%(name)s scratch", scratch_memory, %(scratch)d);
    for (int i = 0; moves[i][0] >= 0; i++) {
        const int d = moves[i][1];
        int8_t *const to = pool + ROOM + (d < 0 ? -d : 0);
        moved = to + d;
        switch (moves[i][0]) {
%(switch)s
        }
        check(moves[i][2] ? "close %(name)s" : "%(name)s", d, to, want, %(bytes)d);
    }
}
"""
CLOCK = "const uint64_t start = emx_port_ticks();"
STOP = """printf("ticks %s %%u\\n", (unsigned)(emx_port_ticks() - start));"""


def _case(name: str, layer: Layer, kernel: Kernel, *, measure: bool) -> str:
    operands = {k: layer.arrays[i] for k, i in kernel.inputs.items()}
    arrays = {**operands, **kernel.weights, "want": layer.expected}
    overlap = [k for k in operands if k in kernel.overlap]
    moves = [(i, *move) for i, k in enumerate(overlap) for move in _moves(kernel.overlap[k])]
    rows = [
        f"        case {i}: memcpy(moved, {k}, sizeof {k}); {_call(kernel, k)}; break;"
        for i, k in enumerate(overlap)
    ]
    return CASE % {
        "name": name,
        "data": "".join("    " + array_text(k, a) for k, a in arrays.items()),
        "struct": kernel.struct,
        "fields": "\n        ".join(initialiser(kernel)),
        "bytes": layer.expected.size,
        "scratch": kernel.scratch_bytes,
        "moves": "".join(f"{{{i}, {d}, {close}}}, " for i, d, close in moves),
        "own": _call(kernel, None),
        "switch": "\n".join(rows),
        "clock": CLOCK if measure else "",
        "stop": STOP % name if measure else "",
    }


def _moves(trace: Trace) -> list[tuple[int, int]]:
    """How far y starts before the operand, in the tests; 1 if that is one byte too close."""
    least = trace.distance()
    inside = trace.in_place()
    found = [(least + more, 0) for more in BEYOND] + ([(0, 0)] if inside and least else [])
    return found + ([(least - 1, 1)] if least > 1 or (least and not inside) else [])


def _call(kernel: Kernel, moved: str | None) -> str:
    """The call with memory of its own, or with y and an operand in the pool."""
    arguments = ["&p"]
    for k in kernel.operands:
        arguments.append("moved" if k == moved else ("to" if moved else "y") if k == "y" else k)
    return f"{kernel.function}({', '.join(arguments)})"


def program_text(
    layers: Mapping[str, Layer], target: str, wishes: Wishes, *, measure: bool = False
) -> str:
    """A program that calls every kernel of every layer and says what was good and what wrong."""
    kernels = {
        f"{name}_{i}": (layer, kernel)
        for name, layer in layers.items()
        for i, kernel in enumerate(layer.kernels(target, wishes))
    }
    room = 128 + max(a.size for layer in layers.values() for a in (*layer.arrays, layer.expected))
    scratch = max(k.scratch_bytes for _, k in kernels.values())
    dot = find_target(target).dot
    headers = "".join(
        f"#include <emx/kernels/{h}.h>\n" for h in sorted({k.header for _, k in kernels.values()})
    )
    define = "" if dot == "generic" else f"#define EMX_DOT_{dot.upper()}\n"
    parts = [define + HEAD % {"headers": headers, "room": room, "scratch": scratch}]
    parts += [_case(name, *pair, measure=measure) for name, pair in kernels.items()]
    calls = "".join(f"    {name}();\n" for name in kernels)
    return "".join(parts) + f"int main(void)\n{{\n{calls}    return 0;\n}}\n"


def run_kernels(
    layers: Mapping[str, Layer],
    directory: Path,
    machine: str,
    *flags: str,
    target: str = "",
    wishes: Wishes = Wishes(),  # noqa: B008
    measure: bool = False,
) -> list[str]:
    """Lines of the program, for the machine's target or `target`; not of calls with y too close,
    which need not be right, and of which most must not be."""
    where = find_machine(machine)
    source = directory / "kernels.c"
    source.write_text(program_text(layers, target or where.target, wishes, measure=measure))
    sources = (source, where.timer) if measure else (source,)
    program = Program(sources, include=(directory,), flags=("-std=gnu11", *flags))
    done = run(where, build(where, program, directory / "kernels"), cwd=directory, counted=measure)
    assert done.code == 0, done.output
    lines = done.output.splitlines()
    close = [line for line in lines if line.startswith("close ")]
    loose = [line for line in close if line.endswith("good")]
    assert len(loose) * 5 <= len(close), loose  # else distances could be smaller
    return [line for line in lines if line not in close]
