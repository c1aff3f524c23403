# SPDX-License-Identifier: Apache-2.0
"""What model.c.j2 says of layers that run row by row (runtime/include/emx/stream.h)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emx.c_text import aligned_comments, c_scalar, comment, mentions, prototype
from emx.kernel import Param, Span
from emx.program import Instance, Line, Plan, Stage, Step

NUMBERS = 24  # of the order of calls on a line


def stream_context(step: Step, plan: Plan) -> dict[str, Any]:
    """The tables and functions of a step that is a stream; a case for each stage."""
    stream = step.stream
    assert stream
    names = list(stream.lines)
    outside = {n: f"in{i}" for i, n in enumerate(step.reads.values())}
    outside |= {step.writes: "out"}
    weights = [f"const {plan.program.name}_weights_t *w"] if step.weights else []
    pointers = [_pointer(n, c, plan, step) for n, c in outside.items()]
    parameters = [*weights, "unsigned char *memory", *pointers]
    places = {
        n: outside[n] if line.offset is None else f"memory + {line.offset}"
        for n, line in stream.lines.items()
    }
    row = prototype(
        f"EMX_INLINE void {step.name}_row", ["int stage", "emx_line_at_t *at", *parameters]
    )
    feed = ["uint32_t row", "const void *data", *parameters]
    rows = (
        prototype(f"static bool {step.name}_feed", feed)
        if stream.fed
        else prototype(f"static void {step.name}_rows", parameters)
    )
    return {
        "name": step.name,
        "stages": ", ".join(s.step.name for s in stream.stages),
        "lines": aligned_comments(
            [
                (f"{{{line.row_bytes}, {line.height}, {line.rows}, {line.keep}}},", n)
                for n, line in stream.lines.items()
            ]
        ),
        "order": _numbers(stream.order),
        "calls": len(stream.order),
        "state": stream.state,
        "row": row,
        "rows": rows,
        "arguments": ", ".join(p.rpartition("*")[2] for p in parameters),
        "given": [(names.index(n), stream.lines[n].height) for n in step.reads.values()],
        "fed": places[names[0]] if stream.fed else "",
        "cases": [_case(s, step.name, stream.lines, places, plan) for s in stream.stages],
    }


def feed_context(plan: Plan) -> dict[str, Any] | None:
    """Of an input that comes in row by row: how many, of `len` elements: `width` pixels of `planes`
    channels where the model's own order has planes."""
    program = plan.program
    if program.fed is None:
        return None
    buffer = program.buffers[program.fed]
    stream = program.steps[0].stream
    assert stream
    rows = stream.lines[program.fed].height
    length = buffer.type.size // rows
    return {
        "name": buffer.name,
        "NAME": buffer.name.upper(),
        "c": buffer.type.dtype.c,
        "rows": rows,
        "len": length,
        "width": length // stream.fed,
        "planes": stream.fed,
    }


def _numbers(order: Sequence[int]) -> list[str]:
    starts = range(0, len(order), NUMBERS)
    return [", ".join(map(str, order[i : i + NUMBERS])) + "," for i in starts]


def stream_call(step: Step) -> str:
    """The statement that runs it, or the rows that can be computed from what is there."""
    assert step.stream
    arguments = ["w"] if step.weights else []
    arguments += [f"{step.name}_scratch", *step.reads.values(), step.writes]
    if not step.stream.fed:
        return f"{step.name}_rows({', '.join(arguments)});"
    call = (
        f"{step.name}_feed({', '.join(['row_index', next(iter(step.stream.lines)), *arguments])})"
    )
    return f"if (!{call}) {{\n        return false;\n    }}"


def _pointer(buffer: str, name: str, plan: Plan, step: Step) -> str:
    const = "" if buffer == step.writes else "const "
    return f"{const}{plan.program.buffers[buffer].type.dtype.c} *{name}"


def _case(
    stage: Stage, stream: str, lines: Mapping[str, Line], places: dict[str, str], plan: Plan
) -> dict[str, Any]:
    """One row of a stage: where its inputs are, its parameters, the call. A line of one row has it
    always at its start."""
    step, names = stage.step, list(lines)
    kernel, own = step.kernel, names.index(step.writes)
    instance = plan.program.instances[step.instance]
    data: dict[str, str] = {}
    text = []
    for operand, span in stage.spans.items():
        name = step.reads[operand]
        data[operand] = places[name] if _is_row(lines[name], span) else f"{operand}.data"
        if not _is_row(lines[name], span):
            i = names.index(name)
            text.append(
                f"const emx_rows_t {operand} = emx_line_rows(&{stream}_lines[{i}], &at[{i}], "
                f"{places[name]}, {_corner(span)}, {span.reach});"
            )
    arguments = []
    if instance.varying:
        text += [f"{instance.at_struct} p;", *_parameters(stage, instance)]
        arguments.append("&p")
    if any(mentions(line, "row") for line in text):
        text.insert(0, f"const int32_t row = at[{own}].made;")
    y = f"emx_line_next(&{stream}_lines[{own}], &at[{own}], {places[step.writes]})"
    if _is_row(lines[step.writes], Span(1)):
        y = f"(void *)({places[step.writes]})"
        text.append(f"at[{own}].made++;")
    for operand in kernel.operands:
        c = kernel.c_type(operand)
        if operand == "scratch":
            arguments.append(f"memory + {stage.scratch}")
        elif operand in step.weights:
            arguments.append(f"w->{step.weights[operand]}")
        elif operand == "y":
            arguments.append(f"({c} *){y}")
        else:
            arguments.append(f"(const {c} *)(const void *)({data[operand]})")
    text.append(f"{instance.name}({', '.join(arguments)});")
    return {"name": step.name, "origin": comment(str(step.origin)), "lines": text}


def _is_row(line: Line, span: Span) -> bool:
    """Whether what `span` asks for is always the one row that the line has."""
    return line.offset is not None and line.rows == 1 and span.reach == 1


def _corner(span: Span) -> str:
    times = "row" if span.stride == 1 else f"row * {span.stride}"
    return f"{times} - {span.pad}" if span.pad else times


def _parameters(stage: Stage, instance: Instance) -> Iterator[str]:
    """What the instance reads of its parameters."""
    first = next(iter(stage.spans))
    own = {"in_h": f"{first}.count", "pad_top": f"{first}.above"}
    if stage.accumulates:
        own = {"pad_top": "row"}
    for field in instance.varying:
        if stage.varies and field in own:
            yield f"p.{field} = {own[field]};"
        else:
            yield from _assign(f"p.{field}", stage.step.kernel.params[field])


def _assign(place: str, value: Param) -> Iterator[str]:
    if isinstance(value, tuple):
        for i, v in enumerate(value):
            yield from _assign(f"{place}[{i}]", v)
    else:
        yield f"{place} = {c_scalar(value)};"
