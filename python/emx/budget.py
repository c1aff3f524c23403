# SPDX-License-Identifier: Apache-2.0
"""Budgets: what is too much is an error with both numbers and the three largest contributors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from emx.errors import EmxError
from emx.ir import Array, DType, TensorType
from emx.options import Options
from emx.program import Plan, Step, padded

SHOWN = 3


@dataclass(frozen=True)
class Part:
    """What takes `bytes` of something, in words."""

    bytes: int
    about: str


def check_memory(plan: Plan, options: Options) -> None:
    """EmxError if the plan needs more than options.max_arena_bytes or max_weights_bytes."""
    limit = options.max_arena_bytes
    if limit is not None and plan.arena_bytes > limit:
        step, live = _peak(plan)
        at = f"{step.origin}  (layer {step.name})"
        raise over("the arena takes", plan.arena_bytes, f"MAX_ARENA_BYTES {limit:,}", live, at=at)
    limit, weights = options.max_weights_bytes, _weights(plan)
    total = sum(part.bytes for part in weights)
    if limit is not None and total > limit:
        raise over("the weights take", total, f"MAX_WEIGHTS_BYTES {limit:,}", weights)


def over(
    what: str,
    needs: int,
    budget: str,
    parts: Iterable[Part],
    *,
    unit: str = "bytes",
    at: str | None = None,
) -> EmxError:
    """The error for something that needs more bytes than its budget."""
    most = sorted(parts, key=lambda part: -part.bytes)[:SHOWN]
    width = len(f"{most[0].bytes:,}")
    rows = [f"{part.bytes:>{width},}  {part.about}" for part in most]
    hint = "\n".join(["most of it:", *rows])
    return EmxError(f"{what} {needs:,} {unit}, the budget is {budget}", at=at, hint=hint)


def _weights(plan: Plan) -> list[Part]:
    """The tensors of the weight blob, with the line of the first layer that reads each."""
    readers: dict[str, Step] = {}
    for step in plan.program.steps:
        for name in step.weights.values():
            readers.setdefault(name, step)
    return [
        Part(padded(w.nbytes), f"{name}  {_type(w)}  {_line(readers[name])}")
        for name, w in plan.program.weights.items()
    ]


def _type(data: Array) -> TensorType:
    return TensorType(data.shape, DType.of(data.dtype))


def _peak(plan: Plan) -> tuple[Step, list[Part]]:
    """The step during which most of the arena is in use, and what is live there."""
    step, spans = max(
        _live(plan), key=lambda at: _covered([(o, o + part.bytes) for o, part in at[1]])
    )
    return step, [part for _, part in spans]


def _live(plan: Plan) -> Iterator[tuple[Step, list[tuple[int, Part]]]]:
    """For every step the (offset, part) of the buffers that are live in it, and its scratch."""
    steps = plan.program.steps
    first = {b: 0 for _, b in plan.program.inputs}
    first.update((s.writes, i) for i, s in reversed(list(enumerate(steps))))
    last = {b: i for i, s in enumerate(steps) for b in (s.writes, *s.reads.values())}
    last.update((b, len(steps)) for _, b in plan.program.outputs)
    for i, step in enumerate(steps):
        names = [b for b in plan.offsets if first.get(b, 0) <= i <= last.get(b, 0)]
        spans = [(plan.offsets[b], _buffer(plan, b)) for b in names]
        if step.name in plan.scratch:
            size = padded(step.kernel.scratch_bytes)
            spans.append((plan.scratch[step.name], Part(size, f"scratch of {step.name}")))
        yield step, spans


def _buffer(plan: Plan, name: str) -> Part:
    b = plan.program.buffers[name]
    writer = next((s for s in plan.program.steps if s.writes == name), None)
    return Part(b.bytes, f"{name}  {b.type}  {_line(writer) if writer else 'an input'}")


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """Bytes of the union of `spans`."""
    total = reached = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _line(step: Step) -> str:
    return step.origin.source or "(added by emx)"
