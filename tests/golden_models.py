# SPDX-License-Identifier: Apache-2.0
"""The bundles of tests/golden: small networks for tests that need real ones, but no PyTorch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import emx

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("dense", "pointwise", "residual", "several")


@cache
def golden_bundle(name: str) -> emx.Bundle:
    return emx.Bundle.load(GOLDEN / f"{name}.emx")


def export_missing() -> None:
    """Export the networks whose bundle was removed."""
    for name in NAMES:
        path = GOLDEN / f"{name}.emx"
        if not path.exists():
            emx.export(f"{GOLDEN / 'models.py'}:{name}", name=name, vectors=3).save(path)
