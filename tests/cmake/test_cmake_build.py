# SPDX-License-Identifier: Apache-2.0
"""What a user's five lines do, and what the build does again and what not."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cmake_project import (
    FIVE_LINES,
    M4,
    M55,
    PRINTED,
    ROOT,
    Project,
    bundle,
    emulated,
    log_python,
    worked,
)


@pytest.mark.parametrize(
    ("toolchain", "machine", "target"),
    [(M4, "mps2-an386", "cortex-m4"), (M55, "mps3-an547", "cortex-m55")],
)
def test_board(project: Project, toolchain: Path, machine: str, target: str) -> None:
    """The same lines for a board: a plain executable has startup code and linker script."""
    project.cmakelists(FIVE_LINES + "emx_print_models()\n")
    text = project.configure(toolchain=toolchain).ok().text
    assert [target in line for line in text.splitlines() if "emx: net " in line] == [True]
    project.build().ok()
    assert PRINTED in emulated(project, machine)
    assert project.passed("-L", machine) == 1
    assert worked(project.build().ok().text) == []


def test_layers_and_firmware(project: Project) -> None:
    """LAYERS has a copy of the model to itself; the library is the same bytes without it."""
    with_tests = FIVE_LINES + "emx_add_model_test(net_layers MODEL net LAYERS)\n"
    library = []
    for tree, body in (("plain", FIVE_LINES), ("tapped", with_tests)):
        project.cmakelists(body)
        project.configure(toolchain=M4, tree=tree).ok()
        project.build(tree=tree).ok()
        library.append((project.build_dir(tree) / "emx/net/net.c").read_bytes())
    assert library[0] == library[1]
    assert b"emx_test_tap" not in library[1]
    tapped = (project.build_dir("tapped") / "emx/net_layers/net.c").read_bytes()
    assert b"emx_test_tap" in tapped
    assert project.passed(tree="tapped") == 2


def test_add_subdirectory(project: Project) -> None:
    """The source tree as a subdirectory, and the model in a directory of its own."""
    project.options = tuple(o for o in project.options if "emx_DIR" not in o)
    project.cmakelists("add_subdirectory(app)\n", head=f'add_subdirectory("{ROOT}" emx-build)\n')
    app = FIVE_LINES.replace("net.emx", "../net.emx").replace("main.c", "../main.c")
    project.write("app/CMakeLists.txt", app)
    project.configure().ok()
    project.build().ok()
    assert project.passed() == 1


@pytest.mark.parametrize(
    ("how", "then"),
    [
        ("", "FetchContent_MakeAvailable(emx)"),
        ("OVERRIDE_FIND_PACKAGE", "find_package(emx CONFIG REQUIRED)"),
    ],
)
def test_fetch_content(project: Project, how: str, then: str) -> None:
    project.options = tuple(o for o in project.options if "emx_DIR" not in o)
    declare = f'FetchContent_Declare(emx SOURCE_DIR "{ROOT}" {how})'
    project.cmakelists(FIVE_LINES, head=f"include(FetchContent)\n{declare}\n{then}\n")
    project.configure().ok()
    project.build().ok()
    assert project.passed() == 1


@pytest.mark.parametrize("toolchain", [None, M4])
def test_warm_configure(project: Project, toolchain: Path | None) -> None:
    """Configuring again starts no Python and takes less than half a second."""
    log = log_python(project)
    project.cmakelists(FIVE_LINES)
    project.configure(toolchain=toolchain).ok()
    started = log.read_text()
    assert "compile" in started
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        assert worked(project.configure().ok().text) == []
        seconds.append(time.perf_counter() - begin)
    assert log.read_text() == started
    assert min(seconds) < 0.5


def test_no_op_build_starts_nothing(project: Project) -> None:
    """Neither does building again, also after configuring again."""
    log = log_python(project)
    project.cmakelists(FIVE_LINES)
    project.configure().ok()
    project.build().ok()
    started = log.read_text()
    assert "no work to do" in project.build().ok().text
    project.configure().ok()
    assert "no work to do" in project.build().ok().text
    assert log.read_text() == started


def test_bundles_need_no_torch(project: Project, tmp_path: Path) -> None:
    """Plan, code and tests of a bundle where importing torch is an error."""
    poison = tmp_path / "poison"
    (poison / "torch").mkdir(parents=True)
    (poison / "torch/__init__.py").write_text("raise SystemExit('torch was imported')\n")
    project.environment["PYTHONPATH"] = str(poison)
    project.cmakelists(FIVE_LINES)
    project.configure().ok()
    project.build().ok()
    assert project.run(sys.executable, "-c", "import torch").code != 0


def test_properties(project: Project) -> None:
    """What is known of a model at configure time, beside what the build then wrote."""
    names = "TARGET PREFIX MODEL_HASH ARENA_BYTES ARENA_ALIGN ARENA_LOWER_BOUND WEIGHTS_BYTES MACS"
    names += " INPUTS OUTPUTS OPERATORS MODEL_FILE HEADER MANIFEST WEIGHTS_FILE OUTPUT_DIR"
    body = f"""
    emx_add_model(net net.emx PREFIX digit TARGET generic)
    foreach(name {names})
      get_target_property(value net EMX_${{name}})
      message("EMX ${{name}} ${{value}}")
    endforeach()
    """
    project.cmakelists(body)
    text = project.configure().ok().text
    rows = [line.split(" ", 2) for line in text.splitlines() if line.startswith("EMX ")]
    got = {name: value for _, name, value in rows}
    project.build().ok()
    written = json.loads((Path(got["OUTPUT_DIR"]) / "digit.json").read_text())
    known = json.loads(Path(got["MANIFEST"]).read_text())
    assert written == known
    assert got["TARGET"] == "generic"
    assert got["PREFIX"] == "digit"
    assert got["INPUTS"] == "x=f32[1x4]"
    assert got["OUTPUTS"] == "y=f32[1x4]"
    assert got["MODEL_FILE"] == str(project.path / "net.emx")
    assert got["MODEL_HASH"] == replace(bundle(), name="digit").model_hash
    for key in ("arena_bytes", "arena_align", "arena_lower_bound", "weights_bytes", "macs"):
        assert got[key.upper()] == str(written[key])
    assert Path(got["WEIGHTS_FILE"]).stat().st_size == int(got["WEIGHTS_BYTES"])
    assert "void digit_run(" in Path(got["HEADER"]).read_text()


def test_working_directory_is_no_import_path(project: Project) -> None:
    """Python files that happen to lie where CMake or the build runs are not emx's business."""
    for place in (".", "build"):
        for name in ("json.py", "numpy.py", "emx/__init__.py"):
            project.write(f"{place}/{name}", "raise SystemExit('imported from here')\n")
    project.cmakelists(FIVE_LINES)
    project.configure().ok()
    project.build().ok()
    assert project.passed() == 1


def test_contraction(project: Project) -> None:
    """Fused multiply-add is for emx's own sources, with LAYERS too; nobody else's flags change."""
    project.cmakelists(FIVE_LINES + "emx_add_model_test(net_layers MODEL net LAYERS)\n")
    project.configure("-DCMAKE_EXPORT_COMPILE_COMMANDS=ON").ok()
    commands = json.loads((project.build_dir() / "compile_commands.json").read_text())
    having = [Path(c["file"]) for c in commands if "-ffp-contract=fast" in c["command"]]
    assert [f"{f.parent.name}/{f.name}" for f in having] == ["net/net.c", "net_layers/net.c"]
