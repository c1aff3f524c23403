# SPDX-License-Identifier: Apache-2.0
"""Large models: work that grows with the graph, memory that grows with the weights."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from emx.api import generate
from emx.bundle import Arg, AtenNode, Bundle, Ref, Vectors
from emx.ir import Array, Origin, TensorType
from emx.options import Options
from emx.target import find_target

MB = 1_000_000
SPEND = 60  # seconds of processor time for 500 MB of weights


@dataclass
class Net:
    """A bundle in the making: tensors of one shape, random weights."""

    shape: tuple[int, ...]
    nodes: list[AtenNode] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)

    def weight(self, *shape: int) -> Ref:
        name = f"w{len(self.tensors)}"
        self.tensors[name] = np.random.default_rng(len(self.tensors)).random(shape, np.float32)
        return Ref(name)

    def call(self, target: str, *args: Arg) -> Ref:
        name, i = f"n{len(self.nodes)}", len(self.nodes)
        origin = Origin(f"layers.{i}", "net.py:7", f"x = self.layers[{i}](x)")
        t = TensorType(self.shape)
        self.nodes.append(AtenNode(name, f"aten.{target}", args, {}, (t,), origin))
        return Ref(name)

    def bundle(self, y: Ref) -> Bundle:
        t, zero = TensorType(self.shape), np.zeros((1, *self.shape), np.float32)
        vectors = Vectors({"x": zero}, {"y": zero})
        return Bundle("net", (("x", t),), (("y", y),), tuple(self.nodes), self.tensors, vectors)


def residual(count: int, channels: int = 8, pixels: int = 8) -> Bundle:
    """Convolution, normalisation, activation, and the sum with what was there four nodes ago."""
    net, x = Net((1, channels, pixels, pixels)), Ref("x")
    while len(net.nodes) < count:
        w, b = net.weight(channels, channels, 3, 3), net.weight(channels)
        y = net.call("conv2d.default", x, w, b, (1, 1), (1, 1), (1, 1), 1)
        norm = [net.weight(channels) for _ in range(4)]
        y = net.call("batch_norm.default", y, *norm, False, 0.1, 1e-5, True)
        x = net.call("add.Tensor", net.call("relu.default", y), x)
    return net.bundle(x)


def branches(count: int) -> Bundle:
    """Fifty chains side by side, summed at the end."""
    net, ends = Net((1, 8)), list[Ref]()
    for _ in range(50):
        x = Ref("x")
        for _ in range(count // 100):
            x = net.call("linear.default", x, net.weight(8, 8), net.weight(8))
            x = net.call("softmax.int", x, 1)
        ends.append(x)
    total = ends[0]
    for end in ends[1:]:
        total = net.call("add.Tensor", total, end)
    return net.bundle(total)


def chain(count: int) -> Bundle:
    """One pointwise function after the other."""
    net, x = Net((1, 8)), Ref("x")
    for i in range(count):
        x = net.call(("tanh.default", "sigmoid.default", "neg.default")[i % 3], x)
    return net.bundle(x)


def reused(count: int) -> Bundle:
    """Pointwise functions that each take the last two results."""
    net, x, before = Net((1, 8)), Ref("x"), Ref("x")
    for i in range(count):
        row = ("mul.Tensor", "add.Tensor", "maximum.default")[i % 3]
        x, before = net.call(row, x, before), x
    return net.bundle(x)


def c_of(bundle: Bundle) -> str:
    files = generate(bundle, find_target("cortex-m4"), Options()).files
    return bytes(files["net.c"]).decode()


def calls(work: Callable[[], object]) -> int:
    """Python and built-in functions that were called: what a busy machine does not change."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("make", [residual, branches, chain, reused])
def test_work_grows_with_the_graph(make: Callable[[int], Bundle]) -> None:
    c_of(make(100))  # what is loaded and cached once
    bundles = [make(n) for n in (500, 1000, 2000)]
    small, middle, large = (calls(lambda b=b: c_of(b)) for b in bundles)
    assert middle < 2.4 * small and large < 2.4 * middle


@pytest.mark.slow
@pytest.mark.parametrize("make", [residual, branches, chain, reused])
def test_2000_nodes_take_seconds(make: Callable[[int], Bundle]) -> None:
    bundle = make(2000) if make is not residual else residual(2000, channels=32, pixels=16)
    start = time.process_time()
    text = c_of(bundle)
    assert time.process_time() - start < 10
    assert "void net_run(" in text


def test_expressions_stay_short() -> None:
    """However long the chain and however often a value is used: lines that one can read."""
    for bundle in (chain(600), reused(600)):
        assert max(map(len, c_of(bundle).splitlines())) < 1000


class Perceptron(nn.Sequential):
    """Layers of 16 MB each."""

    def __init__(self, layers: int) -> None:
        torch.manual_seed(0)
        pairs = [(nn.Linear(2048, 2048, bias=False), nn.ReLU()) for _ in range(layers)]
        super().__init__(*(m for pair in pairs for m in pair))


def save(layers: int, path: Path) -> int:
    """Write an archive of that many layers; the bytes of its weights."""
    with torch.no_grad():
        program = torch.export.export(Perceptron(layers).eval(), (torch.ones(1, 2048),))
    torch.export.save(program, path)
    return layers * 2048 * 2048 * 4


MEASURED = """
import sys, time
import numpy, jinja2, emx.api
if {torch}: import torch, emx.exporter.run
from emx.cli import main
start = time.process_time()
assert main(sys.argv[1:]) == 0
spent = time.process_time() - start
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024, spent)
"""


def measured(directory: Path, *arguments: str) -> tuple[int, float]:
    """(peak bytes in memory, seconds of processor time) of an emx command."""
    code = MEASURED.format(torch=arguments[0] == "export")
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    peak, seconds = done.stdout.split()[-2:]
    return int(peak), float(seconds)


def command_of(stage: str, name: str) -> list[str]:
    if stage == "export":
        return ["export", f"{name}.pt2", "-o", f"{name}.emx", "--vectors", "2"]
    more = {"compile": ["--test"], "plan": ["--plan-only"]}[stage]
    return ["compile", f"{name}.emx", "-o", "out", "--name", "net", *more]


@pytest.mark.slow
def test_memory_grows_as_the_weights_do(tmp_path: Path) -> None:
    grown = save(8, tmp_path / "large.pt2") - save(3, tmp_path / "small.pt2")
    for stage in ("export", "compile", "plan"):
        small, large = (measured(tmp_path, *command_of(stage, n))[0] for n in ("small", "large"))
        assert large - small < 1.5 * grown, stage


@pytest.mark.soak
def test_500_mb_of_weights(tmp_path: Path) -> None:
    """Exported, compiled and built in a minute of processor time and twice their size in memory."""
    weights = save(31, tmp_path / "net.pt2")
    assert weights > 500 * MB
    total = 0.0
    for stage in ("export", "compile"):
        peak, seconds = measured(tmp_path, *command_of(stage, "net"))
        assert peak < 2 * weights, stage
        total += seconds
    script = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
    script += "r = resource.getrusage(resource.RUSAGE_CHILDREN); "
    script += "print(r.ru_maxrss * 1024, r.ru_utime + r.ru_stime)"
    command = [sys.executable, "-c", script, "gcc", "-c", "net_weights.c", "-o", "net_weights.o"]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    peak, seconds = done.stdout.split()
    assert int(peak) < 2 * weights
    assert total + float(seconds) < SPEND
