# SPDX-License-Identifier: Apache-2.0
"""Every sample of every operator: NumPy reference, C under sanitizers, C on the boards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emx import api, passes
from emx.build import Program, build, find_machine, run
from emx.bundle import Bundle
from emx.emit import Artifacts
from emx.interpret import outputs
from emx.load import load
from emx.options import Options
from emx.paths import root
from emx.target import find_target
from sampled import sampled_bundles

BUNDLES = sampled_bundles()
IDS = [b.name for b in BUNDLES]
TESTING = root() / "runtime" / "testing"
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def generated(bundle: Bundle, target: str, **options: bool) -> Artifacts:
    return api.generate(bundle, find_target(target), Options(test=True, taps=True, **options))


@pytest.mark.parametrize("bundle", BUNDLES, ids=IDS)
def test_reference_is_pytorch(bundle: Bundle) -> None:
    graph = load(bundle)
    optimised = passes.run(graph, check=[x[0] for x in bundle.vectors.inputs.values()])
    for v in range(bundle.vectors.count):
        inputs = [x[v] for x in bundle.vectors.inputs.values()]
        for g in (graph, optimised):
            with np.errstate(over="ignore"):
                y = outputs(g, inputs)[0].astype(np.float32)
            np.testing.assert_allclose(y, bundle.vectors.outputs["y"][v], rtol=2e-5, atol=2e-6)


def one_program(directory: Path, machine: str, flags: tuple[str, ...], **options: bool) -> str:
    """All samples in one program on `machine`; what it printed, if it passed."""
    where = find_machine(machine)
    names = []
    for bundle in BUNDLES:
        api.write(generated(bundle, where.target, **options), directory)
        names.append(f"{bundle.name}_test_model")
    table = directory / "models.c"
    table.write_text(
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
    assert finished.code == 0, finished.output
    return finished.output


@pytest.mark.slow
@pytest.mark.parametrize("io_arena", [False, True])
def test_host_under_sanitizers(tmp_path: Path, io_arena: bool) -> None:
    output = one_program(tmp_path, "host", SANITIZE, io_arena=io_arena)
    assert all(b.name in output for b in BUNDLES)


@pytest.mark.parametrize("board", ["mps2-an386", "mps3-an547"])
def test_board(tmp_path: Path, board: str) -> None:
    output = one_program(tmp_path, board, ("-O2",))
    assert all(b.name in output for b in BUNDLES)
