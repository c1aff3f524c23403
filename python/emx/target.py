# SPDX-License-Identifier: Apache-2.0
"""The target table: what the generated code may assume of a compiler and its flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emx.errors import EmxError


@dataclass(frozen=True)
class Tile:
    """How kernels of matrix products use the registers: weights come in columns of `lanes`
    outputs, and a tile has up to `pixels` rows and `vectors` sums of `lanes` outputs each."""

    lanes: int = 4
    pixels: int = 4
    vectors: int = 4


@dataclass(frozen=True)
class Target:
    """One row. `requires` are the predefined macros that kernels and packing rely on.

    A compiler belongs to the last row of TARGETS all of whose macros it defines, so a row that
    needs more stands further down.
    """

    name: str
    requires: tuple[str, ...]
    about: str
    tile: Tile = Tile()


TARGETS = (
    Target("generic", (), "any C99 compiler"),
    Target("host", ("__STDC_HOSTED__", "__unix__"), "the machine you work on"),
    Target("x86-64-v3", ("__x86_64__", "__AVX2__", "__FMA__"), "x86-64: AVX2", Tile(8, 4, 8)),
    Target("x86-64-v4", ("__x86_64__", "__AVX512F__"), "x86-64: AVX-512", Tile(16, 8, 16)),
    Target("cortex-m4", ("__ARM_ARCH_7EM__", "__ARM_FP"), "Cortex-M4F: DSP and single float"),
    Target("cortex-m55", ("__ARM_FEATURE_MVE",), "Cortex-M55: Helium"),
)


def find_target(name: str) -> Target:
    for target in TARGETS:
        if target.name == name:
            return target
    names = ", ".join(t.name for t in TARGETS)
    raise EmxError(f"there is no target {name!r}", hint=f"the targets are: {names}")


def detect_target(macros: Mapping[str, str]) -> Target:
    """The target of a compiler whose `-dM -E` output defines `macros`."""
    return [t for t in TARGETS if all(m in macros for m in t.requires)][-1]


def parse_macros(text: str) -> dict[str, str]:
    """Parse the output of `cc -dM -E`."""
    rows = (line.split(None, 2) for line in text.splitlines() if line.startswith("#define "))
    return {row[1]: row[2] if len(row) > 2 else "" for row in rows}
