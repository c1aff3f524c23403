# SPDX-License-Identifier: Apache-2.0
"""emx as a package: the wheel, the editable install, and what find_package makes of them."""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from cmake_project import FIVE_LINES, M4, PRINTED, ROOT, Project, run, worked

VERSION = (ROOT / "VERSION").read_text().strip()
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
SHIPPED = ("CMakeLists.txt", "VERSION", "pyproject.toml", "README.md", "LICENSE")
FOLDERS = ("boards", "cmake", "packaging", "python", "runtime", "toolchains")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a source distribution has, so that building leaves nothing in the tree."""
    copy = tmp_path_factory.mktemp("source") / "emx tree"
    copy.mkdir()
    for name in SHIPPED:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip(source, "wheel", "--no-deps", "--no-build-isolation", "-w", str(out), ".")
    (found,) = out.glob("*.whl")
    return found


def pip(cwd: Path, *arguments: str, prefix: Path | None = None) -> None:
    target = ["--python", str(prefix / "bin/python3")] if prefix else []
    command = (sys.executable, "-m", "pip", *target, *arguments, "-q", "--no-index")
    run(*command, cwd=cwd, PIP_DISABLE_PIP_VERSION_CHECK="1").ok()


def environment(prefix: Path) -> Path:
    """A virtual environment that sees this one's packages, but not its emx."""
    run(sys.executable, "-m", "venv", "--without-pip", prefix, cwd=prefix.parent).ok()
    for package in Path(pytest.__file__).parents[1].iterdir():
        if "emx" not in package.name:
            (prefix / SITE / package.name).symlink_to(package)
    return prefix


def use(project: Project, prefix: Path) -> None:
    """The project finds emx by nothing but the PATH."""
    project.options = tuple(o for o in project.options if "EMX_CACHE_DIR" in o)
    path = f"{prefix / 'bin'}:{sysconfig.get_path('scripts')}:/usr/local/bin:/usr/bin:/bin"
    project.environment["PATH"] = path


def cached(project: Project, name: str) -> str:
    lines = (project.build_dir() / "CMakeCache.txt").read_text().splitlines()
    (value,) = (line.partition("=")[2] for line in lines if line.startswith(f"{name}:"))
    return value


def test_wheel_contents(wheel: Path) -> None:
    """Everything that a build needs lies in the package, as in the source tree."""
    assert wheel.name == f"emx-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as z:
        names = set(z.namelist())
    for folder in ("boards", "cmake", "runtime", "toolchains"):
        files = [f for f in (ROOT / folder).rglob("*") if f.is_file()]
        assert {f"emx/{f.relative_to(ROOT)}" for f in files} <= names
    for file in (ROOT / "python/emx").rglob("*"):
        if file.suffix in (".py", ".j2"):
            assert f"emx/{file.relative_to(ROOT / 'python/emx')}" in names
    assert f"emx-{VERSION}.data/data/share/cmake/emx/emx-config.cmake" in names
    assert "emx/VERSION" in names
    assert not [n for n in names if "/tests/" in n or n.endswith(".pyc")]


def test_installed(project: Project, wheel: Path, tmp_path: Path) -> None:
    """find_package needs no hint when the environment is on the PATH; nor does a cross build."""
    prefix = environment(tmp_path / "venv")
    pip(tmp_path, "install", "--no-deps", str(wheel), prefix=prefix)
    package = prefix / SITE / "emx"
    use(project, prefix)
    project.cmakelists(FIVE_LINES, head=f"find_package(emx {VERSION} CONFIG REQUIRED)")
    project.configure().ok()
    assert cached(project, "emx_DIR") == str(prefix / "share/cmake/emx")
    assert cached(project, "_EMX_PYTHON_PASSED").startswith(f"{prefix / 'bin/python3'};")
    project.build().ok()
    assert project.run(project.build_dir() / "fw").ok().text.strip() == PRINTED
    assert worked(project.build().ok().text) == []
    project.configure(toolchain=package / "toolchains" / M4.name, tree="m4").ok()
    project.build(tree="m4").ok()
    assert project.passed(tree="m4") == 1
    printed = project.run(prefix / "bin/emx", "--cmake-dir").ok().text.strip()
    assert printed == str(package / "cmake")


def test_editable(project: Project, source: Path, tmp_path: Path) -> None:
    """An editable install leads to the source tree and keeps no copies that could go stale."""
    prefix = environment(tmp_path / "venv")
    pip(source, "install", "--no-deps", "--no-build-isolation", "-e", ".", prefix=prefix)
    assert not (prefix / SITE / "emx").exists()
    use(project, prefix)
    project.cmakelists(FIVE_LINES)
    project.configure().ok()
    assert cached(project, "_EMX_PYTHON_PASSED") == f"{prefix / 'bin/python3'};{VERSION} {source}"
    project.build().ok()
    assert project.run(project.build_dir() / "fw").ok().text.strip() == PRINTED
    printed = project.run(prefix / "bin/emx", "--cmake-dir").ok().text.strip()
    assert printed == str(source / "cmake")
    check_emx_is_a_dependency(project, source, "build")
    project.generator = "Unix Makefiles"
    project.configure(tree="make").ok()
    project.build(tree="make").ok()
    check_emx_is_a_dependency(project, source, "make")


def check_emx_is_a_dependency(project: Project, source: Path, tree: str) -> None:
    """A change of emx itself reaches the generated C, by a build alone."""
    template = source / "python/emx/templates/model.c.j2"
    change = f"// of the emx that changed before {tree}\n"
    template.write_text(template.read_text() + change)
    project.build(tree=tree).ok()
    assert (project.build_dir(tree) / "emx/net/net.c").read_text().endswith(change)
    assert worked(project.build(tree=tree).ok().text) == []


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (VERSION, True),
        (".".join(VERSION.split(".")[:2]), True),
        (f"{VERSION} EXACT", True),
        ("0.0.9", False),
        ("99", False),
        (f"{VERSION}...<99", True),
        ("90...99", False),
    ],
)
def test_version(project: Project, asked: str, found: bool) -> None:
    """A 32-bit target is no other version: the toolchain plays no part."""
    project.cmakelists(
        "", head=f'find_package(emx {asked} CONFIG)\nmessage("FOUND ${{emx_FOUND}}")'
    )
    for toolchain in (None, M4):
        text = project.configure(toolchain=toolchain, tree=str(toolchain)[-5:]).ok().text
        assert f"FOUND {int(found)}" in text


def test_presets() -> None:
    """The source tree's presets are valid, and there is one of each kind for every board."""
    boards = [file.parent.name for file in (ROOT / "boards").glob("*/board.json")]
    for kind in ("configure", "build", "test", "workflow"):
        text = run("cmake", f"--list-presets={kind}", cwd=ROOT).ok().text
        for name in ("host", *boards):
            assert f'"{name}"' in text


def test_manual_is_complete() -> None:
    """docs/cmake.md names every keyword, property and cache variable."""
    manual = (ROOT / "docs/cmake.md").read_text()
    code = "\n".join(file.read_text() for file in (ROOT / "cmake").glob("*.cmake"))
    lists = re.findall(r"PARSE_ARGV [01] ARG\s+((?:\"[^\"]*\"\s*){3})", code)
    keywords = {word for text in lists for word in re.findall(r"[A-Z][A-Z_]+", text)}
    properties = {
        f"EMX_{n}" for n in re.findall(r"foreach\(_emx_name IN ITEMS ([^)]*)", code)[0].split()
    }
    variables = set(re.findall(r"set\((EMX_\w+) \"[^\"]*\" CACHE (?:PATH|FILEPATH)", code))
    assert len(keywords) > 20
    assert len(variables) == 2
    internal = {"BUNDLE", "DIRECTORY", "ARGS", "ALSO"}  # of private functions
    for name in (keywords - internal) | properties | variables:
        assert re.search(rf"\b{name}\b", manual), name


def test_python_with_the_emx_of_another_clone(
    project: Project, source: Path, tmp_path: Path
) -> None:
    """Python prefers an editable install to PYTHONPATH: its emx would not fit this runtime."""
    real = environment(tmp_path / "venv") / "bin/python3"
    python = project.write(
        "python", f'#!/bin/sh\nPYTHONPATH="{source}/python" exec "{real}" "$@"\n'
    )
    python.chmod(0o755)
    project.cmakelists(FIVE_LINES)
    text = project.configure(f"-DEMX_PYTHON_EXECUTABLE={python}").fails().text
    assert f"has the emx of {source}" in re.sub(r"\s+", " ", text)
