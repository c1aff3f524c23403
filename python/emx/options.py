# SPDX-License-Identifier: Apache-2.0
"""What a user may ask of the generated code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
    test: bool = False
    taps: bool = False
    rtol: float = 1e-4
    atol: float = 1e-6
    empty_run: bool = False
    check_passes: bool = False
    dump_ir: Path | None = None
