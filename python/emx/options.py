# SPDX-License-Identifier: Apache-2.0
"""What a user may ask of the generated code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from emx.errors import EmxError

# The words of each option that is a choice; the first is the default.
CHOICES = {
    "arena": ("static", "caller"),
    "weights": ("incbin", "string", "external"),
    "optimize": ("balanced", "speed", "size"),
    "ram": ("default", "small", "min"),
    "io": ("int8", "float"),
}
INPUT = ("whole", "rows")
SCHEMES = ("int8", "int16x8", "int4", "weights-int8", "weights-int4")  # of `export`


@dataclass(frozen=True)
class Options:
    """Options of `compile`; the same words on the command line and in CMake.

    io_arena         inputs and outputs live in the arena, reached by accessors
    arena            "static": NAME_run() has an arena of its own; "caller": only NAME_run_in()
    arena_group      the static arena is GROUP_arena, which the models of a group share and the
                     program defines
    weights          "incbin": embedded by the assembler; "string": by string literals, for any
                     compiler; "external": not linked in, bound by NAME_bind_weights()
    weights_section  linker section of the weights; default .rodata.emx_weights.NAME
    arena_section    linker section of the static arena; default .bss.emx_arena.NAME
    max_arena_bytes, max_weights_bytes   more is an error
    optimize         which kernels and layouts: "speed", "size" (of code and weights), "balanced"
    ram              "default": the fastest kernels; "small": the smallest arena for at most 4 %
                     more instructions; "min": for at most 30 % more, and the first layers may run
                     row by row
    slim             remove channels that provably never change an output
    io               inputs and outputs of a quantised model: "int8" as they are, or "float",
                     which are converted in the run
    input_rows       the input is an image that arrives row by row: NAME_feed_row(), no NAME_run()
    strict           a layer of a quantised model that cannot be integer is an error
    test             also write the test vectors and NAME_test.c
    taps             call emx_test_tap() after every step; for test builds only
    rtol, atol       tolerance of the test: |y - eager| <= atol + rtol * max |eager|
    empty_run        NAME_run() does nothing: the baseline of measurements
    check_passes     interpret the graph after every pass
    dump_ir          directory that gets the graph after every pass
    """

    io_arena: bool = False
    arena: str = "static"
    arena_group: str | None = None
    weights: str = "incbin"
    weights_section: str | None = None
    arena_section: str | None = None
    max_arena_bytes: int | None = None
    max_weights_bytes: int | None = None
    optimize: str = "balanced"
    ram: str = "default"
    slim: bool = True
    io: str = "int8"
    input_rows: bool = False
    strict: bool = False
    test: bool = False
    taps: bool = False
    rtol: float = 1e-4
    atol: float = 1e-6
    empty_run: bool = False
    check_passes: bool = False
    dump_ir: Path | None = None

    def __post_init__(self) -> None:
        for name, words in CHOICES.items():
            if getattr(self, name) not in words:
                raise EmxError(
                    f"{name} is {getattr(self, name)!r}", hint=f"choose one of {', '.join(words)}"
                )
        for name in ("rtol", "atol"):
            if not 0 <= getattr(self, name) < math.inf:
                raise EmxError(f"{name} is {getattr(self, name)}", hint="a tolerance is 0 or more")
