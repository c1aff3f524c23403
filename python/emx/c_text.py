# SPDX-License-Identifier: Apache-2.0
"""How numbers, parameter structs, prototypes and comments are written in C."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from emx.kernel import Kernel, Param
from emx.program import Plan
from emx.scalars import c_float


def c_scalar(v: int | float) -> str:
    return str(v) if isinstance(v, int) else c_float(v)


def _c_value(v: Param, field: str, varying: Sequence[str]) -> str:
    if field in varying:
        if isinstance(v, tuple):
            return "{" + ", ".join(f"at->{field}[{i}]" for i in range(len(v))) + "}"
        return f"at->{field}"
    if isinstance(v, tuple):
        return "{" + ", ".join(map(c_scalar, v)) + "}"
    return c_scalar(v)


def initialiser(kernel: Kernel, varying: Sequence[str] = ()) -> list[str]:
    """Lines of an initialiser: what belongs together stands together, with its names."""
    rows = []
    for fields in _rows(kernel, varying):
        values = ", ".join(_c_value(kernel.params[f], f, varying) for f in fields)
        rows.append((f"{values},", "" if set(fields) <= set(varying) else ", ".join(fields)))
    return aligned_comments(rows)


def _rows(kernel: Kernel, varying: Sequence[str]) -> list[list[str]]:
    """Fields of up to four numbers; x_row, x_col and x_chan, or lo and hi, are not torn apart."""
    rows: list[list[str]] = []
    width = 0
    for _, group in groupby(kernel.params, lambda f: "lo" if f == "hi" else f.partition("_")[0]):
        fields = list(group)
        sizes = [len(v) if isinstance(v := kernel.params[f], tuple) else 1 for f in fields]
        if max(sizes) > 1 and not set(fields).isdisjoint(varying):
            rows += [[f] for f in fields]
            width = 4
        elif rows and width + sum(sizes) <= 4:
            rows[-1] += fields
            width += sum(sizes)
        else:
            rows.append(fields)
            width = sum(sizes)
    return rows


def aligned_comments(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of code with their comments in one column."""
    width = max((len(code) for code, comment in lines if comment), default=0)
    return [f"{code.ljust(width)} // {comment}" if comment else code for code, comment in lines]


def comment(text: str) -> str:
    """Text of the user's model for a // comment: on one line, whatever the model says."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line.replace("??/", "?? /").rstrip("\\ ")


def string_literal(text: str) -> str:
    """Text of the user's model as a C string."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return '"' + line.replace("\\", "\\\\").replace('"', '\\"').replace("??", "?\\?") + '"'


def prototype(head: str, parameters: Sequence[str]) -> str:
    """A parameter a line if it is long."""
    line = f"{head}({', '.join(parameters)})"
    return line if len(line) < 100 else f"{head}(\n    " + ",\n    ".join(parameters) + ")"


def mentions(expression: str, name: str) -> bool:
    words = "".join(c if c.isalnum() or c == "_" else " " for c in expression).split()
    return name in words


def bare(expression: str) -> str:
    """The expression without parentheses around all of it or around all that others enclose."""
    opened: list[int] = []
    pairs: dict[int, int] = {}
    for i, c in enumerate(expression):
        if c == "(":
            opened.append(i)
        elif c == ")":
            pairs[opened.pop()] = i
    whole = len(expression) - 1
    idle = {i: j for i, j in pairs.items() if (i, j) == (0, whole) or pairs.get(i - 1) == j + 1}
    dropped = {*idle.keys(), *idle.values()}
    return "".join(c for i, c in enumerate(expression) if i not in dropped)


def port(label: str, buffer: str, plan: Plan) -> dict[str, Any]:
    """An input or output as templates see it; `label` is its name in the model."""
    b = plan.program.buffers[buffer]
    return {
        "label": string_literal(label),
        "name": b.name,
        "NAME": b.name.upper(),
        "c": b.type.dtype.c,
        "type": str(b.type),
        "shape": list(b.type.dims),
        "len": b.type.size,
        "bytes": b.type.bytes,
        "offset": plan.offsets.get(b.name, 0),
    }
