# SPDX-License-Identifier: Apache-2.0
"""Graph -> Plan: which kernel each layer gets, and how many layers run row by row.

Costs are predicted instructions. `ram` of the options says what may be paid for memory: nothing
("default": the fastest kernels), or the factors of MORE.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from emx.errors import EmxError
from emx.groups import groups
from emx.ir import Graph
from emx.kernel import Kernel, Wishes
from emx.options import Options
from emx.plan import plan
from emx.program import Plan
from emx.schedule import peaks
from emx.select import Group, Offer, bind, offer
from emx.target import Target

MORE = {"default": 1.0, "small": 1.04, "min": 1.3}  # of the instructions of "default"


@dataclass(frozen=True)
class Choice:
    """A kernel for each layer, and which layers run row by row. bound: no plan that keeps the order
    of the layers needs less."""

    picks: Mapping[str, Kernel]
    group: Group | None
    cost: int
    bound: int


def choose(graph: Graph, target: Target, options: Options) -> Plan:
    """The plan with the smallest arena that `options.ram` pays for, the cheapest of these."""
    wishes = Wishes(options.optimize, options.ram)
    offered = offer(graph, target, wishes, io_arena=options.io_arena)
    best: Plan | None = None
    for choice in sorted(_choices(offered, options), key=lambda c: (c.bound, c.cost)):
        if best and best.arena_bytes <= choice.bound:
            break
        planned = plan(bind(offered, choice.picks, choice.group))
        if best is None or planned.arena_bytes < best.arena_bytes:
            best = planned
    assert best is not None
    return best


def _choices(offered: Offer, options: Options) -> Iterator[Choice]:
    """For each way to run the first layers the picks that need least."""
    fastest = {layer.name: layer.fastest for layer in offered.layers}
    if options.ram == "default" and not options.input_rows:
        yield Choice(fastest, None, 0, 0)
        return
    most = MORE["min" if options.input_rows else options.ram]
    budget = int(most * sum(k.cost for k in fastest.values()))
    table = _table(offered)
    if not options.input_rows:
        yield from _cheapest(table, Choice({}, None, 0, 0), budget)
    if options.input_rows or options.ram == "min":
        streams = list(_streams(offered, fed=options.input_rows))
        found = [c for s in streams for c in _cheapest(table, s, budget)]
        if not found and options.input_rows:  # whatever it costs
            found = [c for s in streams for c in _cheapest(table, s, sys.maxsize)]
        if not found and options.input_rows:
            raise _not_by_rows(offered)
        yield from found


def _not_by_rows(offered: Offer) -> EmxError:
    return EmxError(
        f"the input of {offered.graph.name} cannot be fed row by row",
        hint="--input rows needs a model with one input, an image [1][c][h][w], that starts with "
        "convolutions, pooling or pointwise layers",
    )


def _streams(offered: Offer, *, fed: bool) -> Iterator[Choice]:
    """The first layers row by row: each group of them, with as much scratch as one of its kernels
    takes."""
    if fed and len(offered.graph.inputs) != 1:
        return
    for group in groups(offered, fed=fed):
        names = [layer.name for layer in offered.layers[: len(group.rows)]]
        for scratch in sorted({k.scratch_bytes for r in group.rows for k in r.kernels}):
            kernels = [_within(r.kernels, scratch) for r in group.rows]
            picks = dict(zip(names, kernels, strict=True))
            rest = {layer.name: layer.fastest for layer in offered.layers[len(names) :]}
            program = bind(offered, picks | rest, group)
            yield Choice(picks, group, program.steps[0].kernel.cost, peaks(program)[0])


def _within(kernels: Sequence[Kernel], scratch: int) -> Kernel:
    """The fastest that takes no more scratch, else what takes least."""
    least = min(k.scratch_bytes for k in kernels)
    return min((k for k in kernels if k.scratch_bytes <= max(least, scratch)), key=lambda k: k.cost)


Row = tuple[str, Sequence[tuple[int, Kernel]]]


def _table(offered: Offer) -> list[Row]:
    """The layers by name; for each candidate what the arena needs at that step."""
    layers = offered.layers
    rows: list[tuple[str, list[tuple[int, Kernel]]]] = [(layer.name, []) for layer in layers]
    for level in range(max((len(layer.candidates) for layer in layers), default=0)):
        picks = {n.name: n.candidates[min(level, len(n.candidates) - 1)] for n in layers}
        needed = peaks(bind(offered, picks))
        for (name, row), layer, peak in zip(rows, layers, needed, strict=True):
            if level < len(layer.candidates):
                row.append((peak, picks[name]))
    return [*rows]


def _cheapest(table: Sequence[Row], first: Choice, budget: int) -> Iterator[Choice]:
    """`first` with the cheapest candidates of the other layers that fit an arena: the smallest
    that does not cost more than `budget`, and the larger ones, which may need fewer descents."""
    rest = [(name, row) for name, row in table if name not in first.picks]
    sizes = sorted({peak for _, row in rest for peak, _ in row if peak > first.bound})
    seen: set[tuple[int, ...]] = set()
    for size in [first.bound, *sizes]:
        fits = {name: [k for peak, k in row if peak <= size] for name, row in rest}
        if not all(fits.values()):
            continue
        picks = {name: min(kernels, key=lambda k: k.cost) for name, kernels in fits.items()}
        cost = first.cost + sum(k.cost for k in picks.values())
        same = tuple(map(id, picks.values()))
        if cost <= budget and same not in seen:
            seen.add(same)
            yield Choice({**first.picks, **picks}, first.group, cost, size)
