# SPDX-License-Identifier: Apache-2.0
"""The memory contract of the kernels, by brute force: C whose output overlaps its input.

A Trace says how far before an operand the output may start. Here every instance runs once with
memory of its own and once in one buffer, at that distance and beyond: the same bits come out.
One element less, and they must not: that shows that the distances are not larger than need be,
and that this test can fail. Kernels of int8 have tests of their own (tests/kernels_s8.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import emx
from emx import passes
from emx.build import Program, build, find_machine, run
from emx.ir import DType
from emx.load import load
from emx.program import Instance, Step
from emx.program import Program as Kernels
from emx.select import select
from emx.target import find_target
from golden_models import NAMES, golden_bundle
from many import hosts
from sampled import sampled_bundles

MODULES = (
    "adaptive_pool",
    "conv2d",
    "conv3d",
    "group_norm",
    "layer_norm",
    "linear",
    "pointwise",
    "pool2d",
    "resample",
    "rms_norm",
    "rnn",
    "softmax",
)
BEYOND = (0, 4, 16, 100)  # bytes further than the distance; all must do

DRIVER = """
#include "{file}.c"
#include <stdio.h>
#include <string.h>

enum {{ ROOM = {room}, POOL = {pool} }};
extern unsigned char pool[]; // of all drivers: they run one after the other
static unsigned char (*const memory)[ROOM] = (unsigned char (*)[ROOM])pool;
static unsigned char *const shared = pool + {count} * ROOM;
static unsigned char *const want = pool + ({count} + 3) * ROOM;

static void fill(float *x, uint32_t seed)
{{
    for (int i = 0; i < ROOM / 4; i++) {{
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }}
}}

{functions}
void drive_{file}(void);
void drive_{file}(void)
{{
    {calls}
}}
"""
# One operand of one call; y starts `distance` bytes before it, never before `shared`.
FUNCTION = """
static int {name}_same(int distance)
{{
    float *const x = (float *)(void *)(shared + ROOM + (distance > 0 ? distance : 0));
    float *const y = (float *)(void *)(shared + ROOM - (distance < 0 ? distance : 0));
    memcpy(x, memory[{index}], {x_bytes});
    {shared_call};
    return memcmp(y, want, {y_bytes}) == 0;
}}

static void {name}(void)
{{
    for (int i = 0; i < {count}; i++) {{
        fill((float *)(void *)memory[i], (uint32_t)i + {seed}u);
    }}
    float *const y = (float *)(void *)want;
    {own_call};
    int good = 1;
    {checks}
    printf("{name} %d %d\\n", good, {name}_same({distance} - 4));
}}
"""


@dataclass(frozen=True)
class Case:
    """Operand `operand` of a step: how far the contract says that y may start before it."""

    name: str
    step: Step
    instance: Instance
    operand: str
    x_bytes: int
    y_bytes: int
    distance: int
    in_place: bool


def kernels_of(bundle: emx.Bundle, target: str) -> Kernels:
    return select(passes.run(load(bundle)), find_target(target))


def cases(bundle: emx.Bundle, program: Kernels) -> list[Case]:
    found = []
    for step in program.steps:
        for operand, trace in step.kernel.overlap.items():
            if operand in step.reads and not step.kernel.header.endswith(("_s8", "_mixed")):
                found.append(
                    Case(
                        name=f"{bundle.name}_{step.name}_{operand}",
                        step=step,
                        instance=program.instances[step.instance],
                        operand=operand,
                        x_bytes=program.buffers[step.reads[operand]].type.bytes,
                        y_bytes=program.buffers[step.writes].type.bytes,
                        distance=trace.distance(),
                        in_place=trace.in_place(),
                    )
                )
    return found


def call(bundle: emx.Bundle, case: Case, shared: bool) -> str:
    """The call of the instance; every operand has its row of `memory`, or is x in `shared`."""
    arguments = [f"&{case.step.name}_at"] if case.instance.varying else []
    weights = f"((const {bundle.name}_weights_t *)(const void *){bundle.name}_weights)"
    for i, operand in enumerate(case.step.kernel.operands):
        if operand in case.step.weights:
            arguments.append(f"{weights}->{case.step.weights[operand]}")
        elif operand == "y" or (shared and operand == case.operand):
            arguments.append("y" if operand == "y" else "x")
        else:
            arguments.append(f"(const float *)(const void *)memory[{i}]")
    return f"{case.instance.name}({', '.join(arguments)})"


def function(bundle: emx.Bundle, case: Case, seed: int) -> str:
    checks = [f"good &= {case.name}_same({case.distance} + {more});" for more in BEYOND]
    if case.in_place:
        checks.append(f"good &= {case.name}_same(0);")
    return FUNCTION.format(
        name=case.name,
        index=case.step.kernel.operands.index(case.operand),
        count=len(case.step.kernel.operands),
        x_bytes=case.x_bytes,
        y_bytes=case.y_bytes,
        seed=seed,
        own_call=call(bundle, case, shared=False),
        shared_call=call(bundle, case, shared=True),
        checks="\n    ".join(checks),
        distance=case.distance,
    )


def write_driver(directory: Path, bundle: emx.Bundle, target: str) -> list[Case]:
    """The C of one bundle and its driver, which includes it; the cases that the driver runs."""
    program = kernels_of(bundle, target)
    found = cases(bundle, program)
    if not found:
        return []
    emx.compile(bundle, target=target, out_dir=directory, options=emx.Options(arena="caller"))
    sizes = [b.bytes for b in program.buffers.values()] + [c.distance for c in found]
    count = max(len(c.step.kernel.operands) for c in found)
    room = -(-(max(sizes) + 128) // 64) * 64
    text = DRIVER.format(
        file=bundle.name,
        room=room,
        pool=(count + 4) * room,
        count=count,
        functions="".join(function(bundle, c, 7 * i) for i, c in enumerate(found)),
        calls="\n    ".join(f"{c.name}();" for c in found),
    )
    (directory / f"drive_{bundle.name}.c").write_text(text)
    return found


def run_all(directory: Path, machine_name: str, flags: tuple[str, ...]) -> dict[str, list[str]]:
    """Case -> [same bits, same bits with one element less] as the program printed them."""
    machine = find_machine(machine_name)
    names = sorted(p.stem for p in directory.glob("drive_*.c"))
    pools = re.findall(r"POOL = (\d+)", "".join((directory / f"{n}.c").read_text() for n in names))
    main = f"unsigned char __attribute__((aligned(64))) pool[{max(map(int, pools))}];\n"
    main += "".join(f"void {n}(void);\n" for n in names)
    main += (
        f"int main(void)\n{{\n{''.join(f'    {n}();{chr(10)}' for n in names)}    return 0;\n}}\n"
    )
    (directory / "main.c").write_text(main)
    sources = (
        *(directory / f"{n}.c" for n in (*names, "main")),
        *sorted(directory.glob("*_weights.c")),
    )
    program = Program(sources, include=(directory,), flags=("-std=gnu11", *flags))
    done = run(machine, build(machine, program, directory / "overlap"), cwd=directory)
    assert done.code == 0, done.output
    return {name: rest for name, *rest in map(str.split, done.output.splitlines())}


def bundles() -> list[emx.Bundle]:
    """Of the samples in float32; the pointwise ones differ only in their shapes."""
    chosen = {}
    for b in sampled_bundles():
        types = [t for _, t in b.inputs]
        module = b.name.rpartition("_")[0]
        if module in MODULES and all(t.dtype is DType.F32 for t in types):
            shapes = str([t.dims for t in types])
            chosen[shapes if b.name.startswith("pointwise") else b.name] = b
    return [*chosen.values(), *map(golden_bundle, NAMES)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "level"),
    [*((h, "-O2") for h in hosts()), ("host", "-Os"), ("mps3-an547", "-O2"), ("mps3-an547", "-Os")],
)
def test_overlap_is_safe_and_tight(tmp_path: Path, machine: str, level: str) -> None:
    """Also at -Os, where kernels have fewer kinds of tiles."""
    target = find_machine(machine).target
    found = [c for b in bundles() for c in write_driver(tmp_path, b, target)]
    assert {c.step.kernel.header for c in found} == {*MODULES, "dwconv2d"}
    assert any(c.in_place and c.operand == "skip" for c in found)
    results = run_all(tmp_path, machine, (level,))
    assert sorted(results) == sorted(c.name for c in found)
    unsafe = [c.name for c in found if results[c.name][0] != "1"]
    assert not unsafe
    chasing = [c for c in found if c.distance]
    loose = [c.name for c in chasing if results[c.name][1] == "1"]
    assert len(chasing) > 20 and len(loose) <= len(chasing) // 10, loose
