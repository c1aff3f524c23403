# SPDX-License-Identifier: Apache-2.0
"""Installed models: other projects link them without emx, Python and the build tree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cmake_project import M4, PRINTED, Project, emulated_exit, own, tools

MODELS = """
    emx_add_model(net net.emx ARENA_GROUP pool)
    emx_add_model(two net.emx ARENA CALLER WEIGHTS EXTERNAL)
"""
USER = """
    add_executable(fw main.c two.c)
    target_link_libraries(fw PRIVATE models::net models::two)
    get_target_property(bytes models::net EMX_ARENA_BYTES)
    message("ARENA ${bytes}")
"""
TWO = """
#include "two.h"
static unsigned char arena[TWO_ARENA_BYTES] __attribute__((aligned(TWO_ARENA_ALIGN)));
int two(const void *blob, size_t bytes, const float *x, float *y);
int two(const void *blob, size_t bytes, const float *x, float *y) {
    const emx_weights_status_t status = two_bind_weights(blob, bytes);
    if (status == EMX_WEIGHTS_OK)
        two_run_in(arena, x, y);
    return status;
}
"""


def install(project: Project, body: str, *, toolchain: Path | None = None) -> Path:
    """Configure, build, install, and take all that was built away; the prefix, moved."""
    project.cmakelists(MODELS + body)
    project.configure("-DCMAKE_INSTALL_LIBDIR=lib", toolchain=toolchain).ok()
    project.build().ok()
    first, prefix = project.path / "first", project.path / "moved prefix"
    project.run("cmake", "--install", project.build_dir(), "--prefix", first).ok()
    first.rename(prefix)
    shutil.rmtree(project.build_dir())
    for path in prefix.rglob("*.cmake"):
        assert str(project.path) not in path.read_text(), path
    return prefix


def user(project: Project, prefix: Path, tmp_path: Path, *extra: str) -> Project:
    """A second project, on a machine that has CMake and a compiler only."""
    path = tmp_path / "user"
    path.mkdir()
    compilers = ("gcc", "cc", "g++", "c++", "as", "ld", "ar", "ranlib", "nm", *extra)
    environment = {**project.environment, "PATH": tools(tmp_path, "cmake", "ninja", *compilers)}
    made = Project(path, options=(f"-DCMAKE_PREFIX_PATH={prefix}",), environment=environment)
    made.write("main.c", (project.path / "main.c").read_text())
    made.write("two.c", TWO)
    return made


def test_package(project: Project, tmp_path: Path) -> None:
    """find_package and link; the header and the facts are there."""
    prefix = install(project, "emx_install_models(TARGETS net two PACKAGE models)\n")
    assert (prefix / "share/emx/two_weights.bin").stat().st_size > 80
    facts = json.loads((prefix / "share/emx/net.json").read_text())
    second = user(project, prefix, tmp_path)
    second.cmakelists(USER, head="find_package(models CONFIG REQUIRED)")
    assert f"ARENA {facts['arena_bytes']}\n" in second.configure().ok().text
    second.build().ok()
    assert second.printed() == PRINTED


def test_export_set_of_the_user(project: Project, tmp_path: Path) -> None:
    """A library of the user that links a model, in one export set with it, for a C++ project."""
    project.write("app.c", '#include "net.h"\nvoid app(float *x, float *y) { net_run(x, y); }\n')
    body = """
    add_library(app STATIC app.c)
    target_link_libraries(app PUBLIC net)
    install(TARGETS app EXPORT mine)
    emx_install_models(TARGETS net EXPORT mine)
    install(EXPORT mine NAMESPACE my:: DESTINATION lib/cmake/mine FILE mine-config.cmake)
    """
    prefix = install(project, body)
    second = user(project, prefix, tmp_path)
    source = (
        '#include <net.h>\nextern "C" void app(float *x, float *y);\nint main() {'
        " float x[NET_X_LEN] = {0, -3}, y[NET_Y_LEN]; app(x, y); return y[1] == 3 ? 42 : 1; }\n"
    )
    second.write("main.cpp", source)
    head = "enable_language(CXX)\nfind_package(mine CONFIG REQUIRED)"
    body = "add_executable(fw main.cpp)\ntarget_link_libraries(fw PRIVATE my::app)\n"
    second.cmakelists(body, head=head)
    second.configure().ok()
    second.build().ok()
    assert second.run(second.program()).code == 42


def test_board(project: Project, tmp_path: Path) -> None:
    """Built with our toolchain file, linked with the user's own, startup code and linker script."""
    prefix = install(project, "emx_install_models(TARGETS net PACKAGE models)\n", toolchain=M4)
    names = (f"arm-none-eabi-{name}" for name in ("gcc", "ar", "ranlib", "as", "ld"))
    second = user(project, prefix, tmp_path, "qemu-system-arm", *names)
    toolchain = own(second)
    body = """
    add_executable(fw own.c)
    target_link_libraries(fw PRIVATE models::net)
    target_link_options(fw PRIVATE -nostartfiles "-T${CMAKE_CURRENT_SOURCE_DIR}/own.ld")
    """
    second.cmakelists(body, head="find_package(models CONFIG REQUIRED)")
    second.configure(toolchain=toolchain).ok()
    second.build().ok()
    assert emulated_exit(second) == 42


def test_version(project: Project, tmp_path: Path) -> None:
    """A package has the version of the project that installed it, if that has one."""
    project.cmakelists(MODELS + "emx_install_models(TARGETS net PACKAGE models)\n")
    lists = project.path / "CMakeLists.txt"
    lists.write_text(
        lists.read_text().replace("project(fw C)", "project(fw VERSION 1.4 LANGUAGES C)")
    )
    project.configure().ok()
    project.build().ok()
    prefix = project.path / "prefix"
    project.run("cmake", "--install", project.build_dir(), "--prefix", prefix).ok()
    second = user(project, prefix, tmp_path)
    for asked, found in (("1.2", 1), ("1.4 EXACT", 1), ("1.5", 0), ("2", 0)):
        head = f'find_package(models {asked} CONFIG)\nmessage("FOUND ${{models_FOUND}}")'
        second.cmakelists("", head=head)
        assert f"FOUND {found}\n" in second.configure("--fresh").ok().text
