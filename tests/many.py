# SPDX-License-Identifier: Apache-2.0
"""Many models in one test program, so that a suite of small ones stays quick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emx import api
from emx.build import Program, build, find_machine, run
from emx.bundle import Bundle
from emx.options import Options
from emx.paths import root
from emx.target import find_target

TESTING = root() / "runtime" / "testing"
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def hosts() -> list[str]:
    """This machine, at each of its levels that the processor has."""
    needs = {"host": "", "x86-64-v3": "avx2", "x86-64-v4": "avx512f"}
    facts = Path("/proc/cpuinfo")
    has = facts.read_text() if facts.exists() else ""
    return [name for name, flag in needs.items() if flag in has]


def run_together(
    bundles: Sequence[Bundle],
    directory: Path,
    machine: str,
    flags: tuple[str, ...],
    options: Options,
) -> str:
    """What the program printed; it must have found every output and every layer right."""
    for bundle in bundles:
        artifacts = api.generate(bundle, find_target(find_machine(machine).target), options)
        api.write(artifacts, directory)
    return run_written([b.name for b in bundles], directory, machine, flags)


def run_written(
    models: Sequence[str], directory: Path, machine: str, flags: tuple[str, ...]
) -> str:
    """The same for models whose files are there."""
    where = find_machine(machine)
    names = [f"{m}_test_model" for m in models]
    (directory / "models.c").write_text(
        '#include "emx_test.h"\n'
        + "".join(f"extern const emx_test_model_t {n};\n" for n in names)
        + f"const emx_test_model_t *const emx_test_models[] = {{&{', &'.join(names)}}};\n"
        + f"const unsigned emx_test_model_count = {len(names)};\n"
    )
    program = Program(
        (*sorted(directory.glob("*.c")), *(TESTING / f for f in ("emx_test.c", "emx_print.c"))),
        include=(directory,),
        flags=("-std=gnu11", *flags),
    )
    finished = run(where, build(where, program, directory / "all.elf"), cwd=directory)
    failures = [line for line in finished.output.splitlines() if not line.startswith("emx: pass")]
    assert finished.code == 0, "\n".join(failures)
    assert all(m in finished.output for m in models)
    return finished.output
