# SPDX-License-Identifier: Apache-2.0
"""Compile C programs for the host or a board, and run them there."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from emx.errors import EmxError
from emx.paths import root

FLAGS = ("-O3", "-std=gnu11")
CONTRACT = "-ffp-contract=fast"  # for emx's own sources: fused multiply-add, also under -std=c99
FAULT = 117  # what a board's program exits with after a fault (boards/common/startup.c)

_PACKAGES = {
    "cc": "gcc",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
}
_NOISE = "qemu-system-arm: warning: nic lan9118.0 has no peer"


class Generate(Protocol):
    """Writes the C of a model and of its test, NAME*.c and what they embed, into a directory."""

    def __call__(self, directory: Path, *, taps: bool, empty_run: bool) -> None: ...


@dataclass(frozen=True)
class Machine:
    """Where programs run: the host, or a board with its emulator (boards/NAME/board.json).

    flags       compiler and link flags that choose the processor
    sources     what every program needs besides its own: start-up, port
    emulator    command to which the program is appended; empty on the host
    count_args  emulator arguments under which one instruction takes `instruction_ns`
    timer_ns    period of emx_port_ticks()
    """

    name: str
    about: str
    target: str
    compiler: str
    sources: tuple[Path, ...]
    flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()
    emulator: tuple[str, ...] = ()
    count_args: tuple[str, ...] = ()
    instruction_ns: float = 0
    timer_ns: float = 0

    @property
    def timer(self) -> Path:
        return root() / "boards" / self.name / "timer.c"


@dataclass(frozen=True)
class Finished:
    """A program that ended: its exit code and what it printed."""

    code: int
    output: str


@dataclass(frozen=True)
class Program:
    """What to build: sources beside the machine's own, include directories, defines (`K=V`)."""

    sources: tuple[Path, ...]
    include: tuple[Path, ...] = ()
    defines: tuple[str, ...] = ()
    flags: tuple[str, ...] = field(default=FLAGS)


def board_names() -> tuple[str, ...]:
    return tuple(sorted(p.parent.name for p in (root() / "boards").glob("*/board.json")))


_HOSTS = {
    "host": ("this machine, any flags", ()),
    "x86-64-v3": ("this machine, with AVX2", ("-march=x86-64-v3",)),
    "x86-64-v4": ("this machine, with AVX-512", ("-march=x86-64-v4",)),
}


def find_machine(name: str) -> Machine:
    """The host, at one of its levels, or a board; an EmxError for any other name."""
    if name in _HOSTS:
        port = root() / "runtime" / "testing" / "port_host.c"
        about, flags = _HOSTS[name]
        return Machine(name, about, name, "cc", (port,), flags=flags)
    if name not in board_names():
        raise EmxError(
            f"there is no board {name!r}",
            hint=f"programs run on: {', '.join((*_HOSTS, *board_names()))}",
        )
    return _board(root() / "boards" / name)


def _board(directory: Path) -> Machine:
    facts: dict[str, Any] = json.loads((directory / "board.json").read_text())
    common = directory.parent / "common"
    port = root() / "runtime" / "testing" / "port_board.c"
    script = ("-T", str(directory / "board.ld"), "-L", str(common))
    return Machine(
        name=facts["name"],
        about=facts["about"],
        target=facts["target"],
        compiler=facts["compiler"],
        sources=(common / "startup.c", common / "syscalls.c", port),
        flags=(*facts["flags"], "-ffunction-sections", "-fdata-sections"),
        link_flags=(*facts["link_flags"], *script),
        emulator=(facts["emulator"], "-M", facts["machine"], *facts["emulator_args"]),
        count_args=tuple(facts["count_args"]),
        instruction_ns=facts["instruction_ns"],
        timer_ns=facts["timer_ns"],
    )


def build(machine: Machine, program: Program, out: Path) -> Path:
    """Compile and link `program` to `out`; an EmxError carries what the compiler said."""
    tree = root()
    include = (
        tree / "runtime" / "include",
        tree / "runtime" / "testing",
        tree / "boards" / "common",
    )
    command = [
        find_tool(machine.compiler),
        *machine.flags,
        *program.flags,
        CONTRACT,
        *(f"-I{path}" for path in (*program.include, *include)),
        *(f"-D{define}" for define in program.defines),
        *map(str, (*program.sources, *machine.sources)),
        *machine.link_flags,
        "-lm",
        "-o",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise _compile_error(machine, done.stderr)
    return out


def run(
    machine: Machine, program: Path, *, cwd: Path, timeout: float = 300, counted: bool = False
) -> Finished:
    """Run `program` in `cwd`. `counted`: under `count_args`. Too long is an EmxError."""
    emulator = machine.emulator
    if emulator:
        count = machine.count_args if counted else ()
        emulator = (find_tool(emulator[0]), *emulator[1:], *count, "-kernel")
    try:
        done = subprocess.run(
            [*emulator, str(program)],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EmxError(f"the program ran longer than {timeout:g} s on {machine.name}") from None
    lines = [line for line in done.stdout.splitlines() if line != _NOISE]
    return Finished(done.returncode, "\n".join(lines))


def find_tool(name: str) -> str:
    """The path of a compiler or emulator; an EmxError says what to install."""
    path = shutil.which(name)
    if path is None:
        package = _PACKAGES.get(name, name)
        raise EmxError(f"{name} was not found", hint=f"on Debian: apt-get install {package}")
    return path


def _compile_error(machine: Machine, text: str) -> EmxError:
    lines = [s for s in text.splitlines() if "error" in s or "overflowed" in s or "cannot" in s]
    said = "\n".join((lines or text.splitlines())[:8])
    if "overflowed by" in text:
        return EmxError(f"the program is too large for {machine.name}", hint=said)
    return EmxError(f"{machine.compiler} cannot build the program for {machine.name}", hint=said)
