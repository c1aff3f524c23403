# SPDX-License-Identifier: Apache-2.0
"""The twin: what it expects of the C, how closely, and that the test program holds the C to it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed

from board_sets import KINDS
from emx import api
from emx.build import find_machine, run
from emx.bundle import Vectors
from emx.check_plan import check
from emx.emit import Artifacts, emit
from emx.ir import Array, DType, Eager, Graph, Node, Op, Origin, TensorType, Value, verify
from emx.ops.movement import Permute
from emx.ops.quantize import Dequantize, Quantize
from emx.ops.softmax import Softmax
from emx.ops.table_s8 import TableS8, table_of
from emx.options import Options
from emx.paths import root
from emx.plan import plan
from emx.pointwise import Pointwise
from emx.quant import Quant
from emx.scalars import Call
from emx.select import own_outputs, select
from emx.target import find_target
from emx.testrun import build_test
from emx.twin import EXACT, PYTORCH, TWIN, Tolerance, expected, tolerances

N, COUNT = 24, 3
QX, QY = Quant(0.05, -3), Quant(0.02, 10)
FLOATS = Tolerance(1e-4, 1e-6)


def chain(name: str, *ops: Op, quants: tuple[Quant | None, Quant | None] = (None, None)) -> Graph:
    """x -> ops, one after the other -> y. Each is a line of net.py. Tables are of sigmoid."""
    constants: dict[str, Array] = {}
    x = value = Value("x", TensorType((2, N // 2), DType.S8 if quants[0] else DType.F32))
    nodes = []
    for i, op in enumerate(ops):
        inputs = [value]
        if isinstance(op, TableS8):
            table = table_of(op.x, op.y, lambda v: 1 / (1 + np.exp(-v)))
            constants["table"] = table
            inputs.append(Value("table", TensorType((256,), DType.S8)))
        t = op.infer(*(v.type for v in inputs))
        value = Value(f"{op.name}_{i}", t, Eager(f"{op.name}_{i}", tuple(range(t.rank))))
        origin = Origin("", f"net.py:{i + 1}", op.name)
        nodes.append(Node(op, tuple(inputs), (value,), origin))
    known = {v.name: q for v, q in zip((x, value), quants, strict=True) if q}
    graph = Graph(name, (x,), (value,), ("y",), tuple(nodes), constants, quants=known)
    verify(graph)
    return graph


TABLE = TableS8(QX, QY)
INSIDE = chain("inside", Quantize(QX), TABLE, Dequantize(QY))
INTEGER = chain("integer", TABLE, quants=(QX, QY))
ISLAND = chain(
    *("island", Quantize(QX), Permute((1, 0)), Dequantize(QX), Softmax(1)),
    *(Quantize(QX), Permute((1, 0)), TABLE, Dequantize(QY)),
)
FLOAT = chain("floats", Softmax(1), Permute((1, 0)))


def vectors(layers: dict[str, Array] | None = None) -> Vectors:
    """Floats that fill the range of QX and a little more. What PyTorch gave is of no interest."""
    x = np.linspace(-8, 7, COUNT * N, dtype=np.float32).reshape(COUNT, 2, N // 2)
    return Vectors({"x": x}, {"y": np.zeros_like(x)}, layers or {})


def artifacts(graph: Graph, target: str, options: Options) -> Artifacts:
    graph = own_outputs(graph)
    planned = plan(select(graph, find_target(target), io_arena=options.io_arena))
    check(planned)
    want = expected(graph, vectors(), Tolerance(options.rtol, options.atol))
    return emit(planned, options, model_hash="0" * 64, expected=want, version="0.1.0")


def sigmoid_by_hand(x: Array) -> Array:
    """What the chain of INTEGER gives, in plain float32 steps of PyTorch."""
    wide = (x.astype(np.float32) - QX.zero) * np.float32(QX.scale)
    y = (1 / (1 + np.exp(-wide.astype(np.float64)))).astype(np.float32)
    return np.clip(np.rint(y * np.float32(1 / QY.scale)) + QY.zero, -128, 127).astype(np.int8)


def quantised_by_hand(x: Array) -> Array:
    return np.clip(np.rint(x * np.float32(1 / QX.scale)) + QX.zero, -128, 127).astype(np.int8)


def test_integers_in_and_out() -> None:
    want = expected(INTEGER, vectors(), FLOATS)
    x = quantised_by_hand(vectors().inputs["x"])
    assert want.source == TWIN and want.count == COUNT
    np.testing.assert_array_equal(want.inputs["x"], x)
    np.testing.assert_array_equal(want.outputs["y"], sigmoid_by_hand(x))
    np.testing.assert_array_equal(want.layers["table_s8_0"], sigmoid_by_hand(x[0]))
    assert {want.inputs["x"].dtype, want.outputs["y"].dtype} == {np.dtype("i1")}
    assert len(np.unique(x)) > 60 and len(np.unique(want.outputs["y"])) > 30


def test_floats_in_and_out_of_integers() -> None:
    want = expected(INSIDE, vectors(), FLOATS)
    np.testing.assert_array_equal(want.inputs["x"], vectors().inputs["x"])
    y = sigmoid_by_hand(quantised_by_hand(vectors().inputs["x"])).astype(np.float32)
    np.testing.assert_array_equal(want.outputs["y"], (y - QY.zero) * np.float32(QY.scale))
    assert want.outputs["y"].dtype == np.float32
    assert {*want.tolerances.values(), *want.layer_tolerances.values()} == {EXACT}


def test_what_is_not_quantised_is_as_pytorch_gave_it() -> None:
    layer = np.arange(N, dtype=np.float32).reshape(2, N // 2)
    want = expected(FLOAT, vectors({"softmax_0": layer}), FLOATS)
    assert want.source == PYTORCH
    np.testing.assert_array_equal(want.outputs["y"], 0 * want.inputs["x"])
    np.testing.assert_array_equal(want.layers["softmax_0"], layer)
    assert {*want.tolerances.values(), *want.layer_tolerances.values()} == {FLOATS}


def test_tolerance_follows_a_layer_in_float() -> None:
    found = tolerances(ISLAND, FLOATS)
    rough = Tolerance(atol=2)
    assert [found[n.output.name] for n in ISLAND.nodes] == [
        *(EXACT, EXACT, EXACT, FLOATS),  # quantised, permuted, dequantised; softmax
        *(rough, rough, rough, Tolerance(1e-6, 2 * QY.scale)),
    ]
    behind = chain("behind", Softmax(1), Quantize(QX), Dequantize(QX), Softmax(1), Permute((1, 0)))
    assert tolerances(behind, FLOATS)["permute_4"] == Tolerance(rtol=2 / 128)


def test_a_loop_that_rounds_floats_inside_may_be_off_by_steps() -> None:
    """A product beside a sum may become one fused multiply-add; a product alone is one rounding."""
    real = Call("mul", (Call("sub", (Call("f32", (0,)), 3.0)), 0.05))
    for inside, tolerance in (
        (Call("neg", (real,)), EXACT),
        (Call("maximum", (real, 0.5)), EXACT),
        (Call("add", (real, 0.5)), Tolerance(atol=2)),
        (Call("exp", (real,)), Tolerance(atol=2)),
    ):
        op = Pointwise(Call("quantize_s8", (inside, 20.0, 3.0, -128.0, 127.0)))
        graph = chain("loop", op, quants=(QX, QX))
        assert tolerances(graph, FLOATS)["pointwise_0"] == tolerance


def run_test(directory: Path, graph: Graph, machine: str = "host") -> tuple[int, str]:
    """Exit code and text of the test program that was generated into `directory`."""
    where = find_machine(machine)
    program = build_test(where, directory, graph.name, ("emx_test.c", "emx_print.c"))
    done = run(where, program, cwd=directory)
    return done.code, done.output


@pytest.mark.parametrize("machine", ("host", *KINDS))
@pytest.mark.parametrize("graph", [INTEGER, INSIDE, ISLAND], ids=lambda g: g.name)
def test_c_is_the_twin(tmp_path: Path, machine: str, graph: Graph) -> None:
    for io_arena in (False, True):
        options = Options(test=True, taps=True, io_arena=io_arena)
        api.write(artifacts(graph, find_machine(machine).target, options), tmp_path)
        code, text = run_test(tmp_path, graph, machine)
        assert code == 0, text
        assert f"emx: pass {graph.name}: output y agrees with the Python twin" in text
        assert ("max abs 0, tolerance 0," in text) == (graph is not ISLAND)


def planted(directory: Path, graph: Graph, *, taps: bool, steps: int) -> tuple[int, str]:
    """The test of C whose table is wrong by `steps` at one element."""
    files = artifacts(graph, "host", Options(test=True, taps=taps))
    api.write(files, directory)
    source = directory / f"{graph.name}.c"
    call = "    emx_table_s8(&p, x, table, y);\n"
    right = source.read_text()
    assert right.count(call) == 1
    source.write_text(right.replace(call, f"{call}    y[5] = (int8_t)(y[5] + {steps});\n"))
    return run_test(directory, graph)


@pytest.mark.parametrize("graph", [INTEGER, INSIDE], ids=lambda g: g.name)
def test_one_bit_is_noticed(tmp_path: Path, graph: Graph) -> None:
    code, text = planted(tmp_path, graph, taps=True, steps=1)
    i = [n.op for n in graph.nodes].index(TABLE)
    assert code == 1
    name = "y" if graph is INTEGER else f"table_s8_{i}"
    assert f"emx: FAIL {graph.name}: layer {name} diverges from the Python twin" in text
    assert f"  at      net.py:{i + 1}: table_s8" in text
    assert "  worst   [5] is 11, the Python twin gave 10 (max abs 1, tolerance 0)" in text
    code, text = planted(tmp_path, graph, taps=False, steps=1)
    assert code == 1
    assert f"emx: FAIL {graph.name}: output y differs from the Python twin" in text


@pytest.mark.parametrize(("steps", "code"), [(2, 0), (3, 1)])
def test_behind_a_layer_in_float_two_steps_are_allowed(
    tmp_path: Path, steps: int, code: int
) -> None:
    assert planted(tmp_path, ISLAND, taps=True, steps=steps)[0] == code


# Halves between steps, where inverse and product are exact; ends; values that are no numbers.
EDGES = (0.0, -0.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.5, 1.5, 2.5, -0.5, -1.5)


@pytest.mark.parametrize("compiler", ["gcc -std=c99", "g++ -x c++", "arm-none-eabi-gcc -std=c99"])
def test_header_quantises_as_pytorch(tmp_path: Path, compiler: str) -> None:
    """The helpers of the header, on any float, and its macros; without a warning."""
    q, y = Quant(0.25, -3, lo=-100, hi=90), Quant(0.02, 10)
    graph = chain("header", replace(TABLE, x=q), quants=(q, y))
    random = np.random.default_rng(0).normal(0, 20, 500).astype(np.float32)
    halves = np.arange(-120, 120, dtype=np.float32) * np.float32(0.125)
    x = np.concatenate([np.array(EDGES, np.float32), random, halves])
    api.write(artifacts(graph, "generic", Options()), tmp_path)
    (tmp_path / "main.c").write_text(MAIN.replace("COUNT", str(len(x))))
    command = [*compiler.split(), *WARNINGS, f"-I{root() / 'runtime/include'}", "main.c", "-lm"]
    if compiler.startswith("arm"):
        subprocess.run([*command, "-c"], cwd=tmp_path, check=True)
        return
    subprocess.run([*command, "-o", "main"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [tmp_path / "main"], input=x.tobytes(), stdout=subprocess.PIPE, check=True
    )
    found = np.frombuffer(done.stdout, np.dtype([("q", "i1", len(x)), ("y", "<f4", 256)]))[0]
    ops = torch.ops.quantized_decomposed
    want = ops.quantize_per_tensor(torch.from_numpy(x), 0.25, -3, -100, 90, torch.int8).numpy()
    numbers = ~np.isnan(x)
    np.testing.assert_array_equal(found["q"][numbers], want[numbers])
    assert set(found["q"][~numbers]) == {q.lo}
    every = torch.arange(-128, 128, dtype=torch.int8)
    want = ops.dequantize_per_tensor(every, 0.02, 10, -128, 127, torch.int8).numpy()
    np.testing.assert_array_equal(found["y"], want)


WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wdouble-promotion",
            "-Werror")  # fmt: skip
MAIN = """
#include "header.h"
#include <stdio.h>

static float x[COUNT], y[256];
static int8_t q[COUNT];

int main(void)
{
    if (HEADER_X_SCALE != 0.25f || HEADER_X_ZERO_POINT != -3 || HEADER_Y_SCALE != 0.02f ||
        HEADER_Y_ZERO_POINT != 10 || fread(x, sizeof x[0], COUNT, stdin) != COUNT)
        return 1;
    for (int i = 0; i < COUNT; i++)
        q[i] = header_quantize_x(x[i]);
    for (int i = 0; i < 256; i++)
        y[i] = header_dequantize_y((int8_t)(i - 128));
    return fwrite(q, 1, sizeof q, stdout) != sizeof q || fwrite(y, 1, sizeof y, stdout) != sizeof y;
}
"""
