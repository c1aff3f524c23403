# SPDX-License-Identifier: Apache-2.0
"""Program -> Plan: the order of the steps, and where in the arena every buffer lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from random import Random

from emx.program import ALIGN, Plan, Program
from emx.schedule import Facts, Order, gather, lower_bound, orders

EFFORT = 200_000  # pairs of neighbours that the local search of one order may look at
COLUMNS = 40  # width of the map that render draws


def plan(program: Program) -> Plan:
    """Choose the order and the addresses that need the smallest arena.

    Buffers that are live in the same step are disjoint, except that y may lie over an input
    that dies there, as far ahead of it as the kernel's contract demands. `lower_bound` is
    the least bound of the orders that were tried; when it equals `arena_bytes`, none of
    them can do better. The result depends on the program alone.
    """
    facts = gather(program)
    bounds = sorted((lower_bound(facts, order), i, order) for i, order in enumerate(orders(facts)))
    least = bounds[0][0]
    best: tuple[int, Order, _Puzzle, list[int]] | None = None
    for bound, _, order in bounds:
        if best and best[0] <= bound:
            break
        puzzle = _puzzle(program, facts, order)
        extent, offsets = _solve(puzzle, bound)
        if best is None or extent < best[0]:
            best = extent, order, puzzle, offsets
    assert best is not None
    extent, order, puzzle, offsets = best
    at = {piece.key: offset for piece, offset in zip(puzzle.pieces, offsets, strict=True)}
    return Plan(
        program=replace(program, steps=tuple(program.steps[i] for i in order)),
        offsets={name: at["buffer", name] for name in facts.size if ("buffer", name) in at},
        scratch={name: offset for (kind, name), offset in at.items() if kind == "scratch"},
        arena_bytes=extent,
        lower_bound=least,
    )


def render(plan: Plan) -> str:
    """The plan as a table: for each step what it writes, and a map of the arena meanwhile.

    On the map y is #, other live buffers are =, scratch is ~, free memory is a dot. `used` is
    the bytes that are not free.
    """
    program = plan.program
    pieces = list(_pieces(program, gather(program), tuple(range(len(program.steps)))))
    rows = [("step", "writes", "arena", "used", "map")]
    for now, step in enumerate(program.steps):
        spans = {"=": list[tuple[int, int]](), "~": [], "#": []}
        for piece in pieces:
            if piece.first <= now <= piece.last:
                kind, name = piece.key
                start = (plan.offsets if kind == "buffer" else plan.scratch)[name]
                mark = "~" if kind == "scratch" else "#" if name == step.writes else "="
                spans[mark].append((start, start + piece.bytes))
        used = _covered([span for group in spans.values() for span in group])
        where = " ".join(f"{start}..{end}" for start, end in spans["#"]) or "-"
        rows.append((step.name, step.writes, where, str(used), _map(spans, plan.arena_bytes)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return "\n".join([*text, f"arena {plan.arena_bytes} bytes (no less than {plan.lower_bound})"])


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """Bytes of the union of `spans`."""
    total = reached = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _map(spans: Mapping[str, Sequence[tuple[int, int]]], arena: int) -> str:
    cells = ["."] * COLUMNS
    for mark, group in spans.items():
        for start, end in group:
            first, last = start * COLUMNS // arena, -(-end * COLUMNS // arena)
            cells[first:last] = mark * (last - first)
    return "".join(cells)


@dataclass(frozen=True)
class _Piece:
    """A buffer or a scratch region: live from step `first` to step `last` of the order."""

    key: tuple[str, str]  # ("buffer", its name) or ("scratch", name of the step)
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class _Puzzle:
    """What must be placed. near[p] lists (q, low, high) for each q that p shares a step with:

    p must not start strictly between q's start + low and q's start + high.
    """

    pieces: tuple[_Piece, ...]
    near: tuple[tuple[tuple[int, int, int], ...], ...]


def _pieces(program: Program, facts: Facts, order: Order) -> Iterator[_Piece]:
    """In the order of birth; at each step y comes before the scratch."""
    after_all = len(order)
    last = dict.fromkeys(facts.size, 0)
    for now, i in enumerate(order):
        last.update(dict.fromkeys((*facts.reads[i], program.steps[i].writes), now))
    last.update((name, after_all) for _, name in program.outputs)
    for name in dict.fromkeys(b for _, b in program.inputs if b in facts.size):
        yield _Piece(("buffer", name), facts.size[name], 0, last[name])
    for now, i in enumerate(order):
        step = program.steps[i]
        if step.writes in facts.size:
            name = step.writes
            yield _Piece(("buffer", name), facts.size[name], now, last[name])
        if step.kernel.scratch_bytes:
            scratch = -(-step.kernel.scratch_bytes // ALIGN) * ALIGN
            yield _Piece(("scratch", step.name), scratch, now, now)


def _puzzle(program: Program, facts: Facts, order: Order) -> _Puzzle:
    pieces = tuple(_pieces(program, facts, order))
    near: list[list[tuple[int, int, int]]] = [[] for _ in pieces]
    live: list[int] = []
    for p, new in enumerate(pieces):
        live = [q for q in live if pieces[q].last >= new.first]
        for q in live:
            old = pieces[q]
            ahead = new.bytes  # p starts at least this far before q, or else after its end
            bounds = [(-ahead, old.bytes)]
            if old.last == new.first < len(order) and old.key[0] == "buffer":
                step = order[new.first]
                if new.key == ("buffer", program.steps[step].writes):
                    ahead = min(ahead, facts.chase[step].get(old.key[1], ahead))
                    inside = [0] if old.key[1] in facts.in_place[step] else []
                    ends = [-ahead, *inside, old.bytes]
                    bounds = list(pairwise(ends))
            near[p] += [(q, low, high) for low, high in bounds]
            near[q] += [(p, -high, -low) for low, high in bounds]
        live.append(p)
    return _Puzzle(pieces, tuple(map(tuple, near)))


def _solve(puzzle: _Puzzle, bound: int) -> tuple[int, list[int]]:
    """The smallest extent that the heuristics and a local search find, and the offsets."""
    trials = EFFORT // (1 + sum(map(len, puzzle.near)))
    best: tuple[int, list[int]] | None = None
    start: list[int] = []
    for queue in islice(_queues(puzzle.pieces), max(3, trials)):
        extent, offsets = _place(puzzle, queue)
        if best is None or extent < best[0]:
            best, start = (extent, offsets), queue
        if best[0] <= bound:
            return best
    assert best is not None
    return _improve(puzzle, start, best, bound, trials)


def _queues(pieces: Sequence[_Piece]) -> Iterator[list[int]]:
    """Sequences in which to place the pieces, the most useful first."""
    birth = list(range(len(pieces)))
    yield birth
    yield sorted(birth, key=lambda p: (-pieces[p].bytes, p))
    yield [*birth[::2], *birth[1::2]]  # a chain without overlap: the ends of the arena in turn
    yield birth[::-1]
    yield sorted(birth, key=lambda p: (-pieces[p].bytes * (1 + _span(pieces[p])), p))
    yield sorted(birth, key=lambda p: (-_span(pieces[p]), -pieces[p].bytes, p))


def _span(piece: _Piece) -> int:
    return piece.last - piece.first


def _improve(
    puzzle: _Puzzle, queue: list[int], best: tuple[int, list[int]], bound: int, trials: int
) -> tuple[int, list[int]]:
    """Move one piece at a time to another place in the queue; keep what is no worse."""
    random = Random(0)
    for _ in range(trials):
        trial = queue.copy()
        trial.insert(random.randrange(len(queue)), trial.pop(random.randrange(len(queue))))
        extent, offsets = _place(puzzle, trial)
        if extent <= best[0]:
            queue, best = trial, (extent, offsets)
        if extent <= bound:
            break
    return best


def _place(puzzle: _Puzzle, queue: Sequence[int]) -> tuple[int, list[int]]:
    """Place the pieces one by one, each where the extent grows least, the lowest of these."""
    at: list[int | None] = [None] * len(queue)
    bottom = top = 0
    for p in queue:
        size = puzzle.pieces[p].bytes
        taken = []
        for q, low, high in puzzle.near[p]:
            start = at[q]
            if start is not None:
                taken.append((start + low, start + high))
        taken.sort()
        at[p] = spot = _spot(size, taken, bottom, top)
        bottom, top = min(bottom, spot), max(top, spot + size)
    return top - bottom, [offset - bottom for offset in at if offset is not None]


def _spot(size: int, taken: Sequence[tuple[int, int]], bottom: int, top: int) -> int:
    """The best start outside all open intervals `taken`, which are sorted.

    A start in a higher gap never makes the extent smaller, so only two compete: in front of
    everything that is in the way, or in the first gap behind some of it. Starts below `bottom`
    are fine: offsets become >= 0 at the end.
    """
    if not taken:
        return min(bottom, top - size)
    below = min(bottom, top - size, taken[0][0])
    above = taken[0][1]
    for low, high in taken:
        if low >= above:
            break
        above = max(above, high)
    higher = max(top, above + size) - bottom < max(top, below + size) - below
    return above if higher else below
