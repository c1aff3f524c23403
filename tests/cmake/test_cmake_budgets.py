# SPDX-License-Identifier: Apache-2.0
"""Budgets stop the configuring or the build, with both numbers and what takes most."""

from __future__ import annotations

import re

import pytest
from cmake_project import M4, Project, worked


def numbers(text: str, budget: str) -> tuple[int, int]:
    """(what it takes, the budget) of emx's error."""
    (found,) = re.findall(rf" ([\d,]+) bytes.*, the budget is {budget} ([\d,]+)\n", text)
    return int(found[0].replace(",", "")), int(found[1].replace(",", ""))


def model(project: Project, budget: str) -> None:
    project.cmakelists(f"emx_add_model(net net.emx {budget})\n")


@pytest.mark.parametrize("what", ["ARENA", "WEIGHTS"])
def test_memory(configured: Project, what: str) -> None:
    """Known at configure time; a budget that fits exactly is kept."""
    project, budget = configured, f"MAX_{what}_BYTES"
    model(project, f"{budget} 1")
    for _ in range(2):
        text = project.configure().fails().text
        needs, limit = numbers(text, budget)
        assert limit == 1
        assert "most of it:" in text
        assert "net.py:7" in text
    model(project, f"{budget} {needs}")
    project.configure().ok()
    model(project, f"{budget} {needs - 1}")
    project.configure().fails()


@pytest.mark.parametrize(("what", "biggest"), [("CODE", "linear_f32_0"), ("STACK", "net_run")])
def test_objects(project: Project, what: str, biggest: str) -> None:
    """Known when the library is built; each build says it again, until it fits."""
    budget = f"MAX_{what}_BYTES"
    model(project, f"{budget} 8")
    project.configure("-DCMAKE_BUILD_TYPE=Release", toolchain=M4).ok()
    for _ in range(2):
        text = project.build().fails().text
        assert "emx: error: " in text
        needs, limit = numbers(text, budget)
        assert limit == 8
        assert re.search(rf"most of it:\n.*{biggest}", text)
    model(project, f"{budget} {needs}")
    project.build().ok()
    assert worked(project.build().ok().text) == []
    model(project, f"{budget} {needs - 1}")
    project.build().fails()


def test_code_is_what_the_object_has(project: Project) -> None:
    """Against the compiler's own tool: text, with constants, of the model's object."""
    model(project, "MAX_CODE_BYTES 1")
    project.configure("-DCMAKE_BUILD_TYPE=MinSizeRel", toolchain=M4).ok()
    needs, _ = numbers(project.build().fails().text, "MAX_CODE_BYTES")
    (found,) = project.build_dir().rglob("net.c.o*")
    row = project.run("arm-none-eabi-size", found).ok().text.splitlines()[1]
    assert needs == int(row.split()[0])


def test_stack_is_a_matter_of_boards(project: Project) -> None:
    model(project, "MAX_STACK_BYTES 1")
    project.configure().ok()
    project.build().ok()


def test_stack_needs_gcc(project: Project) -> None:
    model(project, "MAX_STACK_BYTES 1000")
    clang = """
    set(CMAKE_SYSTEM_NAME Generic)
    set(CMAKE_C_COMPILER clang)
    set(CMAKE_C_COMPILER_TARGET arm-none-eabi)
    set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard")
    set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
    """
    text = project.configure(toolchain=project.write("clang.cmake", clang)).fails().text
    assert "the compiler is Clang" in " ".join(text.split())


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_code_of_link_time_optimisation(project: Project, compiler: str) -> None:
    """There is no code before the program is linked, and so no budget."""
    model(project, "MAX_CODE_BYTES 100000")
    project.configure("-DCMAKE_C_FLAGS=-flto", f"-DCMAKE_C_COMPILER={compiler}").ok()
    assert "MAX_CODE_BYTES cannot be checked" in project.build().fails().text
