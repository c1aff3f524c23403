# SPDX-License-Identifier: Apache-2.0
"""The contract of the generated C: no warning under any compiler, no heap, state or recursion."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import emx
from board_sets import KINDS
from emx.build import CONTRACT, find_machine, find_tool, run
from emx.bundle import AtenNode, Ref, Vectors
from emx.ir import TensorType
from emx.paths import root
from emx.testrun import build_test
from golden_models import NAMES, golden_bundle

WARNINGS = (
    *("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wmissing-prototypes"),
    *("-Wdouble-promotion", "-Wvla", "-Werror"),
)
C99 = ("-std=c99", *WARNINGS)
CPP = ("-x", "c++", "-std=c++11", *(w for w in WARNINGS if w != "-Wmissing-prototypes"))
INCLUDE = tuple(f"-I{root() / 'runtime' / d}" for d in ("include", "testing"))
OPTIONS = {
    "static": emx.Options(test=True),
    "caller": emx.Options(test=True, arena="caller"),
    "io": emx.Options(test=True, io_arena=True),
    "io_caller": emx.Options(test=True, io_arena=True, arena="caller"),
    "group": emx.Options(test=True, arena_group="shared"),
    "string": emx.Options(test=True, weights="string"),
    "external": emx.Options(test=True, weights="external"),
    "taps": emx.Options(test=True, taps=True),
    "empty": emx.Options(test=True, empty_run=True),
    "empty_external": emx.Options(test=True, empty_run=True, weights="external"),
}

NOT_RUN = ("group", "empty", "empty_external")  # without arena, without layers


def _board(board: str, *, cpp: bool = False) -> tuple[str, ...]:
    machine = find_machine(board)
    return machine.compiler.replace("gcc", "g++" if cpp else "gcc"), *machine.flags


@dataclass(frozen=True)
class Compiler:
    command: tuple[str, ...]
    target: str


COMPILERS = {
    "gcc": Compiler(("gcc", *C99), "host"),
    "clang": Compiler(("clang", *C99), "host"),
    "m4": Compiler((*_board("mps2-an386"), *C99), "cortex-m4"),
    "m55": Compiler((*_board("mps3-an547"), *C99), "cortex-m55"),
    "g++": Compiler(("g++", *CPP), "host"),
    "clang++": Compiler(("clang++", *CPP), "host"),
    "m4++": Compiler((*_board("mps2-an386", cpp=True), *CPP), "cortex-m4"),
    "m55++": Compiler((*_board("mps3-an547", cpp=True), *CPP), "cortex-m55"),
}
CXX = ("g++", "clang++", "m4++", "m55++")


def slow(*names: str) -> list[object]:
    """Parameters that the quick run leaves out."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


# Names that the generated code, C, C++ or <math.h> have a use for themselves.
AWKWARD = (
    "w",
    "p",
    "at",
    "base",
    "arena",
    "class",
    "y",
    "exp",
    "index",
    "emx_x",
    "relu-1",
    "W",
    "awkward_arena",
)


ADD = "aten.add.Tensor"


def awkward_bundle() -> emx.Bundle:
    """relu and exp, plus a constant, of inputs with names that could collide."""
    t = TensorType((2,))
    data = np.ones((1, 2), np.float32)
    unary = ("aten.relu.default", "aten.exp.default")
    names = [f"pointwise2_f32_{i}" for i in range(3)] + [f"node_at{i}" for i in range(10)]
    nodes = []
    for i, (name, x) in enumerate(zip(names, AWKWARD, strict=True)):
        nodes.append(AtenNode(name, unary[i % 2], (Ref(x),), {}, (t,)))
        nodes.append(AtenNode(f"{name}_scratch", ADD, (Ref(name), Ref("main")), {}, (t,)))
    outputs = {f"{x}_out": f"{name}_scratch" for x, name in zip(AWKWARD, names, strict=True)}
    return emx.Bundle(
        name="awkward",
        inputs=tuple((x, t) for x in AWKWARD),
        outputs=tuple((y, Ref(node)) for y, node in outputs.items()),
        nodes=tuple(nodes),
        tensors={"main": np.array([0.5, -0.5], np.float32)},
        vectors=Vectors(dict.fromkeys(AWKWARD, data), dict.fromkeys(outputs, data)),
    )


def bundles() -> list[emx.Bundle]:
    return [*map(golden_bundle, NAMES), awkward_bundle()]


def generate(directory: Path, target: str, options: emx.Options) -> list[Path]:
    for bundle in bundles():
        emx.compile(bundle, target=target, out_dir=directory, options=options)
    return sorted(directory.glob("*.c"))


def compile_all(directory: Path, command: tuple[str, ...], *flags: str) -> None:
    """Compile every C file of `directory`; what the compiler says makes the test fail."""
    sources = sorted(f.name for f in directory.glob("*.c"))
    assert sources
    done = subprocess.run(
        [find_tool(command[0]), *command[1:], CONTRACT, *flags, "-I.", *INCLUDE, "-c", *sources],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("compiler", ["gcc", *slow("m4", "clang++")])
def test_no_warning_with_any_option(tmp_path: Path, compiler: str, option: str) -> None:
    generate(tmp_path, COMPILERS[compiler].target, OPTIONS[option])
    compile_all(tmp_path, COMPILERS[compiler].command, "-O0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiler", "level"),
    [*((c, "-O3") for c in COMPILERS), *((c, "-Os") for c in COMPILERS if c not in CXX)],
)
def test_no_warning_when_optimising(tmp_path: Path, compiler: str, level: str) -> None:
    generate(tmp_path, COMPILERS[compiler].target, OPTIONS["taps"])
    compile_all(tmp_path, COMPILERS[compiler].command, level)


CALLER = """
#include "{name}.h"
{buffers}
int main(void);
int main(void)
{{
    static const int32_t shape[] = {shape};
    {name}_run({arguments});
    return (int)(shape[0] - {extent});
}}
"""


@pytest.mark.parametrize("compiler", ["gcc", "m4", *slow("clang", "m55", *CXX)])
def test_caller_with_buffers_that_are_not_const(tmp_path: Path, compiler: str) -> None:
    """Plain arrays, used for inputs and outputs alike, and the shape macros."""
    generate(tmp_path, COMPILERS[compiler].target, emx.Options())
    for source in tmp_path.glob("*.c"):
        source.unlink()
    for bundle in bundles():
        header = (tmp_path / f"{bundle.name}.h").read_text()
        _, declared = re.findall(rf"void {bundle.name}_run(_in)?\(([^)]*)\);", header)
        kinds, lengths = zip(*re.findall(r"(\w+) \w+\[(\w+)\]", declared[1]), strict=True)
        assert len(lengths) == len(bundle.inputs) + len(bundle.outputs)
        text = CALLER.format(
            name=bundle.name,
            buffers="\n".join(
                f"static {t} b{i}[{n}];"
                for i, (t, n) in enumerate(zip(kinds, lengths, strict=True))
            ),
            arguments=", ".join(f"b{i}" for i in range(len(lengths))),
            shape=lengths[0].replace("_LEN", "_SHAPE"),
            extent=bundle.inputs[0][1].dims[0],
        )
        (tmp_path / f"call_{bundle.name}.c").write_text(text)
    compile_all(tmp_path, COMPILERS[compiler].command, "-O1")


@pytest.mark.parametrize("compiler", ["m4", *slow("gcc", "m55")])
def test_needs_no_more_than_memory_and_math(tmp_path: Path, compiler: str) -> None:
    """What the objects leave to the linker, and what writable memory they bring."""
    generate(tmp_path, COMPILERS[compiler].target, emx.Options())
    compile_all(tmp_path, COMPILERS[compiler].command, "-O2")
    for bundle in bundles():
        done = subprocess.run(
            ["nm", f"{bundle.name}.o"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        symbols = [line.split()[-2:] for line in done.stdout.splitlines() if "$" not in line]
        allowed = {"memcpy", "memset", "erff", "tanhf", f"{bundle.name}_weights"}
        assert {name for kind, name in symbols if kind == "U"} <= allowed
        writable = {name for kind, name in symbols if kind in "bBdDCsSgG"}
        assert writable <= {f"{bundle.name}_arena"}
        functions = {name for kind, name in symbols if kind == "T"}
        assert functions == {f"{bundle.name}_run", f"{bundle.name}_run_in"}


def test_no_recursion_and_little_stack(tmp_path: Path) -> None:
    """From GCC's own call graph, where nothing but the always-inline kernels is inlined."""
    generate(tmp_path, "cortex-m4", emx.Options())
    compile_all(tmp_path, COMPILERS["m4"].command, "-O1", "-fcallgraph-info", "-Wstack-usage=512")
    for bundle in bundles():
        text = (tmp_path / f"{bundle.name}.ci").read_text()
        calls: dict[str, set[str]] = {}
        for source, target in re.findall(r'sourcename: "([^"]*)" targetname: "([^"]*)"', text):
            calls.setdefault(source, set()).add(target)
        assert f"{bundle.name}_run" in calls
        reached = calls
        for _ in calls:
            reached = {f: {h for g in gs for h in (g, *calls.get(g, ()))} | gs
                       for f, gs in reached.items()}  # fmt: skip
        assert not [f for f, gs in reached.items() if f in gs]
        assert not [f for gs in calls.values() for f in gs if "indirect" in f]


def test_awkward_names_run(tmp_path: Path) -> None:
    """The outputs belong to the right inputs whatever they are called."""
    base = awkward_bundle()
    x = {name: np.full((1, 2), i - 3, np.float32) for i, name in enumerate(AWKWARD)}
    y = {
        f"{name}_out": (np.exp(v) if i % 2 else np.maximum(v, 0)) + base.tensors["main"]
        for i, (name, v) in enumerate(x.items())
    }
    assert emx.verify(replace(base, vectors=Vectors(x, y))).ok


@pytest.mark.parametrize("compiler", ["gcc", "m55", *slow("clang", "m4", *CXX)])
def test_no_warning_from_the_test_programs(tmp_path: Path, compiler: str) -> None:
    """They are compiled in the user's tree with the user's flags, like the model."""
    for source in (root() / "runtime" / "testing").glob("*.c"):
        if compiler.startswith("m") or source.name != "port_board.c":
            (tmp_path / source.name).write_bytes(source.read_bytes())
    common = f"-I{root() / 'boards' / 'common'}"
    compile_all(tmp_path, COMPILERS[compiler].command, "-O2", common)
    compile_all(tmp_path, COMPILERS[compiler].command, "-O2", common, '-DEMX_TEST_DUMP="x"')


SANITIZE = ("-O1", "-std=c99", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.slow
@pytest.mark.parametrize(
    "option", ["static", "caller", "io", "io_caller", "string", "external", "taps"]
)
def test_right_and_clean_under_sanitizers(tmp_path: Path, option: str) -> None:
    """Whole networks: buffers that share memory, outputs that chase their inputs."""
    machine = find_machine("host")
    for name in NAMES:
        directory = tmp_path / name
        emx.compile(golden_bundle(name), out_dir=directory, options=OPTIONS[option])
        harness = ("emx_test.c", "emx_print.c")
        program = build_test(machine, directory, name, harness, flags=SANITIZE)
        done = run(machine, program, cwd=directory)
        assert done.code == 0, done.output
        assert f"emx: pass {name}: " in done.output


@pytest.mark.parametrize("board", KINDS)
def test_right_on_boards(board: str) -> None:
    for name in ("residual", "several"):
        report = emx.verify(golden_bundle(name), target=board, layers=True)
        assert report.ok, str(report)


NUMBERS = (np.nan, np.inf, -np.inf, 3.4028234663852886e38, 1e-45, -0.0, 0.1, 1e300, 16777217.0)


def test_numbers_in_c(tmp_path: Path) -> None:
    """Parameters and constants of expressions reach C as the float32 nearest to them."""
    t, x = TensorType((1,)), np.array([[0.5]], np.float32)
    nodes: list[AtenNode] = []
    outputs: dict[str, np.ndarray] = {}
    for i, v in enumerate(NUMBERS):
        wide, pad = TensorType((2,)), (1, 0)
        nodes += [
            AtenNode(f"p{i}", "aten.constant_pad_nd.default", (Ref("x"), pad, v), {}, (wide,)),
            AtenNode(f"c{i}", "aten.mul.Tensor", (Ref("x"), v), {}, (t,)),
        ]
        with np.errstate(over="ignore"):
            number = np.float32(v)
            outputs[f"c{i}"] = x * number
        outputs[f"p{i}"] = np.array([[number, 0.5]], np.float32)
    for i, name in enumerate(("x", "n0", "n1")):  # -(-(-x)) is one expression
        nodes.append(AtenNode(f"n{i}", "aten.neg.default", (Ref(name),), {}, (t,)))
    outputs["n2"] = -x
    bundle = emx.Bundle(
        "numbers", (("x", t),), tuple((y, Ref(y)) for y in outputs), tuple(nodes), {},
        Vectors({"x": x}, outputs),
    )  # fmt: skip
    report = emx.verify(bundle, atol=0, rtol=0)
    assert report.ok, str(report)


def test_wrong_compiler_is_refused(tmp_path: Path) -> None:
    generate(tmp_path, "cortex-m4", emx.Options())
    done = subprocess.run(
        ["gcc", *INCLUDE, "-c", "dense.c"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "dense was generated for cortex-m4, but the compiler builds for someth" in done.stderr


def test_other_runtime_version_is_refused(tmp_path: Path) -> None:
    generate(tmp_path, "host", emx.Options())
    source = tmp_path / "dense.c"
    text, count = re.subn(r"EMX_CHECK_VERSION\((\d+), \d+\)", r"EMX_CHECK_VERSION(\1, 99)",
                          source.read_text())  # fmt: skip
    assert count == 1
    source.write_text(text)
    for standard in ("-std=c99", "-std=c11"):
        done = subprocess.run(
            ["gcc", standard, *INCLUDE, "-c", "dense.c"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode and "static_assert" in done.stderr.replace("_S", "_s")
