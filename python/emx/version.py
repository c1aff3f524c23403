# SPDX-License-Identifier: Apache-2.0
"""The version of emx: the file VERSION of the source tree, or what was installed."""

from __future__ import annotations

from pathlib import Path


def _version() -> str:
    file = Path(__file__).resolve().parents[2] / "VERSION"
    if file.is_file():
        return file.read_text().strip()
    from importlib import metadata  # only here, for it takes as long to import as all the rest

    return metadata.version("emx")


VERSION = _version()
