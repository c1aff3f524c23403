# SPDX-License-Identifier: Apache-2.0
"""bench against figures that are known beforehand: models written to cost an exact amount."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from board_sets import EACH_COUNTING, KINDS, QUICK
from emx.bencher import bench
from emx.build import CONTRACT, FLAGS, counting_boards, find_machine
from emx.errors import EmxError
from emx.testrun import build_test
from tiny_model import N, Tiny

SOFT = {"microbit", "mps2-an385", "rv32-virt"}  # no FPU: floats are library calls
pytestmark = pytest.mark.slow  # each measurement builds two programs or three
LOOP = """
    #if defined(__riscv)
    { unsigned n = 1000000; __asm__ volatile("1: addi %0, %0, -1\\n\\tbnez %0, 1b" : "+r"(n)); }
    #else
    { unsigned n = 1000000; __asm__ volatile("1: subs %0, %0, #1\\n\\tbne 1b" : "+r"(n)::"cc"); }
    #endif
    """


@pytest.mark.parametrize("board", EACH_COUNTING)
def test_report(board: str) -> None:
    """The documented fields, in order, and the sums that the definitions demand."""
    model = Tiny()
    report = bench(model.bundle, model, target=board)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert list(data) == [
        "target", "instructions", "macs", "instructions_per_mac", "code_bytes", "weights_bytes",
        "arena_bytes", "arena_lower_bound", "io_bytes", "ram_bytes", "stack_bytes",
        "stack_bound_bytes", "flags",
    ]  # fmt: skip
    assert data["target"] == board and data["macs"] == N
    soft = board in SOFT
    assert (600 if soft else 20) < data["instructions"] < (3000 if soft else 300)
    assert data["instructions_per_mac"] == data["instructions"] / N
    assert (500 if soft else 60) < data["code_bytes"] < (4000 if soft else 600)
    assert (data["weights_bytes"], data["arena_bytes"], data["io_bytes"]) == (64, 32, 64)
    assert data["ram_bytes"] == 96
    assert 8 <= data["stack_bytes"] <= data["stack_bound_bytes"] <= (160 if soft else 64)
    assert data["flags"] == " ".join((*FLAGS, CONTRACT, *find_machine(board).flags))
    assert f"{data['instructions']:,}" in str(report)


@pytest.mark.parametrize("board", EACH_COUNTING)
def test_differences_between_models(board: str) -> None:
    """2,000,000 more instructions; 400 more bytes of stack; 64 more of static data."""
    deep = """
        static volatile int table[8] = {[3] = 1};
        static volatile char more[32];
        __attribute__((noinline)) static char deep(void) {
            volatile char a[400];
            a[0] = 1;
            return a[0];
        }"""
    costly = Tiny(globals=deep, extra=LOOP + "(void)table[3]; (void)more[5]; (void)deep();")
    plain = Tiny()
    a, b = (bench(m.bundle, m, target=board) for m in (plain, costly))
    assert 2_000_000 <= b.instructions - a.instructions <= 2_000_030
    own = 120 if board in SOFT else 40
    assert a.stack_bytes < own and 400 <= b.stack_bytes < 400 + own
    assert b.ram_bytes - a.ram_bytes == 64
    assert 32 + 20 < b.code_bytes - a.code_bytes < 32 + 120
    assert b.arena_bytes == a.arena_bytes


@pytest.mark.parametrize("board", KINDS)
def test_libm_libgcc_and_memcpy_count_as_code(board: str) -> None:
    """A model that needs them pays for them: the measuring program does not have them already."""
    plain = Tiny()
    base = bench(plain.bundle, plain, target=board).code_bytes
    for globals_, extra, least in (
        ("", "{ volatile float v = 1; v = expf(v); }", 200),
        ("", "{ volatile int64_t v = 7; v = v / (v + 1); }", 100),
        ("static char a[999], b[999];", "memmove(a, b, (size_t)(x[0] + 99));", 30),
        ("", "{ volatile double v = 1; v = v * 3; }", 100),
    ):
        model = Tiny(globals=globals_, extra=extra)
        if "double" in extra and board == "mps3-an547":
            continue  # this FPU has doubles
        assert bench(model.bundle, model, target=board).code_bytes - base >= least


def test_level_of_optimisation() -> None:
    """The flags of the compiler say it; -O0 costs more than -Os."""
    model = Tiny()
    small, none = (bench(model.bundle, model, target=QUICK[0], optimize=o) for o in "s0")
    assert small.flags.startswith("-Os -std=") and none.flags.startswith("-O0 -std=")
    assert small.instructions < none.instructions and small.code_bytes < none.code_bytes


@pytest.mark.parametrize("board", KINDS)
def test_layers(board: str) -> None:
    """Each layer has its own instructions, and together they are about all."""
    slow = """
        __attribute__((noinline)) static float slow(int i) {
            for (volatile int k = 0; i == 0 && k < 1000; k++) {
            }
            return 0;
        }"""
    model = Tiny(shift="x[i] + b[i] + slow(i)", globals=slow)
    plain = Tiny()
    total = bench(model.bundle, model, target=board, layers=True)
    usual = bench(plain.bundle, plain, target=board, layers=True)
    assert total.layers is not None and usual.layers is not None
    assert [c.name for c in total.layers] == ["scale", "shift"]
    extra = [
        a.instructions - b.instructions for a, b in zip(total.layers, usual.layers, strict=True)
    ]
    assert extra[0] == 0
    assert extra[1] == pytest.approx(total.instructions - usual.instructions, abs=30)
    assert sum(c.instructions for c in total.layers) == pytest.approx(total.instructions, rel=0.05)
    assert total.to_dict()["layers"] == tuple(vars(c) for c in total.layers)


def test_figures_are_the_same_every_time() -> None:
    model = Tiny()
    assert bench(model.bundle, model, target=QUICK[0]) == bench(
        model.bundle, model, target=QUICK[0]
    )


def test_wrong_outputs_are_not_measured() -> None:
    model = Tiny(shift="x[i] + b[i] * 1.01f")
    with pytest.raises(EmxError) as caught:
        bench(model.bundle, model, target="mps2-an386")
    assert str(caught.value).startswith("output y is wrong on mps2-an386: max abs 0.005")
    assert "emx verify --target mps2-an386 --layers" in str(caught.value)


def test_fault_is_an_error() -> None:
    model = Tiny(extra='__asm__ volatile("udf #1");')
    with pytest.raises(EmxError, match="the program ended early on mps2-an386: a processor fault"):
        bench(model.bundle, model, target="mps2-an386")


@pytest.mark.parametrize("machine", ["host", "aarch64-linux"])
def test_where_nothing_can_count(machine: str) -> None:
    model = Tiny()
    with pytest.raises(EmxError) as caught:
        bench(model.bundle, model, target=machine)
    assert str(caught.value) == (
        f"instructions cannot be counted on {machine}\n"
        f"  hint  they can on: {', '.join(counting_boards())}"
    )


def test_the_measuring_program_brings_no_library_code(tmp_path: Path) -> None:
    from test_boards import read_symbols

    for board in counting_boards():
        directory = tmp_path / board
        directory.mkdir()
        Tiny()(directory, empty_run=True)
        program = build_test(find_machine(board), directory, "tiny", ("emx_bench.c",))
        library = ("mem", "str", "__aeabi", "__ieee754", "exp", "_malloc", "malloc", "printf")
        assert [s for s in read_symbols(program) if s.startswith(library)] == []
