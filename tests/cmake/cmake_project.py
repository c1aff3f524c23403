# SPDX-License-Identifier: Apache-2.0
"""A small project, its model and its build trees, as the tests of the CMake package use them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emx.bundle import AtenNode, Bundle, Ref, Vectors
from emx.ir import Origin, TensorType

ROOT = Path(__file__).resolve().parents[2]
TOOLCHAINS = ROOT / "toolchains"
M4, M55 = TOOLCHAINS / "cortex-m4.cmake", TOOLCHAINS / "cortex-m55.cmake"

MAIN = """
#include <stdio.h>
#include "net.h"
int main(void) {
    float x[NET_X_LEN] = {1, -2, 3, -4}, y[NET_Y_LEN];
    net_run(x, y);
    printf("y = %.1f %.1f %.1f %.1f\\n", y[0], y[1], y[2], y[3]);
    return 0;
}
"""
PRINTED = "y = 0.0 2.0 0.0 4.0"  # what MAIN prints with bundle(): relu(-x)
FIVE_LINES = """
    emx_add_model(net net.emx)
    add_executable(fw main.c)
    target_link_libraries(fw PRIVATE net)
    emx_add_model_test(net_test MODEL net)
"""
OWN_TOOLCHAIN = """
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
"""
OWN_STARTUP = """
#include <stdint.h>
#include "net.h"
extern uint32_t stack_top[];
static void leave(uint32_t code) {
    uint32_t block[2] = {0x20026, code};
    register uint32_t r0 __asm__("r0") = 0x20;
    register void *r1 __asm__("r1") = block;
    for (;;)
        __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}
void my_reset(void);
void my_reset(void) {
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    static float x[NET_X_LEN], y[NET_Y_LEN];
    x[1] = -42;
    net_run(x, y);
    leave((uint32_t)y[1]);
}
__attribute__((section(".my_vectors"), used)) static const void *const vectors[] = {
    stack_top, (const void *)my_reset};
"""
OWN_SCRIPT = """
ENTRY(my_reset)
MEMORY { ROM (rx) : ORIGIN = 0, LENGTH = 1M  RAM (rw) : ORIGIN = 0x20000000, LENGTH = 1M }
SECTIONS {
    .text : { KEEP(*(.my_vectors)) *(.text*) *(.rodata*) } > ROM
    .ARM.exidx : { *(.ARM.exidx*) } > ROM
    .data : { *(.data*) } > RAM AT > ROM
    .bss : { *(.bss*) *(COMMON) } > RAM
    stack_top = ORIGIN(RAM) + LENGTH(RAM);
}
"""
WORK = ("Building", "Linking", "generating", "planning", "exporting")  # a build that did something


def bundle(bias: float = 0.0) -> Bundle:
    """y = 1 relu(bias - x) as an exported model, with test vectors computed here."""
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 1, 4)
    one = np.eye(4, dtype=np.float32)
    b = np.full(4, bias, np.float32)
    z = b - x
    y = np.maximum(z, 0)
    t = TensorType((1, 4))
    calls = {
        "linear": ("aten.linear.default", Ref("x"), Ref("w"), Ref("b")),
        "relu": ("aten.relu.default", Ref("linear")),
        "linear_1": ("aten.linear.default", Ref("relu"), Ref("one"), Ref("zero")),
    }
    nodes = tuple(
        AtenNode(name, target, tuple(arguments), {}, (t,), Origin("fc", "net.py:7", f"x = {name}"))
        for name, (target, *arguments) in calls.items()
    )
    return Bundle(
        name="net",
        inputs=(("x", t),),
        outputs=(("y", Ref("linear_1")),),
        nodes=nodes,
        tensors={"w": -one, "b": b, "one": one, "zero": 0 * b},
        vectors=Vectors({"x": x}, {"y": y}, {"linear": z[0], "relu": y[0], "linear_1": y[0]}),
    )


@dataclass
class Result:
    """A finished command: its exit code and all that it printed."""

    code: int
    text: str

    def ok(self) -> Result:
        assert self.code == 0, self.text
        return self

    def fails(self) -> Result:
        assert self.code != 0, self.text
        return self


def run(*command: object, cwd: Path, **environment: str | None) -> Result:
    """Run a command; an environment variable that is None is unset."""
    env = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    done = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Result(done.returncode, done.stdout)


@dataclass
class Project:
    """A project directory and its build trees. `cmake` is the directory of cmake and ctest."""

    path: Path
    generator: str = "Ninja"
    options: tuple[str, ...] = ()
    environment: dict[str, str | None] = field(default_factory=dict)
    cmake: Path | None = None

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    def cmakelists(self, body: str, head: str = "find_package(emx CONFIG REQUIRED)") -> None:
        start = f"cmake_minimum_required(VERSION 3.25)\nproject(fw C)\n{head}\n"
        self.write("CMakeLists.txt", start + textwrap.dedent(body))

    def build_dir(self, tree: str = "build") -> Path:
        return self.path / tree

    def configure(
        self, *options: str, toolchain: Path | None = None, tree: str = "build"
    ) -> Result:
        cross = [f"--toolchain={toolchain}"] if toolchain else []
        return self.run(
            "cmake", "-S", self.path, "-B", self.build_dir(tree), "-G", self.generator,
            *cross, *self.options, *options,
        )  # fmt: skip

    def build(self, *options: str, tree: str = "build") -> Result:
        return self.run("cmake", "--build", self.build_dir(tree), *options)

    def ctest(self, *options: str, tree: str = "build") -> Result:
        command = ("ctest", "--test-dir", self.build_dir(tree), "--output-on-failure")
        return self.run(*command, "--no-tests=error", *options)

    def passed(self, *options: str, tree: str = "build") -> int:
        """The number of tests, all of which passed."""
        text = self.ctest(*options, tree=tree).ok().text
        found = re.search(r"100% tests passed.* out of (\d+)", text)
        assert found, text
        return int(found[1])

    def program(self, name: str = "fw", tree: str = "build") -> Path:
        """Where the last build put it."""
        (found,) = (p for p in self.build_dir(tree).rglob(name) if p.is_file())
        return found

    def printed(self, tree: str = "build") -> str:
        """What main.c prints on this machine."""
        return self.run(self.program(tree=tree)).ok().text.strip()

    def run(self, *command: object) -> Result:
        if self.cmake and command[0] in ("cmake", "ctest"):
            command = (self.cmake / str(command[0]), *command[1:])
        return run(*command, cwd=self.path, **self.environment)


def system_path() -> str:
    """The PATH without the environment that the tests run in, which has tools of its own."""
    own = Path(sys.prefix) / "bin"
    return os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != own)


def tools(tmp_path: Path, *names: str) -> str:
    """A PATH with nothing but these tools (and what they need to find themselves)."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in names:
        found = shutil.which(name, path=system_path())
        assert found, f"{name} is not installed"
        (folder / name).symlink_to(found)
    return str(folder)


def worked(text: str) -> list[str]:
    return [line for line in text.splitlines() if any(word in line for word in WORK)]


def _emulate(project: Project, machine: str, tree: str) -> Result:
    command = (
        "qemu-system-arm", "-M", machine, "-nodefaults", "-display", "none", "-semihosting-config",
        "enable=on,target=native", "-kernel", project.build_dir(tree) / "fw.elf",
    )  # fmt: skip
    return project.run(*command)


def emulated(project: Project, machine: str, tree: str = "build") -> str:
    return _emulate(project, machine, tree).ok().text


def emulated_exit(project: Project) -> int:
    return _emulate(project, "mps2-an386", "build").code


def own(project: Project) -> Path:
    """Startup code and linker script of the user's own; their toolchain file, which knows no emx.
    The program exits with 42 if the model computes relu(-x)."""
    project.write("own.c", OWN_STARTUP)
    project.write("own.ld", OWN_SCRIPT)
    return project.write("own.cmake", OWN_TOOLCHAIN + "set(CMAKE_EXECUTABLE_SUFFIX_C .elf)\n")


def log_python(project: Project) -> Path:
    """From now on the project's Python writes a line into this file when it starts."""
    log = project.path / "started.txt"
    script = f'#!/bin/sh\necho "$@" >> "{log}"\nexec "{sys.executable}" "$@"\n'
    python = project.write("python wrapper", script)
    python.chmod(0o755)
    others = (o for o in project.options if "EMX_PYTHON_EXECUTABLE" not in o)
    project.options = (*others, f"-DEMX_PYTHON_EXECUTABLE={python}")
    return log
