# SPDX-License-Identifier: Apache-2.0
"""The same bundle gives the same bytes, whatever the process, the directory or the hash seed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import emx
from emx.paths import root
from golden_models import GOLDEN, NAMES, golden_bundle

# Two surroundings that have nothing in common.
SURROUNDINGS = (
    ("here", {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C", "HOME": "/tmp"}),
    ("over there", {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "USER": "u"}),
)


def run(arguments: list[str], cwd: Path, environment: Mapping[str, str]) -> str:
    path = {"PYTHONPATH": str(root() / "python"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env={**path, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_compile_in_any_surroundings(tmp_path: Path, name: str) -> None:
    options = emx.Options(test=True, taps=True)
    reference = dict(emx.compile(golden_bundle(name), out_dir=tmp_path, options=options).files)
    assert len(reference) == 8
    for place, environment in SURROUNDINGS:
        directory = tmp_path / place
        directory.mkdir()
        shutil.copy(GOLDEN / f"{name}.emx", directory / "m.emx")
        command = ["-m", "emx", "compile", "m.emx", "-o", "out", "--name", name]
        run([*command, "--target", "host", "--test", "--taps"], directory, environment)
        assert files(directory / "out") == reference


def test_no_path_of_this_machine_in_any_file(tmp_path: Path) -> None:
    for name in NAMES:
        emx.compile(golden_bundle(name), out_dir=tmp_path, options=emx.Options(test=True))
    strings = [str(root()), str(tmp_path), str(Path.home()), sys.prefix]
    for path in tmp_path.iterdir():
        assert not [s for s in strings if s.encode() in path.read_bytes()], path.name


def test_bundle_survives_reading_and_writing() -> None:
    for name in NAMES:
        assert golden_bundle(name).to_bytes() == (GOLDEN / f"{name}.emx").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_taps_add_lines_and_nothing_else(tmp_path: Path, name: str) -> None:
    """A test build is the normal build, and with taps that build with calls in between."""
    wanted = (emx.Options(), emx.Options(test=True), emx.Options(test=True, taps=True))
    normal, test, tapped = (
        emx.compile(golden_bundle(name), out_dir=tmp_path / str(i), options=o).files
        for i, o in enumerate(wanted)
    )
    assert {k: test[k] for k in normal} == dict(normal)
    source = tapped[f"{name}.c"].decode()
    plain = re.sub(r"\n+void emx_test_tap\(.*\n|^    emx_test_tap\(.*\n", "\n", source, flags=re.M)
    squeezed = [re.sub(r"\n+", "\n", text) for text in (plain, normal[f"{name}.c"].decode())]
    assert squeezed[0] == squeezed[1] != re.sub(r"\n+", "\n", source)
    for file in normal.keys() - {f"{name}.c"}:
        assert tapped[file] == normal[file]


def test_files_are_written_only_if_they_change(tmp_path: Path) -> None:
    for _ in range(2):
        emx.compile(golden_bundle("dense"), out_dir=tmp_path)
        for path in tmp_path.iterdir():
            os.utime(path, (1000, 1000)) if path.stat().st_mtime > 2000 else None
    assert {p.stat().st_mtime for p in tmp_path.iterdir()} == {1000}
    emx.compile(golden_bundle("dense"), out_dir=tmp_path, options=emx.Options(arena="caller"))
    changed = {p.name for p in tmp_path.iterdir() if p.stat().st_mtime != 1000}
    assert changed == {"dense.c", "dense.h"}


def test_codegen_starts_with_few_modules(tmp_path: Path) -> None:
    """A bound that does not depend on how fast this machine is; torch alone would add 1500."""
    bundle = str(GOLDEN / "residual.emx")
    arguments = ["compile", bundle, "-o", "out", "--name", "residual", "--target", "host"]
    bare, imported, compiled = (
        int(run(["-c", f"{code}import sys; print(len(sys.modules))"], tmp_path, {}).split()[-1])
        for code in ("", "import emx; ", f"from emx.cli import main; main({arguments}); ")
    )
    assert imported - bare < 100 and compiled - bare < 450
