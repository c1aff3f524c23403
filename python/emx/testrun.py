# SPDX-License-Identifier: Apache-2.0
"""Build a generated model with one of the test programs, run it, read the records it wrote."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from emx.build import FAULT, FLAGS, Finished, Machine, Program, TooLarge, build, run
from emx.errors import EmxError
from emx.paths import root

# Record kinds of runtime/testing/emx_dump.h.
OUTPUT, STEP, TICKS, STACK = 1, 2, 3, 4
WHOLE = 0xFFFF
# Exit codes of runtime/testing/emx_test.c.
PASSED, DIFFERS, REFUSED = 0, 1, 2
_HEADER = struct.Struct("<4I")
_DUMP = "emx_dump.bin"


@dataclass(frozen=True)
class Record:
    kind: int
    index: int
    vector: int
    data: bytes


def build_test(
    machine: Machine,
    directory: Path,
    name: str,
    harness: tuple[str, ...],
    *,
    defines: tuple[str, ...] = (),
    flags: tuple[str, ...] = FLAGS,
) -> Path:
    """The program DIRECTORY/HARNESS.elf for the model NAME whose generated C is in DIRECTORY."""
    models = directory / "emx_test_models.c"
    models.write_text(
        '#include "emx_test.h"\n'
        f"extern const emx_test_model_t {name}_test_model;\n"
        f"const emx_test_model_t *const emx_test_models[] = {{&{name}_test_model}};\n"
        "const unsigned emx_test_model_count = 1;\n"
    )
    testing = tuple(root() / "runtime" / "testing" / file for file in harness)
    extra = (machine.timer,) if harness[0] == "emx_bench.c" else ()
    program = Program(
        sources=(*sorted(directory.glob("*.c")), *testing, *extra),
        include=(directory,),
        defines=defines,
        flags=flags,
    )
    try:
        return build(machine, program, directory / f"{Path(harness[0]).stem}.elf")
    except TooLarge as error:
        hint = f"{error.head.hint}\n{_sizes(directory, name)}"
        raise TooLarge(f"{name} is too large for {machine.name}", hint=hint) from None


def run_test(machine: Machine, directory: Path, name: str) -> list[Record]:
    """What the test program of the model NAME dumped; it reached its end, right or not."""
    harness = ("emx_test.c", "emx_print.c")
    define = f'EMX_TEST_DUMP="{_DUMP}"'
    program = build_test(machine, directory, name, harness, defines=(define,))
    finished = run(machine, program, cwd=directory)
    if finished.code == REFUSED:
        raise EmxError(
            f"the test program refused the model on {machine.name}", hint=finished.output
        )
    if finished.code not in (PASSED, DIFFERS):
        raise crashed(machine, finished)
    return read_records(directory / _DUMP)


def _sizes(directory: Path, name: str) -> str:
    facts = json.loads((directory / f"{name}.json").read_text())
    vectors = (directory / f"{name}_vectors.bin").stat().st_size
    return (
        f"the model has {facts['weights_bytes']:,} bytes of weights and an arena of "
        f"{facts['arena_bytes']:,}; its test vectors have {vectors:,}"
    )


def read_records(path: Path) -> list[Record]:
    """The records of a dump; a file that is missing or cut short gives the whole ones only."""
    data = path.read_bytes() if path.exists() else b""
    records, at = [], 0
    while at + _HEADER.size <= len(data):
        kind, index, vector, size = _HEADER.unpack_from(data, at)
        at += _HEADER.size + size
        if at <= len(data):
            records.append(Record(kind, index, vector, data[at - size : at]))
    return records


def crashed(machine: Machine, finished: Finished) -> EmxError:
    """The error for a program that did not reach its end."""
    how = "a processor fault" if finished.code == FAULT else f"exit code {finished.code}"
    return EmxError(
        f"the program ended early on {machine.name}: {how}", hint=finished.output[-2000:] or None
    )
