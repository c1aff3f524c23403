# SPDX-License-Identifier: Apache-2.0
"""scripts/setup on machines that lack things, which are played by a PATH of stand-ins."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("bash", "cat", "dirname", "env", "ln", "mkdir", "sed", "sha256sum", "sort")

# Writes its name and arguments to a log; an environment is a copy of itself.
RECORDER = """#!/bin/sh
echo "$(basename "$0") $*" >>"{log}"
case "$2" in
    venv) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
"""
TOOL = "#!/bin/sh\necho cmake version 3.25.1\n"
ARM_GCC = "#!/bin/sh\necho /usr/lib/libc_nano.a\n"


@dataclass
class Computer:
    """A directory of tools that is the whole PATH, and a clone to set up."""

    tools: Path
    clone: Path
    log: Path

    def add(self, name: str, text: str = TOOL) -> None:
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def setup(self, purpose: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        return subprocess.run(
            ["bash", "scripts/setup", purpose],
            cwd=self.clone,
            env={"PATH": str(self.tools)},
            text=True,
            capture_output=True,
        )


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    """A user's machine with Python, CMake, Ninja and QEMU, but no compiler."""
    clone = tmp_path / "a clone"
    (clone / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", clone / "scripts")
    for name in ("pyproject.toml", "VERSION", "CMakeLists.txt"):
        shutil.copy(ROOT / name, clone)
    shutil.copytree(ROOT / "packaging", clone / "packaging")
    made = Computer(tmp_path / "bin", clone, tmp_path / "log")
    made.tools.mkdir()
    for name in (*NEEDED, "basename", "cp"):
        found = shutil.which(name)
        assert found
        (made.tools / name).symlink_to(found)
    for name in ("cmake", "ninja", "qemu-system-arm"):
        made.add(name)
    made.add("python3", RECORDER.format(log=made.log))
    made.add("id", "#!/bin/sh\necho 1000\n")
    return made


def test_a_user_is_told_what_to_install(computer: Computer) -> None:
    done = computer.setup("demo")
    assert done.returncode == 1
    wanted = (
        "sudo apt-get install --no-install-recommends gcc-arm-none-eabi libnewlib-arm-none-eabi"
    )
    assert done.stderr.strip().endswith(wanted)
    assert not (computer.clone / ".venv").exists()
    for package in (
        "clang-format",
        "qemu-system-misc",
        "picolibc-riscv64-unknown-elf",
        "qemu-user",
    ):
        assert package not in done.stderr
        assert package in computer.setup("test").stderr


def test_root_installs_what_is_missing_and_only_once(computer: Computer) -> None:
    computer.add("gcc in the archive", ARM_GCC)
    package, gcc = computer.tools / "gcc in the archive", computer.tools / "arm-none-eabi-gcc"
    install = RECORDER + f'[ "$1" = update ] || ln -s "{package}" "{gcc}"\n'
    computer.add("apt-get", install.format(log=computer.log))
    computer.add("id", "#!/bin/sh\necho 0\n")
    done = computer.setup("demo")
    assert done.returncode == 0, done.stderr
    log = computer.log.read_text().splitlines()
    commands = [line for line in log if line.startswith("apt-get")]
    assert commands == [
        "apt-get update -q",
        "apt-get install -q -y --no-install-recommends gcc-arm-none-eabi libnewlib-arm-none-eabi",
    ]
    pip = [line for line in log if line.startswith("python -m pip")]
    assert "torch==2.13.0" in pip[0]  # first, or its CUDA build comes with something else
    assert pip[-1].endswith("--editable .[export,quantize,dev]")

    again = computer.setup("demo")
    assert again.returncode == 0
    assert not any(word in computer.log.read_text() for word in ("-m pip", "apt-get"))


def test_a_tool_that_apt_does_not_bring_is_an_error(computer: Computer) -> None:
    computer.add("apt-get", "#!/bin/sh\n")
    computer.add("id", "#!/bin/sh\necho 0\n")
    done = computer.setup("demo")
    assert done.returncode == 1
    assert "still missing after apt-get install: gcc-arm-none-eabi" in done.stderr
    assert not (computer.clone / ".venv").exists()


def test_an_old_cmake_is_an_error(computer: Computer) -> None:
    computer.add("arm-none-eabi-gcc", ARM_GCC)
    computer.add("cmake", "#!/bin/sh\necho cmake version 3.22.1\n")
    done = computer.setup("demo")
    assert done.returncode == 1
    assert "emx needs CMake 3.25 or newer; this is 3.22.1" in done.stderr
