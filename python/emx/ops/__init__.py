# SPDX-License-Identifier: Apache-2.0
"""The operators, one file each, found by directory and listed nowhere.

A module of this package has

  ATEN      ATen name -> lowering: (Builder, *arguments of the call) -> Value; a tensor argument is
            a Value, everything else is as in the call
  SAMPLES   calls that test it, edge cases first (see emx.ops.sample)

and its Op classes, whose C kernels are in runtime/include/emx/kernels/<module>.h.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from emx.builder import Lowering

UNSUPPORTED_HINT = (
    "`emx ops` lists what is supported; rewrite the line with those, or keep it out of the model"
)


@cache
def modules() -> dict[str, ModuleType]:
    """Operator modules by name, in alphabetical order."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


@cache
def lowerings() -> dict[str, Lowering]:
    """ATen name -> lowering, over all modules."""
    table: dict[str, Lowering] = {}
    for module in modules().values():
        for name, lowering in module.ATEN.items():
            assert name not in table, f"{name} is lowered in two places"
            table[name] = lowering
    return table


def unsupported(target: str) -> tuple[str, str] | None:
    """What is wrong with a call of this ATen operator and what to do, if it has no lowering."""
    if target in lowerings():
        return None
    return f"{target} is not supported", UNSUPPORTED_HINT
