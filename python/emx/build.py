# SPDX-License-Identifier: Apache-2.0
"""Compile C programs for the host or a board, and run them there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from emx.errors import EmxError
from emx.paths import root

if TYPE_CHECKING:
    from emx.twin import Expected

STANDARD = "-std=gnu11"
FLAGS = ("-O3", STANDARD)
CONTRACT = "-ffp-contract=fast"  # for emx's own sources: fused multiply-add, also under -std=c99
FAULT = 117  # what a board's program exits with after a fault (boards/common/startup_*.c)

_NOISE = "qemu-system-arm: warning: nic lan9118.0 has no peer"


# A row of the linker's --print-memory-usage: region, size used, its unit, size there, its unit.
_REGION = re.compile(r"^ *(\w+): +(\d+) (B|[KMG]B) +(\d+) (B|[KMG]B) ", re.MULTILINE)
_UNIT = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


class TooLarge(EmxError):
    """The program does not fit the board's memory; the hint has a line for each full region."""


class Generate(Protocol):
    """Writes the C of a model and of its test, NAME*.c and what they embed, into a directory, and
    gives what the test expects, by step."""

    def __call__(self, directory: Path, *, taps: bool, empty_run: bool) -> Expected: ...


@dataclass(frozen=True)
class Machine:
    """Where programs run: the host, or a board with its emulator (boards/NAME/board.json).

    flags       compiler and link flags that choose the processor
    sources     what every program needs besides its own: start-up, port
    emulator    command to which the program is appended; empty on the host
    count_args  emulator arguments under which one instruction takes `instruction_ns`; empty where
                instructions cannot be counted
    timer_ns    period of emx_port_ticks()
    packages    Debian packages of the compiler and of the emulator
    bare        no operating system: start-up, system calls and linker script are emx's
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
    packages: tuple[str, str] = ("gcc", "")
    bare: bool = False

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


def machine_names() -> tuple[str, ...]:
    return (*_HOSTS, *board_names())


def find_machine(name: str) -> Machine:
    """The host, at one of its levels, or a board; an EmxError for any other name."""
    if name in _HOSTS:
        about, flags = _HOSTS[name]
        return Machine(name, about, name, "cc", (_port("host"),), flags=flags)
    if name not in board_names():
        raise EmxError(
            f"there is no board {name!r}",
            hint=f"programs run on: {', '.join(machine_names())}",
        )
    return _board(root() / "boards" / name)


def counting_boards() -> tuple[str, ...]:
    """The boards on which instructions can be counted."""
    return tuple(name for name in board_names() if find_machine(name).count_args)


def _facts(directory: Path) -> dict[str, Any]:
    """board.json, and what its family, boards/common/FAMILY.json, has in common."""
    facts: dict[str, Any] = json.loads((directory / "board.json").read_text())
    family = facts.get("family")
    if family is None:
        return facts
    common: dict[str, Any] = json.loads(
        (directory.parent / "common" / f"{family}.json").read_text()
    )
    return common | facts


def _board(directory: Path) -> Machine:
    facts = _facts(directory)
    bare = facts["system"] == "Generic"
    return Machine(
        name=facts["name"],
        about=facts["about"],
        target=facts["target"],
        compiler=facts["compiler"],
        sources=_bare_sources(directory, facts) if bare else (_port("host"),),
        flags=(*facts["flags"], "-ffunction-sections", "-fdata-sections"),
        link_flags=_bare_link_flags(directory, facts) if bare else (),
        emulator=_emulator(facts),
        count_args=tuple(facts.get("count_args", ())),
        instruction_ns=facts.get("instruction_ns", 0),
        timer_ns=facts.get("timer_ns", 0),
        packages=(facts["compiler_packages"], facts["emulator_packages"]),
        bare=bare,
    )


def _port(name: str) -> Path:
    return root() / "runtime" / "testing" / f"port_{name}.c"


def _bare_sources(directory: Path, facts: Mapping[str, Any]) -> tuple[Path, ...]:
    common = directory.parent / "common"
    return (*(common / name for name in facts["startup"]), _port("board"))


def _bare_link_flags(directory: Path, facts: Mapping[str, Any]) -> tuple[str, ...]:
    script = ("-T", str(directory / "board.ld"), "-L", str(directory.parent / "common"))
    return (*facts["link_flags"], "-Wl,--print-memory-usage", *script)


def _emulator(facts: Mapping[str, Any]) -> tuple[str, ...]:
    machine = ("-M", facts["machine"]) if "machine" in facts else ()
    return (facts["emulator"], *machine, *facts.get("emulator_args", ()))


def build(machine: Machine, program: Program, out: Path) -> Path:
    """Compile and link `program` to `out`; an EmxError carries what the compiler said."""
    tree = root()
    include = (
        tree / "runtime" / "include",
        tree / "runtime" / "testing",
        tree / "boards" / "common",
    )
    command = [
        find_tool(machine.compiler, machine.packages[0]),
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
        raise _build_error(machine, done.stdout, done.stderr)
    return out


def run(
    machine: Machine, program: Path, *, cwd: Path, timeout: float = 300, counted: bool = False
) -> Finished:
    """Run `program` in `cwd`. `counted`: under `count_args`. Too long is an EmxError."""
    emulator = machine.emulator
    if emulator:
        count = machine.count_args if counted else ()
        emulator = (find_tool(emulator[0], machine.packages[1]), *count, *emulator[1:])
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


def find_tool(name: str, packages: str = "") -> str:
    """The path of a compiler or emulator; an EmxError says what to install."""
    path = shutil.which(name)
    if path is None:
        raise EmxError(
            f"{name} was not found", hint=f"on Debian: apt-get install {packages or name}"
        )
    return path


def _build_error(machine: Machine, table: str, text: str) -> EmxError:
    if "overflowed by" in text:
        what = f"the program is too large for {machine.name}"
        return TooLarge(what, hint="\n".join(_full_regions(table)))
    lines = [s for s in text.splitlines() if "error" in s or "cannot" in s]
    said = "\n".join((lines or text.splitlines())[:8])
    return EmxError(f"{machine.compiler} cannot build the program for {machine.name}", hint=said)


def _full_regions(table: str) -> list[str]:
    lines = []
    for name, used, used_unit, size, size_unit in _REGION.findall(table):
        needed, there = int(used) * _UNIT[used_unit], int(size) * _UNIT[size_unit]
        if needed > there:
            lines.append(f"{name}: {needed:,} bytes needed, {there:,} there")
    return lines
