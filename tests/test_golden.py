# SPDX-License-Identifier: Apache-2.0
"""The C of five small networks as it stands in tests/golden, so that a change of it is reviewed."""

from __future__ import annotations

import difflib
import os
from itertools import pairwise

import pytest

import emx
from emx import api
from emx.target import find_target
from golden_models import GOLDEN, NAMES, export_missing, golden_bundle

UPDATE = "UPDATE_REFS=1 python -m pytest tests/test_golden.py"
KINDS = {
    "dense": ("generic", emx.Options()),
    "integers": ("cortex-m4", emx.Options()),
    "pointwise": ("host", emx.Options(io_arena=True)),
    "residual": ("cortex-m4", emx.Options()),
    "several": ("cortex-m55", emx.Options(arena="caller")),
}


def test_every_network_has_its_files() -> None:
    suffixes = (".c", ".emx", ".h", ".json")
    kept = {f"{name}{suffix}" for name in NAMES for suffix in suffixes} | {"models.py"}
    assert {p.name for p in GOLDEN.iterdir() if p.is_file()} == kept
    assert KINDS.keys() == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    update = os.environ.get("UPDATE_REFS") == "1"
    if update:
        export_missing()
    target, options = KINDS[name]
    artifacts = api.generate(golden_bundle(name), find_target(target), options)
    for file in (f"{name}.c", f"{name}.h", f"{name}.json"):
        path, text = GOLDEN / file, artifacts.files[file].decode()
        if update:
            path.write_text(text)
        want = path.read_text()
        diff = "".join(
            difflib.unified_diff(
                want.splitlines(True), text.splitlines(True), f"golden/{file}", "generated"
            )
        )
        assert text == want, f"{file} is not what it was. If it should not be: {UPDATE}\n{diff}"


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_short_and_clean(name: str) -> None:
    """A line a reviewer reads fits his screen; only names of the user's may make one longer."""
    for suffix in ("c", "h"):
        lines = (GOLDEN / f"{name}.{suffix}").read_text().split("\n")
        assert not [line for line in lines if len(line) > 100 or line != line.rstrip()]
        assert not ["\t" for line in lines if "\t" in line]
        assert lines[-1] == "" and "" not in (lines[0], lines[-2])
        assert not [a for a, b in pairwise(lines) if a == b == ""]
