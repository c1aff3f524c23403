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
    """One row. `requires` are the predefined macros that kernels and packing rely on: NAME, or
    NAME & BITS or NAME == VALUE where the macro's value matters.

    A compiler belongs to the last row of TARGETS all of whose requirements it meets, so a row that
    needs more stands further down.

    dot   how products of int8 are summed, which decides how weights are packed: "generic" one by
          one, "dsp" two in an instruction (Armv7E-M), "mve" sixteen (Helium)
    """

    name: str
    requires: tuple[str, ...]
    about: str
    tile: Tile = Tile()
    dot: str = "generic"

    @property
    def conditions(self) -> tuple[str, ...]:
        """`requires` as C's preprocessor takes it."""
        return tuple(f"({r})" if " " in r else f"defined({r})" for r in self.requires)


TARGETS = (
    Target("generic", (), "any C99 compiler"),
    Target("host", ("__STDC_HOSTED__", "__unix__"), "the machine you work on"),
    Target("x86-64-v3", ("__x86_64__", "__AVX2__", "__FMA__"), "x86-64: AVX2", Tile(8, 4, 8)),
    Target("x86-64-v4", ("__x86_64__", "__AVX512F__"), "x86-64: AVX-512", Tile(16, 8, 16)),
    Target("cortex-m0", ("__ARM_ARCH_6M__",), "Cortex-M0, M0+: no FPU"),
    Target("cortex-m3", ("__ARM_ARCH_7M__",), "Cortex-M3: no FPU"),
    Target(
        "cortex-m4", ("__ARM_ARCH_7EM__", "__ARM_FP"), "Cortex-M4F: DSP and single float", dot="dsp"
    ),
    Target(
        "cortex-m7",
        ("__ARM_ARCH_7EM__", "__ARM_FP & 8"),
        "Cortex-M7: DSP and double float",
        dot="dsp",
    ),
    Target(
        "cortex-m33",
        ("__ARM_ARCH_8M_MAIN__", "__ARM_FEATURE_DSP", "__ARM_FP"),
        "Cortex-M33: DSP and single float",
        dot="dsp",
    ),
    Target("cortex-m55", ("__ARM_FEATURE_MVE & 2",), "Cortex-M55: Helium with floats", dot="mve"),
    Target(
        "rv32imc", ("__riscv_xlen == 32", "__riscv_mul", "__riscv_compressed"), "RISC-V RV32IMC"
    ),
    Target("aarch64", ("__aarch64__",), "64-bit Arm"),
)


def find_target(name: str) -> Target:
    for target in TARGETS:
        if target.name == name:
            return target
    names = ", ".join(t.name for t in TARGETS)
    raise EmxError(f"there is no target {name!r}", hint=f"the targets are: {names}")


def detect_target(macros: Mapping[str, str]) -> Target:
    """The target of a compiler whose `-dM -E` output defines `macros`."""
    return [t for t in TARGETS if all(_meets(macros, r) for r in t.requires)][-1]


def _meets(macros: Mapping[str, str], requirement: str) -> bool:
    name, _, condition = requirement.partition(" ")
    if not condition:
        return name in macros
    operator, number = condition.split()
    try:
        value = int(macros.get(name, ""), 0)
    except ValueError:
        return False
    return bool(value & int(number)) if operator == "&" else value == int(number)


def parse_macros(text: str) -> dict[str, str]:
    """Parse the output of `cc -dM -E`."""
    rows = (line.split(None, 2) for line in text.splitlines() if line.startswith("#define "))
    return {row[1]: row[2] if len(row) > 2 else "" for row in rows}
