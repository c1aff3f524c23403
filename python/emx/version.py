# SPDX-License-Identifier: Apache-2.0
"""The version of emx: the file VERSION of the source tree, or what was installed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path


def _version() -> str:
    file = Path(__file__).resolve().parents[2] / "VERSION"
    return file.read_text().strip() if file.is_file() else metadata.version("emx")


VERSION = _version()
