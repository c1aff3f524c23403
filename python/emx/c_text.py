# SPDX-License-Identifier: Apache-2.0
"""How numbers, parameter structs, prototypes and comments are written in C."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from emx.ir import DType
from emx.kernel import Kernel, Param
from emx.program import Plan
from emx.quant import Quant
from emx.scalars import c_float, c_int

LINE = 100  # columns
_WIDE = 48  # columns of a row of numbers, beyond which its comment need not align


def c_scalar(v: int | float) -> str:
    return c_int(v) if isinstance(v, int) else c_float(v)


def _c_value(v: Param, field: str, varying: Sequence[str]) -> str:
    return _c_element(v, f"at->{field}" if field in varying else None)


def _c_element(v: Param, place: str | None) -> str:
    """A number, or arrays of them in braces; read from `place` at run time, if given."""
    if isinstance(v, tuple):
        parts = [_c_element(x, place and f"{place}[{i}]") for i, x in enumerate(v)]
        return "{" + ", ".join(parts) + "}"
    return place or c_scalar(v)


def initialiser(kernel: Kernel, varying: Sequence[str] = ()) -> list[str]:
    """Lines of an initialiser: what belongs together stands together, with its names."""
    rows = []
    for fields in _rows(kernel, list(kernel.params), varying):
        values = ", ".join(_c_value(kernel.params[f], f, varying) for f in fields)
        rows.append((f"{values},", "" if set(fields) <= set(varying) else ", ".join(fields)))
    return aligned_comments(rows, _WIDE)


def values(kernel: Kernel, chosen: Sequence[str]) -> list[str]:
    """Lines of an initialiser of a struct that has the fields `chosen` only."""
    rows = _rows(kernel, chosen, ())
    lines = [", ".join(_c_element(kernel.params[f], None) for f in fields) for fields in rows]
    return aligned_comments(
        [(f"{line},", ", ".join(f)) for line, f in zip(lines, rows, strict=True)], _WIDE
    )


def declarations(kernels: Sequence[Kernel], chosen: Sequence[str]) -> list[str]:
    """The fields `chosen` as members of a struct that can hold the values of all `kernels`."""
    lines = []
    for fields in _rows(kernels[0], chosen, ()):
        typed = [(_type([k.params[f] for k in kernels]), f) for f in fields]
        for kind, group in groupby(typed, lambda t: t[0]):
            names = (f + _extents(kernels[0].params[f]) for _, f in group)
            lines.append(f"{kind} {', '.join(names)};")
    return lines


def _type(values: Sequence[Param]) -> str:
    flat = list(_flat(tuple(values)))
    if any(isinstance(v, float) for v in flat):
        return "float"
    return "int32_t" if all(-(1 << 31) <= v < 1 << 31 for v in flat) else "int64_t"


def _flat(v: Param) -> Iterator[int | float]:
    if isinstance(v, tuple):
        for x in v:
            yield from _flat(x)
    else:
        yield v


def _extents(v: Param) -> str:
    """[2][3] of an array of arrays; nothing of a number."""
    return f"[{len(v)}]{_extents(v[0])}" if isinstance(v, tuple) else ""


def _rows(kernel: Kernel, chosen: Sequence[str], varying: Sequence[str]) -> list[list[str]]:
    """The fields `chosen`, up to four numbers in a row; x_row, x_col and x_chan, or lo and hi, are
    not torn apart."""
    rows: list[list[str]] = []
    width = 0
    for _, group in groupby(chosen, lambda f: "lo" if f == "hi" else f.partition("_")[0]):
        fields = list(group)
        sizes = [_numbers(kernel.params[f]) for f in fields]
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


def _numbers(v: Param) -> int:
    return len(list(_flat(v)))


def aligned_comments(lines: Sequence[tuple[str, str]], most: int = 100) -> list[str]:
    """Lines of code with their comments in one column, but for those longer than `most`."""
    sizes = [len(code) for code, comment in lines if comment]
    width = max((size for size in sizes if size <= most), default=0)
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


def call(function: str, arguments: Sequence[str]) -> str:
    """A statement of a function's body, on as many lines as it needs."""
    text = f"{', '.join(arguments)});"
    if len(function) + len(text) < LINE - 4:
        return f"{function}({text}"
    wrapped = textwrap.wrap(text, LINE - 8, break_long_words=False)
    return "\n        ".join([f"{function}(", *wrapped])


def mentions(expression: str, name: str) -> bool:
    words = "".join(c if c.isalnum() or c == "_" else " " for c in expression).split()
    return name in words


def test_type(dtype: DType) -> str:
    """The name of a type in emx_test.h."""
    return f"EMX_TEST_{dtype.value.upper()}"


def port(label: str, buffer: str, plan: Plan) -> dict[str, Any]:
    """An input or output as templates see it; `label` is its name in the model."""
    b = plan.program.buffers[buffer]
    return {
        "label": string_literal(label),
        "name": b.name,
        "NAME": b.name.upper(),
        "c": b.type.dtype.c,
        "type": str(b.type),
        "test_type": test_type(b.type.dtype),
        "shape": list(b.type.dims),
        "len": b.type.size,
        "bytes": b.type.bytes,
        "offset": plan.offsets.get(b.name, 0),
        "quant": _quant(b.quant) if b.quant else None,
    }


def _quant(q: Quant) -> dict[str, str]:
    """Its numbers in C: of emx.quant.Quant, which says what they mean."""
    zero = f"({q.zero})" if q.zero < 0 else str(q.zero)
    numbers = {"inverse": q.inverse, "zero_f32": q.zero, "lo": q.lo, "hi": q.hi}
    return {"scale": c_float(q.scale), "zero": zero, **{k: c_float(v) for k, v in numbers.items()}}
