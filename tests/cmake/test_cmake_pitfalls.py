# SPDX-License-Identifier: Apache-2.0
"""The known pitfalls of code generators in CMake builds, and the tests that keep emx out of each.

PITFALLS is the table. Those that no other test has in view have theirs here.
"""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cmake_project import FIVE_LINES, PRINTED, ROOT, Project, bundle, worked

import emx
from emx.bundle import AtenNode, Bundle, Ref, Vectors
from emx.ir import TensorType

LIFE = "test_cmake_lifecycle.py::test_life_of_a_build_tree"
CROSS = "test_cmake_lifecycle.py::test_cross"
SYSROOT = "test_cmake_cross.py::test_sysroot_modes"
VERSION = "test_cmake_package.py::test_version"
EMULATOR = "test_cmake_cross.py::test_the_emulator_runs_the_test"
QUESTIONS = "test_cmake_cross.py::test_no_question_to_the_linker"

PITFALLS = {
    1: ("FindPython looks for a Python of the target, CMake 4.1 and newer", CROSS, QUESTIONS),
    2: ("CMAKE_FIND_ROOT_PATH hides the host's Python, or offers the target's", SYSROOT),
    3: ("MODE_PACKAGE ONLY hides the package of emx", SYSROOT),
    4: ("a version file that asks for the pointer size refuses 32-bit targets", VERSION),
    5: ("find_package(emx 0.1) finds no version in the source tree", VERSION),
    6: (
        "an output stays as it was after a change of what it was made from",
        "test_cmake_export.py::test_script",
        "test_cmake_export.py::test_depends",
        "test_cmake_package.py::test_editable",
        "test_cmake_stale.py::test_changed_options",
    ),
    7: (
        "a build with nothing to do does something",
        LIFE,
        "test_cmake_build.py::test_no_op_build_starts_nothing",
    ),
    8: ("outputs that keep their time stamps make Makefiles run the generator for ever", LIFE),
    9: ("depfiles: blanks, absolute names", "test_cmake_package.py::test_editable"),
    10: ("no compiler reports what .incbin reads", LIFE, "::test_the_wrapper_names_its_blob"),
    11: ("a .S file in a project without assembler is left out", "::test_no_assembler_files"),
    12: (".incbin finds nothing at link time", "test_cmake_lifecycle.py::test_flavours"),
    13: ("two rules for one file, also of two configurations", LIFE),
    14: ("unkind names of directories", LIFE, "::test_names_of_directories"),
    15: (
        "install(EXPORT) wants the runtime in the set too",
        "test_cmake_install.py::test_package",
        "test_cmake_install.py::test_export_set_of_the_user",
    ),
    16: (
        "an older CMake takes a new keyword for an argument",
        LIFE,
        "test_cmake_lifecycle.py::test_codegen_target",
    ),
    17: (
        "the toolchain file is read again, without the cache",
        "test_cmake_cross.py::test_flags_reach_try_compile",
    ),
    18: ("another board in an old tree", "test_cmake_errors.py::test_tree_keeps_its_board"),
    19: ("checks that link say yes to everything", QUESTIONS),
    20: ("QEMU takes the arguments of a test for disks", EMULATOR),
    21: ("only a target's name as the command uses the emulator", EMULATOR),
    22: ("the exit code of a program on a board is lost", "test_cmake_cross.py::test_exit_codes"),
    23: (
        "large arrays of numbers exhaust the compiler",
        "::test_the_c_does_not_grow_with_the_weights",
        "test_cmake_memory.py::test_strings",
    ),
    24: (
        "Conan takes the libraries of two processors for one",
        "../test_conan.py::test_packages_of_two_cores_are_two",
    ),
    25: (
        "scikit-build imports emx, and with it gigabytes, in builds of others",
        "../test_layering.py::test_import_emx_loads_next_to_nothing",
        "::test_torch_is_an_extra",
    ),
    26: ("an editable install keeps copies that go stale", "test_cmake_package.py::test_editable"),
    27: ("globs that are checked in each build", "::test_no_globs"),
    28: (
        "what configuring made and somebody deleted has no rule",
        LIFE,
        "test_cmake_export.py::test_archive",
    ),
    29: (
        "a generator depends on the directory it runs in",
        "test_cmake_build.py::test_working_directory_is_no_import_path",
        "test_cmake_build.py::test_add_subdirectory",
        "::test_no_working_directory",
    ),
}  # fmt: skip


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_pitfall_has_a_test() -> None:
    assert list(PITFALLS) == list(range(1, 30))
    for number, (_, *names) in PITFALLS.items():
        assert names, number
        for name in names:
            file, _, test = name.partition("::")
            path = Path(__file__).parent / file if file else Path(__file__)
            assert test in functions_of(path), f"{number}: {name}"


def cmake_code() -> str:
    return "\n".join(file.read_text() for file in (ROOT / "cmake").glob("*.cmake"))


def test_the_wrapper_names_its_blob(tmp_path: Path) -> None:
    """Other weights make another C file, so that caches of compilers notice."""
    emx.compile(bundle(bias=1), out_dir=tmp_path)
    digest = hashlib.sha256((tmp_path / "net_weights.bin").read_bytes()).hexdigest()
    assert digest in (tmp_path / "net_weights.c").read_text()


def test_the_c_does_not_grow_with_the_weights(tmp_path: Path) -> None:
    sizes = []
    for n in (4, 400):
        files = emx.compile(square(n), out_dir=tmp_path).files
        sizes.append(sum(len(data) for name, data in files.items() if name.endswith(".c")))
    assert sizes[1] < 1.1 * sizes[0]


def square(n: int) -> Bundle:
    """y = w x, with n * n weights."""
    t, x = TensorType((1, n)), np.zeros((1, 1, n), np.float32)
    w = np.arange(n * n, dtype=np.float32).reshape(n, n)
    node = AtenNode("y", "aten.linear.default", (Ref("x"), Ref("w")), {}, (t,))
    vectors = Vectors({"x": x}, {"y": x})
    return Bundle("net", (("x", t),), (("y", Ref("y")),), (node,), {"w": w}, vectors)


def test_no_assembler_files() -> None:
    for folder in ("cmake", "runtime", "boards", "python"):
        assert not [f for f in (ROOT / folder).rglob("*") if f.suffix in (".S", ".s", ".asm")]
    assert not re.search(r"enable_language\(\s*ASM", cmake_code())


def test_torch_is_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [d for d in project["dependencies"] if d.startswith("torch")]
    assert [d for d in project["optional-dependencies"]["export"] if d.startswith("torch")]


def test_no_globs() -> None:
    assert not re.search(r"file\(\s*GLOB", cmake_code())


def test_no_working_directory() -> None:
    assert "WORKING_DIRECTORY" not in cmake_code()


@pytest.mark.parametrize("generator", ["Ninja", "Unix Makefiles"])
def test_names_of_directories(project: Project, generator: str) -> None:
    """CMake itself has trouble with "#", "$", "&", ";" and quotes; all else is fine."""
    project.generator = generator
    project.path = project.path.rename(project.path.with_name("größe, 100% {x} +a=b @c"))
    project.cmakelists(FIVE_LINES)
    project.configure().ok()
    project.build().ok()
    assert project.printed() == PRINTED
    assert project.passed() == 1
    assert worked(project.build().ok().text) == []
