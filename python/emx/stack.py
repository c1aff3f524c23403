# SPDX-License-Identifier: Apache-2.0
"""The most stack that a function of a linked program can take, without running it.

Who calls whom is read from the disassembly of the image, so that nothing is missing which the
compiler or the linker brought: memcpy, libm, soft float. What a function takes itself is what GCC
says (-fstack-usage). Library functions come without that; theirs is the sum of all that their
instructions take off the stack pointer. Where it cannot be known (recursion, calls through
pointers, a stack pointer that comes from a register) there is an error instead of a number.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emx.build import find_tool
from emx.errors import EmxError

USAGE_FLAG = "-fstack-usage"  # GCC writes a .su file beside every object

Row = tuple[int, str]  # address, instruction as "push {r4, lr}"

_FUNCTION = re.compile(r"^([0-9a-f]+) <(.+)>:$")
_INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\t(\S+)\s*(.*)$")
# objdump of GCC 12 shows vctp of Helium as bfcsel, a branch that no compiler makes.
_TARGET = re.compile(r"(?:b(?!fcsel)|cb|tb|j|le|wl)\S* .*\b([0-9a-f]+) <")
_CALL = re.compile(r"(?:bl|blx|jal|jalr) ")
_POINTER = re.compile(r"(?:blx|blr|jalr|bx|br|jr) (?!lr|ra|x30)|ldr\S* pc, \[(?!sp|pc, r)")
_END = re.compile(
    r"(?:b(?:\.[nw])?|bx|br|j|jr|ret|udf\S*|ebreak)\b|(?:pop|ldm|ldr|mov)\S* .*\bpc\b"
)
_PADDING = re.compile(r"nop|\.|c\.nop")

# What instructions take off the stack pointer: on Arm, AArch64 and RISC-V.
_PUSH = re.compile(r"(?:v?push\S*|v?stmdb\S* sp!,) \{(.*)\}")
_TAKES = re.compile(
    r"sub\S* sp, (?:sp, )?#(0x[0-9a-f]+|\d+)$|\S+ .*\[sp, #-(\d+)\]!|addi? sp,sp,-(\d+)$"
)
_RETURNS = re.compile(r"add\S* sp, ?(?:sp, ?)?#?(?:0x)?\d+$|(?:v?pop|v?ldm)\S* |\S+ .*\[sp\], #\d+")
_WRITES_SP = re.compile(r"(?!cmp|cmn|tst|st|str|vst|s[bhwd] )\S+ sp\b|\S+ .*(?:sp|\[sp.*\])!")
_REGISTER_BYTES = {"r": 4, "s": 4, "d": 8, "q": 16}

# Functions of libgcc for RISC-V that save N + 1 registers for the caller, four in 16 bytes.
_SAVE = re.compile(r".*<__riscv_save_(\d+)>")
# Functions whose jumps through a register stay inside them: by a table of labels (libgcc for
# RISC-V), into an unrolled loop (arch/dsp_s8.h).
_INSIDE = re.compile(r"__div[sd]f3$|emx_(?:blocks|short)_[12](?:_twice)?_s8\b")


@dataclass(frozen=True)
class StackBound:
    """`path`: the functions of the deepest chain of calls, each with the bytes it takes itself."""

    bytes: int
    path: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Function:
    """`calls`: addresses. `problem`: why `frame` or `calls` is not known."""

    name: str
    frame: int
    calls: tuple[int, ...]
    problem: str


def stack_bound(
    compiler: str, program: Path, entries: Sequence[str], usage: Mapping[str, int]
) -> StackBound:
    """The bound for the first of `entries` that `program` has, and all that it calls. `compiler`
    is that which linked `program`; `usage` comes from read_usage()."""
    functions = read_image(disassembled(compiler, program), usage)
    addresses = {f.name: at for at, f in functions.items()}
    start = next((addresses[name] for name in entries if name in addresses), None)
    if start is None:
        raise EmxError(f"{program.name} has no function {' or '.join(entries)}")
    path = _deepest(functions, start, (), {})
    return StackBound(sum(frame for _, frame in path), path)


def read_usage(directory: Path) -> dict[str, int]:
    """Function -> bytes, from the .su files in `directory`; of functions with one name, the most.
    A frame whose size is known only at run time is an EmxError."""
    usage: dict[str, int] = {}
    for path in sorted(directory.glob("*.su")):
        for line in path.read_text().splitlines():
            where, size, kind = line.split("\t")
            name = where.rpartition(":")[2]
            if kind == "dynamic":
                raise _unbounded(name, "its frame depends on its arguments")
            usage[name] = max(usage.get(name, 0), int(size))
    return usage


def disassembled(compiler: str, program: Path) -> str:
    """What objdump -d prints of `program`, which `compiler` linked."""
    objdump = find_tool(re.sub(r"(g?cc|clang)(-[\d.]+)?$", "objdump", compiler))
    command = [objdump, "-d", "--no-show-raw-insn", str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def read_image(text: str, usage: Mapping[str, int]) -> dict[int, Function]:
    """The functions in what `objdump -d` printed, by address."""
    bodies = dict(_bodies(text))
    owner = {at: start for start, (_, rows) in bodies.items() for at, _ in rows}
    after = dict(zip(bodies, [*list(bodies)[1:], 0], strict=True))
    functions = {}
    for start, (name, rows) in bodies.items():
        code = [c for _, c in rows]
        frame, problem = (usage[name], "") if name in usage else _frame(code)
        calls = [owner.get(t, t) for t in _targets(code)]
        if not any(_CALL.match(c) and t == start for c in code for t in _targets([c])):
            calls = [t for t in calls if t != start]  # what is left of those are loops
        if name not in usage and _falls_through(code):
            calls.append(after[start])
        if not (problem or _INSIDE.match(name)) and any(map(_POINTER.match, _untargeted(code))):
            problem = "it calls through a pointer"
        functions[start] = Function(name, frame, tuple(dict.fromkeys(calls)), problem)
    return functions


def _deepest(
    functions: Mapping[int, Function],
    at: int,
    callers: tuple[int, ...],
    known: dict[int, tuple[tuple[str, int], ...]],
) -> tuple[tuple[str, int], ...]:
    """The chain of calls from the function at `at` that takes most."""
    if at in known:
        return known[at]
    f = functions.get(at) or Function(f"the code at {at:#x}", 0, (), "it is not in the image")
    if f.problem:
        raise _unbounded(f.name, f.problem)
    if at in callers:
        raise _unbounded(f.name, "it calls itself")
    below = [_deepest(functions, c, (*callers, at), known) for c in f.calls]
    rest = max(below, key=lambda path: sum(frame for _, frame in path), default=())
    known[at] = ((f.name, f.frame), *rest)
    return known[at]


def _unbounded(name: str, why: str) -> EmxError:
    return EmxError(f"the stack of {name} has no bound: {why}")


def _bodies(text: str) -> Iterator[tuple[int, tuple[str, list[Row]]]]:
    """(start, (name, instructions)) of every function."""
    rows: list[Row] = []
    for line in text.splitlines():
        if found := _FUNCTION.match(line):
            rows = []
            yield int(found[1], 16), (found[2], rows)
        elif found := _INSTRUCTION.match(line):
            rows.append((int(found[1], 16), f"{found[2]} {found[3]}"))


def _targets(code: Sequence[str]) -> list[int]:
    """Where calls and jumps go; _SAVE is no call, its stack is part of _frame()."""
    found = (_TARGET.match(c) for c in code if not _SAVE.match(c))
    return [int(m[1], 16) for m in found if m]


def _untargeted(code: Sequence[str]) -> list[str]:
    return [c for c in code if not _TARGET.match(c)]


def _falls_through(code: Sequence[str]) -> bool:
    """Whether control can run on into the next function, as some written in assembly do."""
    last = next((c for c in reversed(code) if not _PADDING.match(c)), "")
    return not _END.match(last)


def _frame(code: Sequence[str]) -> tuple[int, str]:
    """(bytes, problem) of a function that comes without -fstack-usage.

    Every instruction counts once, so that the sum is right unless one is in a loop; compilers,
    and the authors of libgcc and newlib, take what a function needs when it starts.
    """
    total = 0
    for c in code:
        instruction = re.sub(r"\s+[@;#] .*|\s*//.*", "", c)
        if found := _SAVE.match(c):
            total += 16 * (int(found[1]) // 4 + 1)
        elif found := _PUSH.match(instruction):
            total += _pushed(found[1])
        elif found := _TAKES.match(instruction):
            total += int(next(n for n in found.groups() if n), 0)
        elif _WRITES_SP.match(instruction) and not _RETURNS.match(instruction):
            return 0, f"it sets the stack pointer by `{instruction}`"
    return total, ""


def _pushed(registers: str) -> int:
    """Bytes of "r4-r7, lr" or "d8-d15"."""
    total = 0
    for part in registers.split(", "):
        first, _, last = part.partition("-")
        count = int(last[1:]) - int(first[1:]) + 1 if last else 1
        total += count * (_REGISTER_BYTES[first[0]] if first[1:].isdigit() else 4)
    return total
