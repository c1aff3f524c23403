# SPDX-License-Identifier: Apache-2.0
"""The Conan package: created, and used on the host and on every board, without any remote."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ROOT / "toolchains" / "conan"
CORES = sorted(p.stem for p in (ROOT / "toolchains").glob("cortex-*.cmake"))
PARTS = ("VERSION", "LICENSE", "boards", "cmake", "python", "runtime", "toolchains")
VERSION = (ROOT / "VERSION").read_text().strip()
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("conan")]  # one package for all

# A library with C in it, which emx wrote: what a user's own package is.
LIBRARY = """
from conan import ConanFile
class Library(ConanFile):
    name = "classifier"
    version = "1.0"
    settings = "os", "arch", "compiler", "build_type"
    package_type = "static-library"
    requires = "emx/[*]"
"""


@dataclass
class Conan:
    """A Conan home of its own, which knows no remote, and a Python that has no emx."""

    home: Path
    python: Path

    def run(self, *arguments: object) -> str:
        """What the command printed on both its streams."""
        return self._run(arguments, subprocess.STDOUT).stdout

    def json(self, *arguments: object) -> dict[str, object]:
        done = self._run((*arguments, "--format=json"), subprocess.DEVNULL)
        return dict(json.loads(done.stdout))

    def test(self, profile: object, builds: Path) -> str:
        """conan test; the build tree of the test package comes to lie below `builds`."""
        return self.run(
            "test", ROOT / "test_package", f"emx/{VERSION}", "-pr:b=default", f"-pr:h={profile}",
            "-c", f"tools.cmake.cmake_layout:test_folder={builds}",
        )  # fmt: skip

    def package_id(self, profile: object) -> str:
        """Of the library."""
        command = (
            "graph",
            "info",
            "--requires=classifier/1.0",
            "-pr:b=default",
            f"-pr:h={profile}",
        )
        graph = self.json(*command)["graph"]
        assert isinstance(graph, dict)
        (found,) = (n["package_id"] for n in graph["nodes"].values() if n["name"] == "classifier")
        return str(found)

    def _run(self, arguments: tuple[object, ...], errors: int) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "conans.conan", *map(str, arguments)],
            env={**os.environ, "CONAN_HOME": str(self.home), "VIRTUAL_ENV": str(self.python)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done


def environment(prefix: Path) -> Path:
    """A virtual environment with the packages of this one but emx, which a developer's may have
    from another directory than the package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    (site,) = prefix.glob("lib/python3*/site-packages")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if "emx" not in package.name:
            (site / package.name).symlink_to(package)
    if not (site / "numpy").exists():  # this environment has them from elsewhere in its turn
        import numpy

        (site / "packages.pth").write_text(str(Path(numpy.__file__).parents[1]))
    return prefix


@pytest.fixture(scope="module")
def conan(tmp_path_factory: pytest.TempPathFactory) -> Conan:
    home = tmp_path_factory.mktemp("conan home")
    (home / "remotes.json").write_text('{"remotes": []}')
    made = Conan(home, environment(tmp_path_factory.mktemp("python") / "venv"))
    made.run("profile", "detect")
    return made


@pytest.fixture(scope="module")
def package(conan: Conan) -> Path:
    """The package's folder."""
    assert conan.run("remote", "list") == ""
    conan.run("create", ROOT, "-pr:a=default", "--test-folder=")
    return Path(conan.run("cache", "path", f"emx/{VERSION}:{package_id(conan)}").split("\n")[-2])


def package_id(conan: Conan) -> str:
    """Of emx, which has one."""
    listed = json.dumps(conan.json("list", f"emx/{VERSION}:*"))
    (found,) = set(re.findall(r'"([0-9a-f]{40})": {"info"', listed))
    return str(found)


def test_contents(package: Path) -> None:
    """What git has of these directories, and nothing else."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PARTS],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    files = {str(p.relative_to(package)) for p in package.rglob("*") if p.is_file()}
    assert files - {"conaninfo.txt", "conanmanifest.txt"} == set(listed)


@pytest.mark.parametrize("core", ["host", *CORES])
def test_package_works(conan: Conan, package: Path, tmp_path: Path, core: str) -> None:
    """test_package finds it by nothing but Conan; on a board its programs run in QEMU."""
    text = conan.test("default" if core == "host" else PROFILES / core, tmp_path)
    assert re.search(r"100% tests passed.* out of 2", text), text
    (cache,) = tmp_path.rglob("CMakeCache.txt")
    found = re.findall(r"^emx_DIR:PATH=(.*)", cache.read_text(), re.MULTILINE)
    (directory,) = map(Path, found)
    assert directory.is_relative_to(conan.home)
    boards = re.findall(r"^_EMX_TREE_BOARD:INTERNAL=(.*)", cache.read_text(), re.MULTILINE)
    assert boards == ([] if core == "host" else [default_board(core)])


def default_board(core: str) -> str:
    text = (ROOT / "toolchains" / f"{core}.cmake").read_text()
    found = re.search(r"EMX_DEFAULT_BOARD (\S+?)\)", text)
    assert found
    return found[1]


def test_packages_of_two_cores_are_two(conan: Conan, package: Path, tmp_path: Path) -> None:
    """Also where Conan's settings agree; and they are the same two on another machine."""
    assert sorted(p.name for p in PROFILES.iterdir() if not p.suffix) == CORES
    (tmp_path / "conanfile.py").write_text(LIBRARY)
    conan.run("export", tmp_path)
    names = ["default", *(PROFILES / core for core in CORES)]
    ids = {str(name): conan.package_id(name) for name in names}
    assert len(set(ids.values())) == len(names), ids
    elsewhere = shutil.copytree(ROOT / "toolchains", tmp_path / "another place")
    assert conan.package_id(elsewhere / "conan" / "cortex-m4") == ids[str(PROFILES / "cortex-m4")]
