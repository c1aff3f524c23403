# SPDX-License-Identifier: Apache-2.0
"""Cross builds: the toolchain files, firmware, and boards and toolchains of the user's own."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from cmake_project import (
    FIVE_LINES,
    M4,
    OWN_TOOLCHAIN,
    PRINTED,
    ROOT,
    TOOLCHAINS,
    Project,
    emulated,
    emulated_exit,
    own,
)

MODEL = "emx_add_model(net net.emx)\n"


def check_own(project: Project) -> None:
    """The program starts by the user's code, has none of ours, and computed relu(-x)."""
    project.build().ok()
    symbols = project.run("arm-none-eabi-nm", project.build_dir() / "fw.elf").ok().text
    assert "my_reset" in symbols
    assert "Reset_Handler" not in symbols
    assert emulated_exit(project) == 42


def test_own_board(project: Project) -> None:
    """Toolchain, startup code and linker script of the user: emx adds nothing but the model."""
    toolchain = own(project)
    project.cmakelists(
        MODEL
        + """
        add_executable(fw own.c)
        target_link_libraries(fw PRIVATE net)
        target_link_options(fw PRIVATE -nostartfiles "-T${CMAKE_CURRENT_SOURCE_DIR}/own.ld")
        get_target_property(target net EMX_TARGET)
        message("TARGET ${target}")
        """
    )
    assert "TARGET cortex-m4" in project.configure(toolchain=toolchain).ok().text
    check_own(project)


def test_own_startup_under_our_toolchain(project: Project) -> None:
    own(project)
    firmware = "emx_add_firmware(fw SOURCES main.c MODELS net STARTUP own.c LINKER_SCRIPT own.ld)\n"
    project.cmakelists(MODEL + firmware)
    project.configure(toolchain=M4).ok()
    check_own(project)


def test_plain_executable_declines(project: Project) -> None:
    own(project)
    project.cmakelists(
        MODEL
        + """
        add_executable(fw own.c)
        set_target_properties(fw PROPERTIES EMX_STARTUP NONE EMX_LINKER_SCRIPT NONE)
        target_link_libraries(fw PRIVATE net)
        target_link_options(fw PRIVATE -nostartfiles "-T${CMAKE_CURRENT_SOURCE_DIR}/own.ld")
        """
    )
    project.configure(toolchain=M4).ok()
    check_own(project)


def test_firmware(project: Project) -> None:
    """Images, a map file, the stack that was asked for."""
    project.cmakelists(
        MODEL
        + "emx_add_firmware(fw SOURCES main.c MODELS net STACK_SIZE 12288 OUTPUT hex bin MAP)\n"
    )
    project.configure(toolchain=M4).ok()
    project.build().ok()
    assert PRINTED in emulated(project, "mps2-an386")
    tree = project.build_dir()
    assert (tree / "fw.hex").read_text().startswith(":")
    assert (tree / "fw.bin").stat().st_size > 1000
    symbols = re.findall(r"0x0*(\w+)\s+__stack_(top|limit)", (tree / "fw.elf.map").read_text())
    places = {name: int(value, 16) for value, name in symbols}
    assert places["top"] - places["limit"] == 12288


def test_firmware_on_the_host(project: Project) -> None:
    """What concerns a board says nothing here: one CMakeLists.txt for both."""
    project.cmakelists(
        MODEL + "emx_add_firmware(fw SOURCES main.c MODELS net STACK_SIZE 9000 STARTUP no.c)\n"
    )
    project.configure().ok()
    project.build().ok()
    assert project.run(project.build_dir() / "fw").ok().text.strip() == PRINTED


def test_library_between(project: Project) -> None:
    """A library of the user that uses a model gets no startup code, its program gets it once."""
    project.write("app.c", '#include "net.h"\nvoid app(float *x, float *y) { net_run(x, y); }\n')
    project.cmakelists(
        MODEL
        + """
        emx_add_model(two net.emx)
        add_library(app STATIC app.c)
        target_link_libraries(app PUBLIC net two)
        emx_add_firmware(fw SOURCES main.c MODELS net two)
        target_link_libraries(fw PRIVATE app)
        """
    )
    project.configure(toolchain=M4).ok()
    project.build().ok()
    members = project.run("arm-none-eabi-ar", "t", project.build_dir() / "libapp.a").ok().text
    assert "startup" not in members
    assert PRINTED in emulated(project, "mps2-an386")


def ctest_json(project: Project) -> list[dict[str, Any]]:
    text = project.ctest("--show-only=json-v1").ok().text
    tests: list[dict[str, Any]] = json.loads(text[text.index("{") :])["tests"]
    return tests


def test_the_emulator_runs_the_test(project: Project) -> None:
    """The command is the emulator and the program, which gets no argument: QEMU would take it for
    a disk. It has a timeout, and 77 means skipped."""
    project.cmakelists(FIVE_LINES.replace("MODEL net)", "MODEL net TIMEOUT 7 LABELS slow)"))
    project.configure(toolchain=M4).ok()
    project.build().ok()
    (test,) = ctest_json(project)
    assert Path(test["command"][0]).name == "qemu-system-arm"
    assert test["command"][-2:] == ["-kernel", str(project.build_dir() / "net_test.elf")]
    properties = {p["name"]: p["value"] for p in test["properties"]}
    assert properties["TIMEOUT"] == 7
    assert properties["SKIP_RETURN_CODE"] == 77
    assert properties["LABELS"] == ["emx", "mps2-an386", "slow"]


def test_exit_codes(project: Project) -> None:
    """main's result is the emulator's exit code: it passes, fails, and a fault is a failure."""
    body = "enable_testing()\n"
    codes = {"zero": "return 0;", "seven": "return 7;", "fault": "*(volatile int *)0xE0FFFFF0 = 1;"}
    for name, statement in codes.items():
        project.write(f"{name}.c", f"int main(void) {{ {statement} }}\n")
        body += f"add_executable({name} {name}.c)\ntarget_link_libraries({name} emx::board)\n"
        body += f"add_test(NAME {name} COMMAND {name})\n"
        body += f"set_tests_properties({name} PROPERTIES TIMEOUT 5)\n"
    project.cmakelists(body)
    project.configure(toolchain=M4).ok()
    project.build().ok()
    text = project.ctest().fails().text
    assert re.search(r"zero \.+ +Passed", text)
    assert re.search(r"seven \.+\*\*\*Failed", text)
    assert re.search(r"fault \.+\*\*\*Failed", text)
    assert "emx: FAULT at pc" in text


def test_flags_reach_try_compile(project: Project) -> None:
    """The toolchain file is read again for each try_compile, and must choose the same board."""
    project.write("helium.c", "#ifndef __ARM_FEATURE_MVE\n#error no Helium\n#endif\nint x;\n")
    project.cmakelists(
        """
        try_compile(helium "${CMAKE_CURRENT_BINARY_DIR}/try" "${CMAKE_CURRENT_SOURCE_DIR}/helium.c")
        message("HELIUM ${helium}")
        """
    )
    toolchain = TOOLCHAINS / "board.cmake"
    for board, answer in (("mps3-an547", "TRUE"), ("mps2-an386", "FALSE")):
        text = project.configure(f"-DEMX_BOARD={board}", toolchain=toolchain, tree=board).ok().text
        assert f"HELIUM {answer}" in text


def test_toolchain_finds_its_emx(project: Project) -> None:
    """With our toolchain file find_package needs no hint."""
    project.options = tuple(o for o in project.options if "emx_DIR" not in o)
    project.cmakelists(MODEL)
    project.configure(toolchain=M4).ok()
    cache = (project.build_dir() / "CMakeCache.txt").read_text()
    assert f"emx_DIR:PATH={ROOT / 'cmake'}\n" in cache


def test_sysroot_modes(project: Project, tmp_path: Path) -> None:
    """A toolchain that searches everything in a sysroot only: host Python and emx are found."""
    sysroot = tmp_path / "sysroot"
    (sysroot / "usr/bin").mkdir(parents=True)
    (sysroot / "usr/bin/python3").write_text("#!/bin/sh\nexit 9\n")
    (sysroot / "usr/bin/python3").chmod(0o755)
    modes = "".join(
        f"set(CMAKE_FIND_ROOT_PATH_MODE_{m} ONLY)\n"
        for m in ("PROGRAM", "LIBRARY", "INCLUDE", "PACKAGE")
    )
    root = f'set(CMAKE_FIND_ROOT_PATH "{sysroot}")\n'
    programs = "".join(
        f"set(CMAKE_{name} {shutil.which(f'arm-none-eabi-{program}')})\n"
        for name, program in (("C_COMPILER", "gcc"), ("AR", "ar"), ("RANLIB", "ranlib"))
    )
    toolchain = project.write("own.cmake", OWN_TOOLCHAIN + root + programs + modes)
    project.options = tuple(o for o in project.options if "PYTHON" not in o)
    python = Path(sys.executable).parent
    project.environment["VIRTUAL_ENV"] = str(python.parent)
    project.cmakelists(MODEL)
    ninja = f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}"
    project.configure(ninja, toolchain=toolchain).ok()
    project.build().ok()


def test_no_question_to_the_linker() -> None:
    """No program can be linked before there is a board, so that a check would say yes to all."""
    for file in (ROOT / "cmake").glob("*.cmake"):
        text = file.read_text()
        assert not re.search(r"\b(check_\w+|try_compile|try_run)\s*\(", text, re.I)
        assert not re.search(r"find_package\(Python", text)  # may find one of the target


def test_tests_of_two_boards(project: Project) -> None:
    """Each board's tree has tests with its own label."""
    project.cmakelists(FIVE_LINES)
    for board in ("mps2-an386", "mps3-an547"):
        toolchain = TOOLCHAINS / "board.cmake"
        project.configure(f"-DEMX_BOARD={board}", toolchain=toolchain, tree=board).ok()
        project.build("--target", "net_test", tree=board).ok()
        assert project.passed("-L", board, tree=board) == 1
