# SPDX-License-Identifier: Apache-2.0
"""The bundles of tests/golden: small networks for tests that need real ones, but no PyTorch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import emx

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("dense", "integers", "pointwise", "residual", "several")
QUANTISED = {"integers": {"quantize": "int8", "calibration": f"{GOLDEN / 'models.py'}:images"}}


@cache
def golden_bundle(name: str) -> emx.Bundle:
    return emx.Bundle.load(GOLDEN / f"{name}.emx")


def export_missing() -> None:
    """Export the networks whose bundle was removed."""
    for name in NAMES:
        path = GOLDEN / f"{name}.emx"
        if not path.exists():
            settings = QUANTISED.get(name, {})
            emx.export(f"{GOLDEN / 'models.py'}:{name}", name=name, vectors=3, **settings).save(
                path
            )
