# SPDX-License-Identifier: Apache-2.0
"""Orders in which a program can run, and the least memory that each of them needs."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from emx.program import ALIGN, Program, Step

Order = tuple[int, ...]  # indices into Program.steps

STATES = 4000  # sets of finished steps that the search for the leanest order may visit
WINDOW = 16  # ready steps that an order considers at each step, so that wide graphs stay cheap


@dataclass(frozen=True)
class Facts:
    """The program as numbers. Only arena buffers count; step i is bit 1 << i of a mask.

    size      buffer -> bytes, a multiple of ALIGN
    readers   buffer -> mask of the steps that read it; the caller, who reads the outputs, is
              the step after the last
    reads     step -> buffers that it reads
    chase     step -> {x: d}: once x is dead after the step, y may start at any y <= x - d
    in_place  step -> those x at which y may start exactly, whatever d is
    needs     step -> mask of the steps before it
    users     step -> steps that read its output
    start     bytes of the model inputs, all live before the first step
    idle      bytes of the model inputs that nobody reads, gone after the first step
    """

    steps: tuple[Step, ...]
    size: Mapping[str, int]
    readers: Mapping[str, int]
    reads: tuple[tuple[str, ...], ...]
    chase: tuple[Mapping[str, int], ...]
    in_place: tuple[frozenset[str], ...]
    needs: tuple[int, ...]
    users: tuple[tuple[int, ...], ...]
    start: int
    idle: int

    def descent(self, step: int, x: str) -> int:
        """How far y must start before x at least, if it lies over it."""
        return 0 if x in self.in_place[step] else self.chase[step][x]


def gather(program: Program) -> Facts:
    steps = program.steps
    size = {name: b.bytes for name, b in program.buffers.items() if b.home == "arena"}
    reads = [tuple(dict.fromkeys(b for b in s.reads.values() if b in size)) for s in steps]
    readers = dict.fromkeys(size, 0)
    for i, names in enumerate(reads):
        for b in names:
            readers[b] |= 1 << i
    for _, b in program.outputs:
        if b in size:
            readers[b] |= 1 << len(steps)
    maker = {s.writes: i for i, s in enumerate(steps)}
    before = [sorted({maker[b] for b in s.reads.values() if b in maker}) for s in steps]
    users: list[list[int]] = [[] for _ in steps]
    for i, producers in enumerate(before):
        for p in producers:
            users[p].append(i)
    given = [b for _, b in program.inputs if b in size]
    return Facts(
        steps=steps,
        size=size,
        readers=readers,
        reads=tuple(reads),
        chase=tuple(_chase(s, r, size) for s, r in zip(steps, reads, strict=True)),
        in_place=tuple(_in_place(s, r, size) for s, r in zip(steps, reads, strict=True)),
        needs=tuple(sum(1 << p for p in producers) for producers in before),
        users=tuple(map(tuple, users)),
        start=sum(size[b] for b in given),
        idle=sum(size[b] for b in given if not readers[b]),
    )


def orders(facts: Facts) -> list[Order]:
    """Distinct orders worth planning, the given one first."""
    found = [tuple(range(len(facts.steps)))]
    if _is_chain(facts):
        return found
    found.append(_list_order(facts, lambda age, peak, after: (after, peak)))
    found.append(_list_order(facts, lambda age, peak, after: (-age, after)))
    leanest = _search(facts)
    return list(dict.fromkeys([*found, leanest] if leanest else found))


def lower_bound(facts: Facts, order: Order) -> int:
    """No placement can run `order` in fewer bytes.

    Two arguments. At each step the live buffers and the scratch lie beside each other, only y
    may lie over inputs that die there, d bytes ahead. And where there is no room for y beside
    x it must lie over it, hence at least d bytes lower: the descents of a chain of such steps
    add up.
    """
    rows = list(_walk(facts, order))
    peak = max((r.peak for r in rows), default=facts.start)
    low, high = peak // ALIGN, (facts.start + sum(facts.size.values())) // ALIGN
    high = max(high, low)
    while low < high:
        middle = (low + high) // 2
        if _descends_in(facts, rows, middle * ALIGN):
            high = middle
        else:
            low = middle + 1
    return low * ALIGN


def peaks(program: Program) -> list[int]:
    """Bytes that each step needs at least, in the order given."""
    facts = gather(program)
    return [row.peak for row in _walk(facts, range(len(facts.steps)))]


@dataclass(frozen=True)
class _Row:
    """One step of an order: the least bytes it needs, and what is live after it."""

    step: int
    peak: int
    after: int
    partners: tuple[str, ...]  # inputs that die here and that y may lie over


def _chase(step: Step, reads: Iterable[str], size: Mapping[str, int]) -> dict[str, int]:
    if step.writes not in size:
        return {}
    traces = ((b, step.overlap(b)) for b in reads)
    return {b: -(-t.distance() // ALIGN) * ALIGN for b, t in traces if t is not None}


def _in_place(step: Step, reads: Iterable[str], size: Mapping[str, int]) -> frozenset[str]:
    traces = ((b, step.overlap(b)) for b in reads if step.writes in size)
    return frozenset(b for b, t in traces if t is not None and t.in_place())


def _is_chain(facts: Facts) -> bool:
    return all(facts.needs[i] & (1 << i - 1) for i in range(1, len(facts.steps)))


def _row(facts: Facts, done: int, live: int, step: int) -> _Row:
    """Step `step` after the steps `done`, which leave `live` bytes."""
    later = ~(done | 1 << step)
    dying = [b for b in facts.reads[step] if not facts.readers[b] & later]
    partners = tuple(b for b in dying if b in facts.chase[step])
    y = facts.steps[step].writes
    size = facts.size
    scratch = -(-facts.steps[step].kernel.scratch_bytes // ALIGN) * ALIGN
    others = live - sum(size[b] for b in partners) + scratch
    gone = sum(size[b] for b in dying) + (0 if done else facts.idle)
    kept = size.get(y, 0) if facts.readers.get(y) else 0
    return _Row(step, others + _union(facts, step, partners), live + kept - gone, partners)


def _union(facts: Facts, step: int, partners: Iterable[str]) -> int:
    """Least bytes of y and `partners`: they lie beside each other, each d bytes behind y."""
    y = facts.size.get(facts.steps[step].writes, 0)
    end = 0
    for d, size in sorted((min(facts.descent(step, b), y), facts.size[b]) for b in partners):
        end = max(end, d) + size
    return max(end, y)


def _walk(facts: Facts, order: Sequence[int]) -> Iterable[_Row]:
    done, live = 0, facts.start
    for step in order:
        row = _row(facts, done, live, step)
        yield row
        done, live = done | 1 << step, row.after


def _descends_in(facts: Facts, rows: Sequence[_Row], capacity: int) -> bool:
    """Whether every chain of steps whose y must lie over x fits `capacity` bytes."""
    lowest = dict.fromkeys(facts.size, 0)  # least offset of each buffer
    for row in reversed(rows):
        y = facts.steps[row.step].writes
        for x in row.partners:
            rest = [b for b in row.partners if b != x]
            saved = _union(facts, row.step, row.partners) - _union(facts, row.step, rest)
            if row.peak - saved + facts.size[x] > capacity:
                lowest[x] = lowest[y] + facts.descent(row.step, x)
                if lowest[x] + facts.size[x] > capacity:
                    return False
    return True


def _list_order(facts: Facts, key: Callable[[int, int, int], tuple[int, int]]) -> Order:
    """Always the ready step with the least key(age when it became ready, peak, live after)."""
    ready = [(0, i) for i, need in enumerate(facts.needs) if not need]
    done, live, order = 0, facts.start, list[int]()
    while ready:
        rows = [(age, _row(facts, done, live, i)) for age, i in ready[-WINDOW:]]
        _, row = min(rows, key=lambda r: (*key(r[0], r[1].peak, r[1].after), r[1].step))
        order.append(row.step)
        done, live = done | 1 << row.step, row.after
        ready = [(age, i) for age, i in ready if i != row.step]
        ready += [(len(order), u) for u in facts.users[row.step] if not facts.needs[u] & ~done]
    return tuple(order)


def _search(facts: Facts) -> Order | None:
    """The order whose widest step is the narrowest of all orders, if STATES suffice.

    What is live depends only on the set of finished steps, so these sets are the states of a
    shortest-path search in which a path costs as much as its widest step.
    """
    first = tuple(i for i, need in enumerate(facts.needs) if not need)
    heap: list[tuple[int, int, int, int, _Path]] = [(0, 0, facts.start, 0, _Path(0, -1, None))]
    serial = count()  # decides between equals: what was found first goes first
    ready = {0: first}  # set of finished steps -> what can run next; only of visited sets
    while heap and len(ready) < STATES:
        peak, left, live, _, path = heapq.heappop(heap)
        if path.before:
            if path.done in ready:
                continue
            new = (u for u in facts.users[path.step] if not facts.needs[u] & ~path.done)
            old = ready[path.before.done]
            ready[path.done] = (*(i for i in old if i != path.step), *new)
        if not ready[path.done]:
            return path.order()
        for i in ready[path.done][:WINDOW]:
            row = _row(facts, path.done, live, i)
            longer = _Path(path.done | 1 << i, i, path)
            entry = (max(peak, row.peak), left - 1, row.after, next(serial), longer)
            heapq.heappush(heap, entry)
    return None


@dataclass(frozen=True)
class _Path:
    """Steps run so far: their mask, the latest of them, and the path before it."""

    done: int
    step: int
    before: _Path | None

    def order(self) -> Order:
        path, steps = self, list[int]()
        while path.before:
            steps.append(path.step)
            path = path.before
        return tuple(reversed(steps))
