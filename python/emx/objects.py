# SPDX-License-Identifier: Apache-2.0
"""What a compiler made of a model: the code in its objects, and the stack that a run takes."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from emx.budget import Part, over
from emx.errors import EmxError
from emx.stack import read_usage, stack_bound


def check_code(name: str, objects: Sequence[Path], limit: int) -> None:
    """EmxError if code and constants of the objects are more than `limit` bytes."""
    total, symbols = 0, list[Part]()
    for path in objects:
        with path.open("rb") as stream:
            elf = _machine_code(path.name, stream.read(4), stream)
            total += sum(s["sh_size"] for s in elf.iter_sections() if _is_loaded(s))
            symbols += _symbols(elf)
    if total > limit:
        raise over(f"the code of {name} takes", total, f"MAX_CODE_BYTES {limit:,}", symbols)


def _machine_code(name: str, magic: bytes, stream: BinaryIO) -> ELFFile:
    elf = ELFFile(stream) if magic == b"\x7fELF" else None
    if elf is None or any(s.name.startswith(".gnu.lto_") for s in elf.iter_sections()):
        raise EmxError(
            f"MAX_CODE_BYTES cannot be checked: {name} has no machine code",
            hint="link-time optimisation leaves that to the linker; measure the program instead",
        )
    return elf


def _is_loaded(section: Any) -> bool:
    return bool(section["sh_flags"] & SH_FLAGS.SHF_ALLOC) and section["sh_type"] != "SHT_NOBITS"


def _symbols(elf: ELFFile) -> Iterator[Part]:
    """Functions and constants by their names."""
    table = elf.get_section_by_name(".symtab")
    for symbol in table.iter_symbols() if table else ():
        if symbol["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT"):
            section = symbol["st_shndx"]
            if isinstance(section, int) and _is_loaded(elf.get_section(section)):
                yield Part(symbol["st_size"], symbol.name)


def check_stack(
    name: str, library: Path, objects: Sequence[Path], compiler: Sequence[str], limit: int
) -> None:
    """EmxError if a run of the model may take more than `limit` bytes of stack.

    compiler   the command with the flags that choose the processor
    objects    of the library; the compiler left .su files beside them (-fstack-usage)
    """
    entries = (f"{name}_run", f"{name}_run_in")
    with tempfile.TemporaryDirectory(prefix="emx-stack-") as temporary:
        program = Path(temporary, "run.elf")
        _link(compiler, entries, library, program)
        usage: dict[str, int] = {}
        for folder in {path.parent for path in objects}:
            usage |= read_usage(folder)
        bound = stack_bound(compiler[0], program, entries, usage)
    if bound.bytes > limit:
        path = [Part(size, function) for function, size in bound.path]
        what = f"{bound.path[0][0]} may take"
        raise over(what, bound.bytes, f"MAX_STACK_BYTES {limit:,}", path, unit="bytes of stack")


def _link(compiler: Sequence[str], entries: Sequence[str], library: Path, out: Path) -> None:
    """The model and what it calls, and nothing else; it is looked at, never run."""
    wanted = [f"-Wl,-u,{entry}" for entry in entries]
    options = ("-static", "-nostartfiles", f"-Wl,-e,{entries[-1]}", *wanted)
    command = [*compiler, *options, "-Wl,--unresolved-symbols=ignore-all", str(library), "-lm"]
    command += ["-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise EmxError("MAX_STACK_BYTES cannot be checked: linking failed", hint=done.stderr)
