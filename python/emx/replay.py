# SPDX-License-Identifier: Apache-2.0
"""Runs the events of a Trace one by one, and believes nothing that was concluded from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emx.kernel import Offsets, Trace

CHUNK = 1 << 20  # reads and writes that are replayed together


class PlanError(AssertionError):
    """The plan would corrupt memory: a bug in emx, never in the user's model."""


def require(condition: bool, what: str) -> None:
    if not condition:
        raise PlanError(what)


def replay(trace: Trace, x: int, y: int, shift: int, what: str) -> None:
    """Run the events of a call that reads x bytes and writes all of y bytes, `shift` bytes behind
    x: no byte of x is read after it is lost.

    Bytes are counted from the start of x, or of y, whichever is lower, in units that every range
    begins and ends with. `lost[u]` is the first event that writes unit u, `needed[u]` the last that
    reads it; an event reads, then writes.
    """
    _check_ranges(trace.read_lo, trace.read_hi, x, f"{what}: event %d reads outside")
    _check_ranges(trace.write_lo, trace.write_hi, y, f"{what}: event %d writes outside")
    reads, writes = (trace.read_lo, trace.read_hi), (trace.write_lo, trace.write_hi)
    every = np.concatenate([*reads, *writes, [shift, x, y]])
    unit = max(1, int(np.gcd.reduce(every)))  # of a call without bytes: 0
    events = len(trace.read_lo)
    x0, y0 = max(0, -shift) // unit, max(0, shift) // unit
    size = max(x0 + x // unit, y0 + y // unit)
    lost = np.full(size, events, np.int64)
    needed = np.full(size, -1, np.int64)
    for event, at in _touched(*writes, unit):
        np.minimum.at(lost, y0 + at, event)
    for event, at in _touched(*reads, unit):
        np.maximum.at(needed, x0 + at, event)
    covered = lost[y0 : y0 + y // unit] < events
    require(bool(covered.all()), f"{what}: the events leave out some of the output")
    early = np.flatnonzero(lost < needed)
    if early.size:
        u = int(early[0])
        when = f"written by event {lost[u]}, read by event {needed[u]}"
        raise PlanError(f"{what}: byte {(u - x0) * unit} is {when}")


def _check_ranges(lo: Offsets, hi: Offsets, size: int, what: str) -> None:
    outside = np.flatnonzero((lo < 0) | (hi < lo) | (hi > size))
    require(not outside.size, what % outside[0] if outside.size else "")


def _touched(lo: Offsets, hi: Offsets, unit: int) -> Iterator[tuple[Offsets, Offsets]]:
    """All (event, unit it touches), CHUNK of them at a time or those of one event."""
    length = (hi - lo) // unit
    ends = np.cumsum(length)
    first = 0
    while first < len(lo):
        done = ends[first] - length[first]
        last = max(first + 1, int(np.searchsorted(ends, done + CHUNK, "right")))
        counts = length[first:last]
        event = np.repeat(np.arange(first, last), counts)
        begin = np.repeat(lo[first:last] // unit - (ends[first:last] - counts - done), counts)
        yield event, begin + np.arange(len(event))
        first = last
