# SPDX-License-Identifier: Apache-2.0
"""Real configures and builds of small projects; each test starts from what a user would write."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cmake_project import MAIN, ROOT, Project, bundle, system_path

HERE = Path(__file__).parent
UNSET = ("VIRTUAL_ENV", "PYTHONPATH", "CMAKE_GENERATOR", "CMAKE_PREFIX_PATH", "CC", "CFLAGS")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these take seconds."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where exported models are kept, for all tests of the session."""
    return tmp_path_factory.mktemp("emx-cache")


@pytest.fixture
def project(tmp_path: Path, cache: Path) -> Project:
    """A project in a directory whose name is unkind to build tools, with the model net.emx."""
    return make_project(tmp_path / "my (fw) proj", cache)


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Project:
    """The same for tests that configure only and start from anything: the compiler is found."""
    project = make_project(tmp_path_factory.mktemp("configured") / "my (fw) proj", cache)
    project.cmakelists("")
    project.configure().ok()
    return project


def make_project(path: Path, cache: Path) -> Project:
    path.mkdir()
    bundle().save(path / "net.emx")
    made = Project(
        path,
        options=(
            f"-Demx_DIR={ROOT / 'cmake'}",
            f"-DEMX_PYTHON_EXECUTABLE={sys.executable}",
            f"-DEMX_CACHE_DIR={cache}",
        ),
        environment={**dict.fromkeys(UNSET), "PATH": system_path()},
    )
    made.write("main.c", MAIN)
    return made


@pytest.fixture(params=["system", "newest"])
def either_cmake(request: pytest.FixtureRequest, project: Project) -> Project:
    """The project with the CMake of the system (Debian 12 has 3.25, the oldest that emx takes),
    and with the newest of the Python package index, which is among the development tools."""
    if request.param == "newest":
        project.cmake = Path(pytest.importorskip("cmake").CMAKE_BIN_DIR)
    return project
