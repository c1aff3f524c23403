# SPDX-License-Identifier: Apache-2.0
"""Random networks whose first layers can run row by row, and a program that runs each group of them
so, beside the network as a whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import emx
from emx.api import write
from emx.build import Program, build, find_machine, run
from emx.check_plan import check
from emx.emit import emit
from emx.groups import groups
from emx.kernel import Wishes
from emx.load import load
from emx.options import Options
from emx.passes import run as run_passes
from emx.plan import plan
from emx.program import Plan
from emx.select import bind, offer, own_outputs
from emx.target import find_target
from emx.version import VERSION


class Block(nn.Module):
    """A layer on an image; `residual` adds what came in."""

    def __init__(self, pick: random.Random, channels: int) -> None:
        super().__init__()
        kind = pick.choice(("conv", "conv", "depthwise", "depthwise", "pointwise", "pool", "act"))
        kernel = pick.choice((1, 2, 3, 3, 5))
        stride, dilation = pick.choice((1, 1, 2)), pick.choice((1, 1, 1, 2))
        padding = pick.randint(0, kernel // 2)
        self.out = channels if kind in ("depthwise", "pool", "act") else pick.choice((4, 5, 8))
        groups = channels if kind == "depthwise" else 1
        self.layer: nn.Module = nn.Sequential(
            nn.ZeroPad2d([pick.randint(0, 2) for _ in range(4)]) if kernel > 2 else nn.Identity(),
            nn.Conv2d(channels, self.out, kernel, stride, padding, dilation, groups),
        )
        if kind == "pointwise":
            self.layer = nn.Conv2d(channels, self.out, 1, pick.choice((1, 1, 2)))
        elif kind == "pool":
            pools = (
                nn.MaxPool2d(3, 2, 1),
                nn.AvgPool2d(3, 1, 1),
                nn.AvgPool2d(2, 2, ceil_mode=True),
            )
            self.layer = pick.choice(pools)
        elif kind == "act":
            self.layer = pick.choice((nn.Sigmoid(), nn.Hardswish()))
        self.act = pick.choice((nn.ReLU(), nn.Identity()))

        self.joins = kind != "act" and pick.random() < 0.2
        self.out += channels if self.joins and self._keeps(channels) else 0

    def _keeps(self, channels: int) -> bool:
        """Whether the image is as large as before."""
        shape = (1, channels, 12, 12)
        return bool(self.layer(torch.zeros(shape)).shape[2:] == shape[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        if self.joins and x.shape[2:] == y.shape[2:]:
            return torch.cat((x, self.act(y)), 1)
        return self.act(x + y if x.shape == y.shape else y)


class Net(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        pick = random.Random(seed)
        torch.manual_seed(seed)
        channels = pick.choice((1, 3, 4))
        self.shape = (1, channels, pick.randint(12, 20), pick.randint(9, 14))
        self.blocks = nn.ModuleList()
        for _ in range(pick.randint(3, 6)):
            self.blocks.append(Block(pick, channels))
            channels = self.blocks[-1].out
        self.pool = pick.choice((F.adaptive_avg_pool2d, F.adaptive_max_pool2d, None))
        self.fc = nn.Linear(channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.pool is None else self.fc(self.pool(x, 1).flatten(1)).softmax(1)


def network(seed: int) -> Net:
    """The seeded one, or the next whose image does not vanish."""
    while True:
        net = Net(seed).eval()
        try:
            net(torch.zeros(net.shape))
            return net
        except RuntimeError:
            seed += 1000


@cache
def bundle(seed: int) -> emx.Bundle:
    net = network(seed)
    return emx.export(net, (torch.randn(net.shape),), name=f"net{seed}", vectors=2)


@cache
def integer_bundle(seed: int) -> emx.Bundle:
    net = network(seed)
    given = torch.randn(16, *net.shape).numpy()
    one = (torch.from_numpy(given[0]),)
    return emx.export(net, one, name=f"int{seed}", quantize="int8", calibration=given, vectors=2)


def streams(b: emx.Bundle, target: str) -> Iterator[tuple[Plan, bool]]:
    """A plan for every group of first layers, each with random kernels; whether its outputs lie in
    the arena."""
    pick = random.Random(b.name)
    graph = own_outputs(run_passes(load(b)))
    for fed in (False, True) if len(graph.inputs) == 1 else (False,):
        for k, io_arena in enumerate((False, True)):
            named = replace(graph, name=f"{graph.name}_{'fed' if fed else 'rows'}{k}_")
            first = offer(named, find_target(target), Wishes(), io_arena=io_arena)
            for n, group in enumerate(groups(first, fed=fed)):
                offered = replace(first, graph=replace(named, name=f"{named.name}{n}"))
                picks = {layer.name: layer.fastest for layer in offered.layers}
                for layer, rows in zip(offered.layers, group.rows, strict=False):
                    picks[layer.name] = pick.choice(list(rows.kernels))
                planned = plan(bind(offered, picks, group))
                check(planned)
                yield planned, io_arena


DRIVER = """
#include "{base}.h"
{includes}
#include <stdio.h>
#include <string.h>
extern const unsigned char {base}_vectors[];
__attribute__((aligned(8))) static unsigned char want[{y_bytes}], got[{y_bytes}];
{functions}
int main(void)
{{
    int bad = 0;
    for (int v = 0; v < 2; v++) {{
        const void *const x = {base}_vectors + v * {x_bytes};
        {base}_run(x, (void *)want);
        {calls}
    }}
    return bad;
}}
"""
CALL = """memset(got, 0x55, sizeof got);
        {run}(x);
        if (memcmp(got, want, sizeof got)) {{ bad = 1; printf("%s\\n", "{run}"); }}
"""
WHOLE = """
static void run_{name}(const void *x) {{ {name}_run(x, (void *)got); }}
"""
ARENA = """
static void run_{name}(const void *x)
{{
    memcpy({name}_{x}(), x, {x_bytes});
    {name}_run();
    memcpy(got, {name}_{y}(), sizeof got);
}}
"""
FED = """
static void run_{name}(const void *x)
{{
    const {c} *const image = x;
    static {c} row[{length}];
    for (int r = 0; r < {rows}; r++) {{
        for (int i = 0; i < {length}; i++) {{
            row[i] = image[(i % {planes} * {rows} + r) * {width} + i / {planes}];
        }}
        if ({name}_feed_row((uint32_t)r, row{y}) != (r == {rows} - 1)) {{
            printf("row %d of {name}\\n", r);
        }}
    }}
    {copy}
}}
"""


def function(planned: Plan, io_arena: bool) -> str:
    """The C function that runs a stream on an image as the model has it."""
    program = planned.program
    (_, x), (_, y) = program.inputs[0], program.outputs[0]
    x_type = program.buffers[x].type
    if program.fed:
        stream = program.steps[0].stream
        assert stream
        rows = stream.lines[x].height
        length = x_type.size // rows
        return FED.format(
            name=program.name, c=x_type.dtype.c, rows=rows, length=length, planes=stream.fed,
            width=length // stream.fed, y="" if io_arena else ", (void *)got",
            copy=f"memcpy(got, {program.name}_{y}(), sizeof got);" if io_arena else "",
        )  # fmt: skip
    text = ARENA if io_arena else WHOLE
    return text.format(name=program.name, x=x, y=y, x_bytes=x_type.bytes)


def run_streams(b: emx.Bundle, directory: Path, machine: str, flags: tuple[str, ...]) -> int:
    """All streams of a model beside its run as a whole; how many there are."""
    where = find_machine(machine)
    options = Options(test=True)
    emx.compile(b, target=where.target, out_dir=directory, options=options)
    (directory / f"{b.name}_test.c").unlink()
    found = list(streams(b, where.target))
    if not found:
        return 0
    for planned, io_arena in found:
        made = emit(
            planned, Options(io_arena=io_arena), model_hash="0" * 64, expected=None, version=VERSION
        )
        write(made, directory)
    names = [p.program.name for p, _ in found]
    program = found[0][0].program
    text = DRIVER.format(
        base=b.name,
        includes="\n".join(f'#include "{n}.h"' for n in names),
        x_bytes=program.buffers[program.inputs[0][1]].type.bytes,
        y_bytes=program.buffers[program.outputs[0][1]].type.bytes,
        functions="".join(function(*f) for f in found),
        calls="        ".join(CALL.format(run=f"run_{n}") for n in names),
    )
    (directory / "main.c").write_text(text)
    sources = Program(
        tuple(sorted(directory.glob("*.c"))), include=(directory,), flags=("-std=gnu11", *flags)
    )
    done = run(where, build(where, sources, directory / "streams"), cwd=directory)
    assert done.code == 0 and not done.output, done.output
    return len(found)
