# SPDX-License-Identifier: Apache-2.0
"""A build tree from the first configure to `clean`, with every generator, by the oldest CMake and
the newest: each build does what is needed, and the one after it nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cmake_project import FIVE_LINES, M4, M55, PRINTED, Project, bundle, worked

GENERATORS = ("Ninja", "Unix Makefiles", "Ninja Multi-Config")
BIASED = "y = 0.0 3.0 0.0 5.0"  # relu(1 - x) of what main.c feeds in
# One bundle for two models: nothing may be made by two rules.
TWO = FIVE_LINES + "emx_add_model(two net.emx IO_ARENA)\ntarget_link_libraries(fw PRIVATE two)\n"


@pytest.mark.parametrize("generator", GENERATORS)
def test_life_of_a_build_tree(either_cmake: Project, generator: str) -> None:
    project = either_cmake
    project.generator = generator
    project.cmakelists(TWO)
    project.configure().ok()
    assert worked(project.build().ok().text)
    assert project.printed() == PRINTED
    assert project.passed(*config(project)) == 1
    idle(project)
    touched_model(project)
    changed_model(project)
    deleted_products(project)
    touched_blob(project)
    cleaned(project)


def config(project: Project) -> tuple[str, ...]:
    """ctest asks for a configuration where there are several."""
    return ("-C", "Debug") if "Multi" in project.generator else ()


def idle(project: Project) -> None:
    """There is nothing to do, twice in a row."""
    for _ in range(2):
        assert worked(project.build().ok().text) == []


def touched_model(project: Project) -> None:
    """A new time stamp on the same content compiles nothing and plans nothing."""
    os.utime(project.path / "net.emx")
    text = project.build().ok().text
    assert "planning" not in text
    if "Ninja" in project.generator:
        assert "Building" not in text
    idle(project)


def changed_model(project: Project) -> None:
    """A build alone takes in new weights, up to the program; nobody has to configure."""
    bundle(bias=1).save(project.path / "net.emx")
    text = project.build().ok().text
    assert "planning net for host (net.emx changed)" in text
    assert project.printed() == BIASED
    assert project.passed(*config(project)) == 1
    idle(project)


def deleted_products(project: Project) -> None:
    """Whatever is deleted below the build tree comes back as it was."""
    files = (
        "net/net.c",
        "net/net_weights.bin",
        "net_test/net_vectors.bin",
        "net/configure/net.json",
    )
    lost = [project.build_dir() / "emx" / name for name in files]
    content = [file.read_bytes() for file in lost]
    for file in lost:
        file.unlink()
    project.build().ok()
    assert [file.read_bytes() for file in lost] == content
    idle(project)


def touched_blob(project: Project) -> None:
    """No compiler reports what .incbin reads; the build knows it all the same."""
    os.utime(project.build_dir() / "emx/net/net_weights.bin")
    assert "net_weights.c" in project.build().ok().text


def cleaned(project: Project) -> None:
    """After `clean` a build generates the C again, without planning or exporting."""
    project.build("--target", "clean").ok()
    assert not (project.build_dir() / "emx/net/net.c").exists()
    assert "planning" not in project.build().ok().text
    assert project.printed() == BIASED


@pytest.mark.parametrize(
    ("generator", "toolchain"), [("Unix Makefiles", M4), ("Ninja Multi-Config", M55)]
)
def test_cross(either_cmake: Project, generator: str, toolchain: Path) -> None:
    """The newest CMake would look for a Python of the target, if it were asked for one."""
    project = either_cmake
    project.generator = generator
    project.cmakelists(FIVE_LINES)
    project.configure(toolchain=toolchain).ok()
    project.build().ok()
    assert project.passed(*config(project)) == 1
    idle(project)


def test_codegen_target(project: Project) -> None:
    """`--target codegen` makes all C and compiles none, in projects for CMake 3.31 and newer."""
    project.cmake = Path(pytest.importorskip("cmake").CMAKE_BIN_DIR)
    project.cmakelists(FIVE_LINES)
    lists = project.path / "CMakeLists.txt"
    lists.write_text(lists.read_text().replace("VERSION 3.25", "VERSION 3.31"))
    project.configure().ok()
    text = project.build("--target", "codegen").ok().text
    assert "Building" not in text
    for name in ("net/net.c", "net_test/net_vectors.c"):
        assert (project.build_dir() / "emx" / name).exists()


# Configurations of one tree, so that the compiler is looked at once.
FLAVOURS = {
    "O0": "-O0 -g",
    "O3": "-O3",
    "Os": "-Os",
    "Lto": "-O2 -flto",
}
WARNINGS = "-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
MIXED = """
enable_language(CXX)
emx_add_model(net net.emx)
add_executable(fw main.c)
add_executable(fwxx main.cpp)
target_link_libraries(fw PRIVATE net)
target_link_libraries(fwxx PRIVATE net)
add_test(NAME fwxx COMMAND fwxx)
emx_add_model_test(net_test MODEL net)
emx_add_model_test(net_layers MODEL net LAYERS)
"""
MAIN_CPP = """
#include "net.h"
struct Input { float x[NET_X_LEN]; Input() { x[1] = -3; } };
static Input input;
int main() {
    float y[NET_Y_LEN];
    net_run(input.x, y);
    return y[1] == 3 ? 0 : 1;
}
"""


def tool(name: str) -> str:
    return f"-DCMAKE_C_COMPILER={name};-DCMAKE_CXX_COMPILER={name}++".replace("gcc++", "g++")


@pytest.mark.parametrize("compiler", ["gcc", "clang", "m4"])
def test_flavours(project: Project, compiler: str) -> None:
    """Levels of optimisation, link-time optimisation (which runs in another directory, where
    .incbin would find nothing), the user's warnings; programs of C and C++ side by side."""
    project.generator = "Ninja Multi-Config"
    project.write("main.cpp", MAIN_CPP)
    project.cmakelists(MIXED)
    flags = [f"-DCMAKE_CONFIGURATION_TYPES={';'.join(FLAVOURS)}"]
    for name, text in FLAVOURS.items():
        languages = [f"CMAKE_{language}_FLAGS_{name.upper()}" for language in ("C", "CXX")]
        flags += [f"-D{variable}={text} {WARNINGS}" for variable in languages]
    toolchain = M4 if compiler == "m4" else None
    if not toolchain:
        flags += tool(compiler).split(";")
    project.configure(*flags, toolchain=toolchain).ok()
    for name in FLAVOURS:
        project.build("--config", name).ok()
        assert project.passed("-C", name) == 3, name
