# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the layers of the Python, the includes of the C, what start-up loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from emx.paths import root
from golden_models import GOLDEN

PACKAGE = root() / "python" / "emx"
SOURCES = sorted(PACKAGE.rglob("*.py"))
INCLUDE = root() / "runtime" / "include"
HEADERS = sorted(INCLUDE.rglob("*.h"))

# The layers, lowest first: a module imports from its own and from those below, `ops` only from
# those below. What is not named is a tool that stages share, between `ops` and the stages.
LAYERS = (
    ("errors", "ir", "kernel", "bundle", "target", "paths", "version", "names", "quant",
     "sample"),
    ("builder", "window", "rows", "view", "pointwise", "options", "program", "scalars",
     "add_s8", "axis", "depthwise_s8", "direct_s8", "fixed", "packing_s8"),
    ("ops",),
    ("",),  # everything else
    ("api",),
    ("cli", "__main__"),
)  # fmt: skip
CORE = LAYERS[0]


def module_of(path: Path) -> str:
    """emx/ops/linear.py -> emx.ops.linear"""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, in functions too, not for types only."""
    tree = ast.parse(path.read_text())
    types_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in types_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path.name}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = set(map(module_of, SOURCES))
            found |= (names & modules) or {node.module}
    return found


def part(module: str) -> str:
    """emx.ops.linear -> ops"""
    return module.split(".")[1] if "." in module else ""


def layer(module: str) -> int:
    named = {name: i for i, names in enumerate(LAYERS) for name in names}
    return named.get(part(module), named[""])


def importers(package: str) -> set[str]:
    return {module_of(p) for p in SOURCES if any(m.split(".")[0] == package for m in imports(p))}


def test_torch_is_imported_by_the_exporter_only() -> None:
    found = importers("torch")
    assert found and all(m.startswith("emx.exporter") for m in found)


def test_jinja_is_imported_by_emit_only() -> None:
    assert importers("jinja2") == {"emx.emit"}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_nothing_imports_upwards(path: Path) -> None:
    module = module_of(path)
    if module == "emx":  # the public names, imported when they are used
        assert {m for m in imports(path) if m.startswith("emx")} <= {
            "emx.errors", "emx.version", "emx.paths",
        }  # fmt: skip
        return
    for other in imports(path):
        if other.split(".")[0] == "emx":
            assert layer(other) <= layer(module), f"{module} imports {other}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "ops").glob("[a-z]*.py")), ids=module_of)
def test_operators_know_neither_each_other_nor_the_stages(path: Path) -> None:
    for other in imports(path):
        if other.startswith("emx"):
            assert layer(other) < layer("emx.ops.any"), f"{path.name} imports {other}"
        else:
            assert other.split(".")[0] not in ("torch", "jinja2")


@pytest.mark.parametrize("name", CORE)
def test_core_types_import_core_types_only(name: str) -> None:
    ours = {part(m) for m in imports(PACKAGE / f"{name}.py") if m.startswith("emx")}
    assert ours <= set(CORE)


@pytest.mark.parametrize("stage", ["passes", "select", "plan", "check_plan", "emit", "report"])
def test_stages_know_neither_export_nor_the_api(stage: str) -> None:
    paths = [p for p in SOURCES if part(module_of(p)) == stage]
    assert paths
    for path in paths:
        above = {m for m in imports(path) if part(m).startswith(("export", "api", "cli"))}
        assert not above
        others = {"select", "plan", "check_plan", "emit"} - {stage}
        assert not {m for m in imports(path) if part(m) in others}


def includes(path: Path) -> list[str]:
    return re.findall(r'^#\s*include [<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", HEADERS, ids=lambda p: p.name)
def test_includes_of_the_runtime(path: Path) -> None:
    libc = {"math.h", "stdbool.h", "stddef.h", "stdint.h", "string.h"}
    tools = (
        "add_s8", "arch", "dot_s8", "emx", "fixed", "index", "panel", "plane_s8", "quant", "scalar",
        "taps", "tile",
    )  # fmt: skip
    kernels = {f"emx/{name}.h" for name in tools}
    allowed = {
        "kernels": kernels,
        "arch": {f"emx/{name}.h" for name in ("add_s8", "emx", "plane_s8", "quant")}
        | {"arm_mve.h"}
        | libc,
        "emx": {f"emx/{name}.h" for name in ("add_s8", "arch", "emx", "quant")} | libc,
    }[path.parent.name]
    if path.name == "arch.h":  # the one that picks
        allowed = {f"emx/arch/{p.name}" for p in (INCLUDE / "emx" / "arch").glob("*.h")}
    assert set(includes(path)) <= allowed


def test_every_kernel_header_compiles_alone(tmp_path: Path) -> None:
    for path in HEADERS:
        if path.parent.name != "arch":
            (tmp_path / f"{path.stem}.c").write_text(
                f"#include <{path.relative_to(INCLUDE)}>\nextern int one;\n"
            )
    done = subprocess.run(
        ["gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
         f"-I{INCLUDE}", *sorted(map(str, tmp_path.glob("*.c")))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def loaded(code: str, cwd: Path) -> set[str]:
    """Top-level packages that a fresh Python has loaded after `code`."""
    path = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})"
    report = "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{path}\n{code}\n{report}"],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_import_emx_loads_next_to_nothing(tmp_path: Path) -> None:
    assert not loaded("import emx", tmp_path) & {"torch", "jinja2", "numpy", "elftools", "rich"}


COMPILE = "from emx.cli import main; assert main({}) == 0"


def test_codegen_loads_no_torch(tmp_path: Path) -> None:
    bundle = str(GOLDEN / "residual.emx")
    arguments = ["compile", bundle, "-o", "out", "--name", "residual", "--target", "host", "--test"]
    packages = loaded(COMPILE.format(arguments), tmp_path)
    assert (tmp_path / "out" / "residual.c").is_file()
    assert "jinja2" in packages and "torch" not in packages


def test_the_plan_alone_loads_no_torch(tmp_path: Path) -> None:
    bundle = str(GOLDEN / "residual.emx")
    arguments = ["compile", bundle, "-o", "out", "--name", "residual", "--target", "host"]
    assert "torch" not in loaded(COMPILE.format([*arguments, "--plan-only"]), tmp_path)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["residual.json"]
