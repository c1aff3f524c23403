# SPDX-License-Identifier: Apache-2.0
"""Bundles by content: a model is exported once, whichever build tree asks for it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path


def emx_version() -> str:
    """The version of the source tree that this file lies in, else of the installed package."""
    tree = Path(__file__).parents[3] / "VERSION"
    if tree.is_file():
        return tree.read_text().strip()
    return metadata.version("emx")
