# SPDX-License-Identifier: Apache-2.0
"""The house rules that a program can check: sizes, headers, and operators in step with their C."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from emx import passes
from emx.kernel import Kernel
from emx.load import load
from emx.ops import lowerings, modules
from emx.paths import root
from emx.select import select
from emx.target import find_target
from emx.version import VERSION
from sampled import sampled_bundles

ROOT = root()
KERNELS = ROOT / "runtime" / "include" / "emx" / "kernels"
C_SUFFIXES = (".c", ".h")
# ATen calls that no sample makes, because they are the same lowering as one that a sample makes.
ALIASES = {
    "aten._unsafe_view.default": "aten.reshape.default",
    "aten.alias.default": "aten.clone.default",
    "aten.contiguous.default": "aten.clone.default",
    "aten.detach.default": "aten.clone.default",
    "aten.dropout.default": "aten.clone.default",
    "aten.lift_fresh_copy.default": "aten.clone.default",
    "aten.view.default": "aten.reshape.default",
}


def tracked(*suffixes: str) -> list[Path]:
    """Files of the repository, those that will be committed included."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in done.stdout.split("\0") if name.endswith(suffixes)]
    return [p for p in paths if p.is_file() and p.parent != ROOT / "tests" / "golden"]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function of a Python file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            yield f"{path.name}:{node.name}", node.end_lineno - node.lineno + 1


def c_functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function of a C file that clang-format has seen."""
    lines = path.read_text().split("\n")
    starts = [i for i, line in enumerate(lines) if line == "{"]
    for start in starts:
        yield f"{path.name}:{start}", lines.index("}", start) - start + 1


def test_files_are_short() -> None:
    """Tests may be longer: they are read one at a time."""
    sizes = {p: len(p.read_text().splitlines()) for p in tracked(".py", *C_SUFFIXES, ".cmake")}
    long = {
        p.name: n for p, n in sizes.items() if n > (400 if ROOT / "tests" not in p.parents else 600)
    }
    assert not long


def test_functions_are_short() -> None:
    code = [f for p in tracked(".py") for f in functions(p) if ROOT / "tests" not in p.parents]
    tests = [f for p in tracked(".py") for f in functions(p) if ROOT / "tests" in p.parents]
    c = [f for p in tracked(*C_SUFFIXES) for f in c_functions(p)]
    assert len(code) > 300 and len(c) > 50
    assert not [f for f in (*code, *tests, *c) if f[1] > 60]
    assert median(n for _, n in code) < 20 and median(n for _, n in c) < 20


def test_lines_fit() -> None:
    for path in tracked(".py", *C_SUFFIXES):
        wide = [i + 1 for i, line in enumerate(path.read_text().splitlines()) if len(line) > 100]
        assert not wide, f"{path.name}: lines {wide}"


def test_every_source_names_its_licence() -> None:
    for path in tracked(".py", *C_SUFFIXES, ".cmake", ".ld", "CMakeLists.txt"):
        mark = "SPDX-License-Identifier: Apache-2.0"
        assert mark in "\n".join(path.read_text().split("\n")[:2]), path


def test_nothing_is_left_undone() -> None:
    words = re.compile("[T]ODO|[F]IXME|[X]XX")
    for path in tracked(".py", *C_SUFFIXES, ".cmake", ".txt", ".j2", ".md", ".toml", "Makefile"):
        assert not words.search(path.read_text()), path


def test_no_environment_variable_is_an_option() -> None:
    for path in sorted((ROOT / "python").rglob("*.py")):
        assert not re.search(r"os\.(environ|getenv)\b.*EMX_", path.read_text()), path


def test_version_of_the_package_and_of_the_runtime_agree() -> None:
    header = (ROOT / "runtime" / "include" / "emx" / "emx.h").read_text()
    numbers = [re.search(rf"#define EMX_VERSION_{n} (\d+)", header) for n in ("MAJOR", "MINOR")]
    assert (ROOT / "VERSION").read_text().strip() == VERSION
    assert VERSION.split(".")[:2] == [m[1] for m in numbers if m]


def struct_members(kernel: Kernel) -> list[str]:
    """Members of the parameter struct of a kernel, in order."""
    text = (KERNELS / f"{kernel.header}.h").read_text()
    body = re.search(rf"typedef struct \{{([^}}]*)\}} {kernel.struct};", text)
    assert body, f"{kernel.header}.h has no {kernel.struct}"
    declarations = re.sub(r"//.*", "", body[1]).split(";")
    names = [re.sub(r"(\[\d+\])+", "", d).split(None, 1)[1] for d in declarations if d.strip()]
    return [name.strip() for group in names for name in group.split(",")]


def sampled_kernels() -> list[Kernel]:
    target = find_target("generic")
    programs = [select(passes.run(load(b)), target) for b in sampled_bundles()]
    return [s.kernel for p in programs for s in p.steps]


def test_kernels_are_as_their_headers_say() -> None:
    """Parameters in the order of the C struct, and the function with the operands in order."""
    kernels = sampled_kernels()
    floats = {p.stem for p in KERNELS.glob("*.h") if not p.stem.endswith("_s8")}
    assert floats <= {k.header for k in kernels}
    for k in kernels:
        assert list(k.params) == struct_members(k)
        assert set(k.key) <= set(k.params)
        assert set(k.overlap) <= set(k.inputs)
        text = (KERNELS / f"{k.header}.h").read_text()
        found = re.search(rf"^EMX_INLINE void {k.function}\(([^{{]*)\)\n", text, re.MULTILINE)
        assert found, f"{k.header}.h has no {k.function}"
        functions = re.sub(r"float \(\*(\w+)\)\([^)]*\)", r"float \1", found[1])
        names = [re.findall(r"\w+", p)[-1] for p in functions.split(",")]
        operands = ["x", "y"] if k.array else k.operands
        assert names == ["p", *(s.role for s in k.scalars), *operands]


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.h")), ids=lambda p: p.stem)
def test_headers_start_with_their_contract(path: Path) -> None:
    text = path.read_text()
    contract = text[: text.index("#ifndef")]
    assert re.search(r"[yx]\[.*=", contract), "the equation"
    assert "scratch" in contract.lower()
    assert re.search(r"\[\w+\]", contract), "the layout"


def test_every_lowering_has_a_sample() -> None:
    sampled = {s.target for m in modules().values() for s in m.SAMPLES}
    table = lowerings()
    assert sampled <= table.keys() and not ALIASES.keys() & sampled
    assert sorted(table.keys() - sampled) == sorted(ALIASES)
    for alias, name in ALIASES.items():
        assert table[alias] is table[name], f"{alias} is not another name of {name}"
