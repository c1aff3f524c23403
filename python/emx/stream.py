# SPDX-License-Identifier: Apache-2.0
"""Layers that run row by row: in which order, how many rows of each stay, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emx.kernel import Kernel, Rows, Span, Trace
from emx.program import FEED, Buffer, Line, Stage, Step, Stream, padded
from emx.target import Target

CALL = 45  # instructions that the call of one row takes beside its kernel, roughly
MOVE = {"generic": 0.75, "dsp": 0.75, "mve": 0.2}  # and for each byte that moves in its line
STAGES = 250  # a stage is a byte in the order of calls


@dataclass(frozen=True)
class Plot:
    """What is to be streamed: stages that read images of `buffers` and write others, the last of
    them `output`; those that none writes come from outside. calls: of each stage. fed: the input
    that comes in row by row."""

    stages: tuple[Stage, ...]
    calls: tuple[int, ...]
    buffers: Mapping[str, Buffer]
    target: Target
    fed: str | None = None

    @property
    def output(self) -> str:
        return self.stages[-1].step.writes

    @property
    def inputs(self) -> tuple[str, ...]:
        made = {s.step.writes for s in self.stages}
        return tuple(dict.fromkeys(b for s in self.stages for b, _ in reads(s) if b not in made))


@dataclass(frozen=True)
class Result:
    """scratch_bytes: all of the stream's scratch; overlap: input -> Trace of the calls; cost: in
    instructions."""

    stream: Stream
    scratch_bytes: int
    overlap: Mapping[str, Trace]
    cost: int


def reads(stage: Stage) -> Iterator[tuple[str, Span]]:
    """The lines that a stage reads, and which rows."""
    return ((stage.step.reads[operand], span) for operand, span in stage.spans.items())


def stream_step(
    steps: Sequence[Step],
    rows: Sequence[Rows],
    buffers: Mapping[str, Buffer],
    target: Target,
    fed: str | None = None,
    planes: int = 0,
) -> Step:
    """Layers as one step, which has the name of the last. `steps` have kernels for rows; the input
    `fed`, if any, comes in row by row (Stream.fed)."""
    stages = [
        Stage(s, {k: r.spans[k] for k in s.reads}, r.varies, r.accumulates)
        for s, r in zip(steps, rows, strict=True)
    ]
    plot = Plot(tuple(stages), tuple(r.calls for r in rows), buffers, target, fed)
    result = build(plot)
    outside = {f"x{i}": name for i, name in enumerate(plot.inputs) if name != fed}
    kernel = Kernel(
        header="",
        function="",
        inputs={operand: i for i, operand in enumerate(outside)},
        params={},
        key=(),
        scratch_bytes=result.scratch_bytes,
        overlap={operand: result.overlap[name] for operand, name in outside.items()},
        variant=f"{len(steps)} layers row by row",
        cost=result.cost,
    )
    last = steps[-1]
    weights = {f"{s.name} {k}": name for s in steps for k, name in s.weights.items()}
    return Step(
        name=last.name,
        kernel=kernel,
        reads=outside,
        starts={},
        weights=weights,
        writes=last.writes,
        origin=last.origin,
        macs=sum(s.macs for s in steps),
        instance=-1,
        stream=replace(result.stream, fed=planes),
    )


def build(plot: Plot) -> Result:
    """The stream with the least memory for its lines, if rows are made when they are needed."""
    order = _order(plot)
    history = _histories(plot, order)
    lines = {name: _line(plot, name, h) for name, h in history.items()}
    regions = [Region(("state",), state_bytes(len(lines)), _mask([(0, len(order))]))]
    regions += _line_regions(plot, order, lines, history)
    for i, stage in enumerate(plot.stages):
        if size := stage.step.kernel.scratch_bytes:
            regions.append(Region((f"scratch {i}",), size, _busy(plot, order, i)))
    places, total = _place(regions)
    stages = tuple(
        replace(s, scratch=places.get(f"scratch {i}", 0)) for i, s in enumerate(plot.stages)
    )
    placed = {
        name: line if line.offset is None else replace(line, offset=places[f"line {name}"])
        for name, line in lines.items()
    }
    moved = sum(history[n].moves(line) * line.keep * line.row_bytes for n, line in lines.items())
    cost = sum(CALL + plot.stages[s].step.kernel.cost for s in order if s != FEED)
    return Result(
        Stream(placed, stages, order, places["state"]),
        total,
        {x: _trace(plot, order, x) for x in plot.inputs if x != plot.fed},
        cost + int(MOVE[plot.target.dot] * moved),
    )


def state_bytes(lines: int) -> int:
    """The number of the next call, and two numbers of rows for each line: emx/stream.h."""
    return 4 + 4 * lines


def _lines(plot: Plot) -> tuple[str, ...]:
    return (*plot.inputs, *(s.step.writes for s in plot.stages))


def _order(plot: Plot) -> tuple[int, ...]:
    """Each row when a later stage needs it and no earlier."""
    maker = {s.step.writes: i for i, s in enumerate(plot.stages)}
    done = dict.fromkeys(_lines(plot), 0)
    order: list[int] = []

    def ensure(name: str, rows: int) -> None:
        stage = maker.get(name, FEED)
        while done[name] < rows:
            if stage != FEED:
                for line, span in reads(plot.stages[stage]):
                    ensure(line, span.rows(done[name])[1])
            elif name != plot.fed:
                return
            order.append(stage)
            done[name] += 1

    ensure(plot.output, plot.calls[-1])
    if plot.fed:  # rows that nobody needs come all the same
        ensure(plot.fed, _height(plot, plot.fed))
    return tuple(order)


def _height(plot: Plot, name: str) -> int:
    """Rows of a line: of the image, or the calls that make them."""
    for stage, calls in zip(plot.stages, plot.calls, strict=True):
        if stage.step.writes == name:
            return calls
    return _span(plot, name).height


def _span(plot: Plot, name: str) -> Span:
    return next(span for s in plot.stages for line, span in reads(s) if line == name)


@dataclass(frozen=True)
class _History:
    """When the rows of one line are made (-1: before the first call, or never), and when each is
    read for the last time (-1: never), as indices of calls."""

    made: tuple[int, ...]
    used: tuple[int, ...]

    def kept(self) -> Iterator[int]:
        """For each row that is made: how many of those before it are still needed."""
        oldest = 0
        for row, now in enumerate(self.made):
            if now >= 0:
                while oldest < row and self.used[oldest] <= now:
                    oldest += 1
                yield row - oldest

    def moves(self, line: Line) -> int:
        """How often the line has no room for the next row."""
        first = moves = 0
        for row in range(sum(now >= 0 for now in self.made)):
            if row - first == line.rows:
                first, moves = row - line.keep, moves + 1
        return moves

    @property
    def live(self) -> int:
        """The calls during which there is something in the line, as a mask."""
        spans = ((a, max(a, b)) for a, b in zip(self.made, self.used, strict=True) if a >= 0)
        return _mask(spans)


def _histories(plot: Plot, order: Sequence[int]) -> dict[str, _History]:
    """Of all lines."""
    heights = {name: _height(plot, name) for name in _lines(plot)}
    made = {name: [-1] * height for name, height in heights.items()}
    used = {name: [-1] * height for name, height in heights.items()}
    done = dict.fromkeys(heights, 0)
    taken = [tuple(reads(stage)) for stage in plot.stages]
    for now, s in enumerate(order):
        y = plot.fed if s == FEED else plot.stages[s].step.writes
        assert y
        for line, span in () if s == FEED else taken[s]:
            first, last = span.rows(done[y])
            used[line][first:last] = [now] * (last - first)
        made[y][done[y]] = now
        done[y] += 1
    return {name: _History(tuple(made[name]), tuple(used[name])) for name in heights}


def _mask(spans: Iterable[tuple[int, int]]) -> int:
    mask = 0
    for first, last in spans:
        mask |= (1 << last + 1) - (1 << first)
    return mask


def _line(plot: Plot, name: str, history: _History) -> Line:
    buffer = plot.buffers[name]
    outside = name == plot.output or (name in plot.inputs and name != plot.fed)
    height = _height(plot, name)
    if name == plot.output:
        last = plot.stages[-1]
        pitch = 0 if last.accumulates else buffer.type.bytes // height
        return Line(name, pitch, height, height)
    planes = _span(plot, name).planes
    pitch = buffer.type.bytes // height // planes
    if outside:
        return Line(name, pitch, height, height)
    kept = list(history.kept())
    rows = 1 + max(kept, default=0)
    return Line(name, pitch, height, rows, _keep(kept, rows), offset=0)


def _keep(kept: Sequence[int], rows: int) -> int:
    """The fewest rows that may stay each time the line has no room: what stays then moves."""
    for keep in range(rows):
        first, enough = 0, True
        for row, needed in enumerate(kept):
            if row - first == rows:
                first, enough = row - keep, enough and needed <= keep
        if enough:
            return keep
    raise AssertionError("a line with one free row has room")


def _busy(plot: Plot, order: Sequence[int], stage: int) -> int:
    """The calls during which a stage needs its scratch: its own, or all from the first to the last
    if it accumulates."""
    own = [now for now, s in enumerate(order) if s == stage]
    every = [(own[0], own[-1])] if plot.stages[stage].accumulates else [(n, n) for n in own]
    return _mask(every)


@dataclass(frozen=True)
class Region:
    """Memory of everything in `names`, in use during the calls of a mask."""

    names: tuple[str, ...]
    bytes: int
    live: int


def _line_regions(
    plot: Plot, order: Sequence[int], lines: Mapping[str, Line], history: Mapping[str, _History]
) -> list[Region]:
    """A region for each line in scratch; but a single row may be written over one that dies then,
    where the kernel allows it."""
    found: dict[str, Region] = {}
    for name, line in lines.items():
        if line.offset is not None and name in plot.inputs:
            found[name] = Region((f"line {name}",), line.rows * line.row_bytes, history[name].live)
    for i, stage in enumerate(plot.stages):
        name = stage.step.writes
        line = lines[name]
        if line.offset is None:
            continue
        own = Region((f"line {name}",), line.rows * line.row_bytes, history[name].live)
        for operand, x in stage.step.reads.items():
            old, trace = found.get(x), stage.step.kernel.overlap.get(operand)
            if line.rows > 1 or lines[x].rows > 1 or old is None or trace is None:
                continue
            if old.live & own.live == _busy(plot, order, i) and _at_once(trace):
                size = max(own.bytes, old.bytes)
                own = Region((*old.names, *own.names), size, old.live | own.live)
                for gone in [n for n, r in found.items() if r is old]:
                    del found[gone]
                break
        found[name] = own
    return list(found.values())


def _at_once(trace: Trace) -> bool:
    """Whether the output may start exactly where the input does."""
    return trace.distance() == 0 or trace.in_place()


def _place(regions: Sequence[Region]) -> tuple[dict[str, int], int]:
    """Offsets, and the bytes of all: the largest first, each as low as what is in use at the same
    time allows."""
    places: dict[str, int] = {}
    placed: list[tuple[int, int, int]] = []
    for region in sorted(regions, key=lambda r: (-r.bytes, r.names)):
        at, room = 0, padded(region.bytes)
        for start, end, live in sorted(placed):
            if live & region.live and start < at + room:
                at = max(at, end)
        places |= dict.fromkeys(region.names, at)
        placed.append((at, at + room, region.live))
    return places, max(end for _, end, _ in placed)


def _trace(plot: Plot, order: Sequence[int], x: str) -> Trace:
    """What the calls read of x and write of the output, in bytes. A call that does both may read
    again after it has written."""
    y, bytes_y = plot.output, plot.buffers[plot.output].type.bytes
    row = 0 if plot.stages[-1].accumulates else bytes_y // plot.calls[-1]
    done = [0] * len(plot.stages)
    events: list[tuple[int, int, int, int]] = []
    for s in order:
        if s == FEED:
            continue
        stage, r = plot.stages[s], done[s]
        done[s] += 1
        taken = [_range(plot, x, span, r) for line, span in reads(stage) if line == x]
        lo, hi = min((a for a, _ in taken), default=0), max((b for _, b in taken), default=0)
        if stage.step.writes == y:
            events.append((lo, hi, r * row, (r + 1) * row if row else bytes_y))
        if taken:
            events.append((lo, hi, 0, 0))
    return Trace(*np.array(events, np.int64).T)


def _range(plot: Plot, x: str, span: Span, r: int) -> tuple[int, int]:
    """The bytes of x between the first and the last that row r needs."""
    pitch = plot.buffers[x].type.bytes // span.height // span.planes
    first, last = span.rows(r)
    if first == last:
        return 0, 0
    return first * pitch, (span.planes - 1) * span.height * pitch + last * pitch
