# SPDX-License-Identifier: Apache-2.0
"""Which boards a test runs on. `make check` is content with two; the others are slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from emx.build import board_names, counting_boards, find_machine

QUICK = ("mps2-an386", "mps3-an547")


def each(names: Iterable[str]) -> tuple[Any, ...]:
    """For pytest.mark.parametrize."""
    return tuple(n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names)


KINDS = each((*QUICK, "microbit", "rv32-virt"))  # FPU, Helium, neither, another architecture
EACH_BARE = each(name for name in board_names() if find_machine(name).bare)
EACH_COUNTING = each(counting_boards())
EACH = each(board_names())
