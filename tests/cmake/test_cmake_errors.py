# SPDX-License-Identifier: Apache-2.0
"""What is wrong is said in the user's words, configuring stops, and the next run starts afresh."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cmake_project import FIVE_LINES, M4, ROOT, TOOLCHAINS, Project, bundle, tools

from emx.bundle import Bundle

MODEL = "emx_add_model(net net.emx)\n"


def words(text: str) -> str:
    """CMake wraps messages; compare them without line ends."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("emx_add_model(net)", "emx_add_model(net): MODEL is missing"),
        ("emx_add_model(net net.emx more)", "emx_add_model(net): unknown arguments: more"),
        ("emx_add_model(net MODEL net.emx SEED)", "emx_add_model(net): no value for SEED"),
        ("emx_add_model(net net.emx PREFIX 1st)", "PREFIX 1st is no C identifier"),
        ("emx_add_model(net net.emx MAX_CODE_BYTES 4K)", "is a number of bytes, not 4K"),
        ("emx_add_model(net net.emx WEIGHTS HEX)", "INCBIN, STRING or EXTERNAL, not HEX"),
        ("emx_add_model(net net.emx ARENA_GROUP a-b)", "ARENA_GROUP a-b is no C identifier"),
        ("emx_add_model(net net.emx ARENA CALLER ARENA_GROUP g)", "with ARENA CALLER the arena is"),
        ("emx_add_model(net net.emx ARENA_GROUP g)\n"
         "emx_add_model(two net.emx ARENA_GROUP g ARENA_SECTION .s)", "lies in the section"),
        ("emx_add_model(net net.emx ARENA HEAP)", "ARENA is STATIC or CALLER, not HEAP"),
        ("emx_add_model(net net.emx SEED 1)", "SEED was decided when net.emx was exported"),
        ("emx_add_model(net net.emx QUANTIZE int8)", "QUANTIZE was decided when net.emx was"),
        ("emx_add_model(net net.emx QUANTIZE int3)", "QUANTIZE is one of int8, int16x8, int4, "),
        ("emx_add_model(net net.emx RAM tiny)", "RAM is one of default, small, min, not tiny"),
        ("emx_add_model(net main.c QUANTIZE int8 CALIBRATION no.npz)", "there is no calibration"),
        ("emx_add_model(net no.pt2)", "emx_add_model(net): there is no model"),
        ("emx_add_model(net no.py:make)", "/no.py"),
        ("add_library(net main.c)\n" + MODEL, "there is a target of this name already"),
        (MODEL + "emx_add_model(two net.emx OUTPUT_DIR emx/net)", "emx_add_model(two): OUTPUT_DIR"),
        (MODEL + "emx_add_model_test(t)", "emx_add_model_test(t): MODEL is missing"),
        (MODEL + "emx_add_model_test(t MODEL no)", "there is no target no; emx_add_model(no ...)"),
        ("add_library(l main.c)\nemx_add_model_test(t MODEL l)", "l was not made by emx_add_model"),
        (MODEL + "emx_add_model_test(t MODEL net FOO)", "unknown arguments: FOO"),
        (MODEL + "emx_add_model_test(t MODEL net BOARD b)", "this build tree is for the host"),
        (MODEL + "emx_add_firmware(f MODELS net)", "emx_add_firmware(f): SOURCES is missing"),
        (MODEL + "emx_add_firmware(f SOURCES main.c OUTPUT srec)", "OUTPUT takes elf, hex and bin"),
        (MODEL + "emx_add_firmware(f SOURCES main.c MODELS no)", "there is no target no"),
        (MODEL + "emx_install_models(PACKAGE m)", "emx_install_models: TARGETS is missing"),
        (MODEL + "emx_install_models(TARGETS no)", "emx_install_models: there is no target no"),
        (MODEL + "emx_install_models(net)", "emx_install_models: unknown arguments: net"),
        (MODEL + "emx_install_models(TARGETS net PACKAGE p EXPORT e)", "exclude each other"),
    ],
)  # fmt: skip
def test_arguments(configured: Project, call: str, message: str) -> None:
    configured.cmakelists(call + "\n")
    assert message in words(configured.configure().fails().text)


def test_no_c(project: Project) -> None:
    project.write(
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.25)\n"
        f"project(fw NONE)\nfind_package(emx CONFIG REQUIRED)\n{MODEL}",
    )
    assert "write project(... C)" in words(project.configure().fails().text)


def test_model_made_by_the_build(project: Project) -> None:
    make = "add_custom_command(OUTPUT made.emx COMMAND touch made.emx)\n"
    project.cmakelists(make + "emx_add_model(net ${CMAKE_CURRENT_BINARY_DIR}/made.emx)\n")
    assert "must be there when CMake runs" in words(project.configure().fails().text)


def unsupported() -> Bundle:
    good = bundle()
    first, second, last = good.nodes
    return replace(good, nodes=(first, replace(second, target="aten.frobnicate.default"), last))


def test_page_is_shown_and_the_next_run_tries_again(project: Project) -> None:
    """The page of emx, two columns to the right of CMake's own text, line by line as it is."""
    project.cmakelists(FIVE_LINES)
    unsupported().save(project.path / "net.emx")
    command = (sys.executable, "-m", "emx", "compile", project.path / "net.emx", "-o", "out")
    project.environment["PYTHONPATH"] = str(ROOT / "python")
    page = project.run(*command).fails().text.splitlines()
    project.environment["PYTHONPATH"] = None
    assert page[0].startswith("emx: error:")
    assert "frobnicate" in "".join(page)
    for _ in range(2):
        text = project.configure().fails().text
        assert "\n".join(f"    {line}" for line in page if line) in text
        assert "Traceback" not in text
        assert not (project.build_dir() / "emx/net/configure/plan.stamp").exists()
        assert not (project.build_dir() / "emx/net/configure/net.json").exists()
    bundle().save(project.path / "net.emx")
    project.configure().ok()
    project.build().ok()


def test_error_in_a_later_build(project: Project) -> None:
    """A model that turns bad stops `ninja`, again and again, until it is good."""
    project.cmakelists(FIVE_LINES)
    project.configure().ok()
    project.build().ok()
    unsupported().save(project.path / "net.emx")
    for _ in range(2):
        assert "emx: error:" in project.build().fails().text
    bundle().save(project.path / "net.emx")
    project.build().ok()


@pytest.mark.parametrize("python", ["/nonexistent/python", "/bin/false"])
def test_no_python(project: Project, python: str) -> None:
    project.cmakelists(MODEL)
    text = words(project.configure(f"-DEMX_PYTHON_EXECUTABLE={python}").fails().text)
    assert "set EMX_PYTHON_EXECUTABLE" in text
    assert python in text


def test_optional_package(project: Project) -> None:
    """find_package without REQUIRED: not found, and the project goes on."""
    head = 'find_package(emx CONFIG)\nmessage("FOUND ${emx_FOUND}")\n'
    project.cmakelists("", head=head)
    text = project.configure("-DEMX_PYTHON_EXECUTABLE=/bin/false").ok().text
    assert "FOUND 0" in text


def test_tree_keeps_its_board(project: Project) -> None:
    """The flags of the first board are in the cache; another one cannot move in."""
    project.cmakelists(MODEL)
    project.configure(toolchain=M4).ok()
    text = words(project.configure("-DEMX_BOARD=mps3-an547", toolchain=M4).fails().text)
    assert "This build tree is for the board mps2-an386" in text
    project.configure("--fresh", "-DEMX_BOARD=mps3-an547", toolchain=M4).ok()


def test_unknown_board(project: Project) -> None:
    project.cmakelists(MODEL)
    text = project.configure("-DEMX_BOARD=toaster", toolchain=M4).fails().text
    assert "emx has no board 'toaster'" in words(text)


def test_other_board_asked_for(project: Project) -> None:
    project.cmakelists(MODEL + "emx_add_model_test(t MODEL net BOARD mps3-an547)\n")
    text = words(project.configure(toolchain=M4).fails().text)
    assert "BOARD mps3-an547, but this build tree is for mps2-an386" in text


@pytest.mark.parametrize(
    ("target", "compiler", "packages"),
    [
        ("cortex-m4", "arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
        (
            "rv32imc",
            "riscv64-unknown-elf-gcc",
            "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
        ),
    ],
)
def test_no_compiler(
    project: Project, tmp_path: Path, target: str, compiler: str, packages: str
) -> None:
    project.cmakelists(MODEL)
    project.environment["PATH"] = tools(tmp_path, "cmake", "ninja")
    text = words(project.configure(toolchain=TOOLCHAINS / f"{target}.cmake").fails().text)
    assert f"The compiler {compiler} was not found" in text
    assert f"apt install {packages}" in text


def test_no_emulator(project: Project, tmp_path: Path) -> None:
    """Programs build; the test fails, is not skipped, and says what to install."""
    project.cmakelists(FIVE_LINES)
    path = tools(tmp_path, "cmake", "ctest", "ninja", "arm-none-eabi-gcc", "arm-none-eabi-ar", "sh")
    project.environment["PATH"] = path
    project.configure(toolchain=M4).ok()
    project.build().ok()
    text = words(project.ctest().fails().text)
    assert "qemu-system-arm was not found" in text
    assert "apt install qemu-system-arm" in text
    assert "Skipped" not in text


def test_test_on_a_foreign_board(project: Project) -> None:
    """With a toolchain of the user's own emx has no startup code to offer."""
    toolchain = project.write(
        "own.cmake",
        """
        set(CMAKE_SYSTEM_NAME Generic)
        set(CMAKE_C_COMPILER arm-none-eabi-gcc)
        set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard")
        set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
        """,
    )
    project.cmakelists(MODEL + "emx_add_model_test(t MODEL net)\n")
    text = words(project.configure(toolchain=toolchain).fails().text)
    assert "emx does not know how to start a program on this board" in text
    assert str(TOOLCHAINS.name) in text
