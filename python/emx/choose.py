# SPDX-License-Identifier: Apache-2.0
"""Graph -> Plan: which kernel each layer gets, and how many layers run row by row.

Costs are predicted instructions. `ram` of the options says what may be paid for memory: nothing
("default": the fastest kernels), or the factors of MORE; "rows" if the input arrives row by row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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

MORE = {"default": 1.0, "small": 1.04, "min": 1.3, "rows": 1.5}  # of the instructions of "default"
SLACK = 1.01  # an arena that is larger by this factor is as good if it costs less


# A layer by name; for each candidate what the arena needs at that step.
Row = tuple[str, Sequence[tuple[int, Kernel]]]


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
    plans: list[tuple[Plan, Choice]] = []
    least = sys.maxsize
    for choice in sorted(_choices(offered, options), key=lambda c: (c.bound, c.cost)):
        if choice.bound <= least * SLACK:
            plans.append((plan(bind(offered, choice.picks, choice.group)), choice))
            least = min(least, plans[-1][0].arena_bytes)
    good = [p for p in plans if p[0].arena_bytes <= least * SLACK]
    best = _faster(offered, *min(good, key=lambda p: p[0].cost), int(least * SLACK))
    if options.ram == "default" and not options.input_rows:
        return best
    fastest = {layer.name: layer.fastest for layer in offered.layers}
    return replace(best, fastest=plan(bind(offered, fastest)))


def _faster(offered: Offer, best: Plan, choice: Choice, most: int) -> Plan:
    """The same layers row by row with as much scratch as an arena of `most` bytes has room for."""
    if choice.group is None:
        return best
    sizes = _scratches(choice.group)
    first, last = 0, len(sizes)  # of the sizes that may do
    while first < last:
        middle = (first + last) // 2
        picks = {**choice.picks, **_rows_within(offered, choice.group, sizes[middle])}
        planned = plan(bind(offered, picks, choice.group))
        if planned.arena_bytes > most:
            last = middle
        else:
            first = middle + 1
            best = planned if planned.cost < best.cost else best
    return best


def _choices(offered: Offer, options: Options) -> list[Choice]:
    """For each way to run the first layers the picks that need least."""
    fastest = {layer.name: layer.fastest for layer in offered.layers}
    if options.ram == "default" and not options.input_rows:
        return [Choice(fastest, None, 0, 0)]
    most = MORE["rows" if options.input_rows else options.ram]
    budget = int(most * sum(k.cost for k in fastest.values()))
    table = _table(offered)
    whole = [] if options.input_rows else list(_cheapest(table, Choice({}, None, 0, 0), budget))
    if not options.input_rows and options.ram != "min":
        return whole
    found = list(_streams(offered, table, budget, fed=options.input_rows))
    if not found and options.input_rows:  # whatever it costs
        found = list(_streams(offered, table, sys.maxsize, fed=True))
    if not found and options.input_rows:
        raise _not_by_rows(offered)
    return whole + found


def _not_by_rows(offered: Offer) -> EmxError:
    return EmxError(
        f"the input of {offered.graph.name} cannot be fed row by row",
        hint="--input rows needs a model with one input, an image [1][c][h][w], that starts with "
        "convolutions, pooling or pointwise layers; not with a normalisation of bytes by a table",
    )


def _streams(offered: Offer, table: Sequence[Row], budget: int, *, fed: bool) -> Iterator[Choice]:
    """For each group of first layers that can run row by row: with the least scratch that the
    budget pays for."""
    if fed and len(offered.graph.inputs) != 1:
        return
    for group in groups(offered, fed=fed):
        sizes = _scratches(group)
        first, last = 0, len(sizes)
        found: list[Choice] = []
        while first < last:
            middle = (first + last) // 2 if first else 0
            choices = list(_cheapest(table, _stream(offered, group, sizes[middle]), budget))
            found = choices or found
            first, last = (first, middle) if choices else (middle + 1, last)
        yield from found


def _stream(offered: Offer, group: Group, scratch: int) -> Choice:
    """The layers of the group; the others are still open."""
    picks = _rows_within(offered, group, scratch)
    rest = {layer.name: layer.fastest for layer in offered.layers if layer.name not in picks}
    program = bind(offered, picks | rest, group)
    return Choice(picks, group, program.steps[0].kernel.cost, peaks(program)[0])


def _scratches(group: Group) -> list[int]:
    return sorted({k.scratch_bytes for r in group.rows for k in r.kernels})


def _rows_within(offered: Offer, group: Group, scratch: int) -> dict[str, Kernel]:
    """For each layer of the group the fastest kernel that takes no more scratch, else the one that
    takes least."""
    picks = {}
    for layer, rows in zip(offered.layers, group.rows, strict=False):
        least = min(k.scratch_bytes for k in rows.kernels)
        fits = [k for k in rows.kernels if k.scratch_bytes <= max(least, scratch)]
        picks[layer.name] = min(fits, key=lambda k: k.cost)
    return picks


def _table(offered: Offer) -> list[Row]:
    """The layers by name; for each candidate what the arena needs at that step."""
    layers = offered.layers
    rows: list[tuple[str, list[tuple[int, Kernel]]]] = [(layer.name, []) for layer in layers]
    for level in range(max((len(layer.kernels) for layer in layers), default=0)):
        picks = {n.name: n.kernels[min(level, len(n.kernels) - 1)] for n in layers}
        needed = peaks(bind(offered, picks))
        for (name, row), layer, peak in zip(rows, layers, needed, strict=True):
            if level < len(layer.kernels):
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
