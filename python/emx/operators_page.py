# SPDX-License-Identifier: Apache-2.0
"""The list of operators, and docs/operators.md, from the operators' own tables and samples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType

from emx.ops import modules
from emx.sample import Sample, T

_HEAD = """# Operators

What emx computes, by the names that `torch.export` gives to calls. What PyTorch itself decomposes
into these is supported as well, and so is everything that does not depend on an input: the export
computes it. An operator that is not here is an error when the model is exported, with the line of
the model, never a wrong number.

The types are those that the tests of the operator feed it: f32 is float32, s32 and s64 are int32
and int64. Every call listed here is compared with PyTorch in NumPy, in C under sanitizers and on
emulated boards. One without types takes no tensor, or is another name of one that is listed.

This page is generated: `emx ops --markdown > docs/operators.md`.
"""


_INTEGERS = """## In integers

What the operators above become between a dequantise and a quantise. Movement, concatenation and
selection work on integers as they are.

| operator | |
|---|---|"""


def listing() -> str:
    """The names alone, for a terminal."""
    lines: list[str] = []
    for name, module in modules().items():
        lines += [f"{name}: {_first_sentence(module)}", *(f"  {aten}" for aten in module.ATEN)]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page in Markdown."""
    called = [(name, m) for name, m in modules().items() if m.ATEN]
    inside = [f"| {n} | {_first_sentence(m)} |" for n, m in modules().items() if not m.ATEN]
    sections = [line for item in called for line in _section(*item)]
    return "\n".join([_HEAD, *sections, _INTEGERS, *inside, ""])


def _section(name: str, module: ModuleType) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"{_first_sentence(module)}\n"
    yield "| operator | tested with |"
    yield "|---|---|"
    for aten in sorted(module.ATEN):
        samples = [s for s in module.SAMPLES if s.target == aten]
        yield f"| `{aten.removeprefix('aten.')}` | {', '.join(_types(samples))} |"
    yield ""


def _first_sentence(module: ModuleType) -> str:
    text = " ".join((module.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0]


def _types(samples: list[Sample]) -> list[str]:
    """Element types of the tensors of all samples."""
    found: set[str] = set()
    arguments: list[object] = [a for s in samples for a in (*s.args, *(v for _, v in s.kwargs))]
    while arguments:
        a = arguments.pop()
        if isinstance(a, list | tuple):
            arguments += a
        elif isinstance(a, T):
            found.add(a.dtype.value)
    return sorted(found)
