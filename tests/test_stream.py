# SPDX-License-Identifier: Apache-2.0
"""Layers that run row by row: the same bits as the layers as a whole, for every group of layers;
what the checker of streams finds; how rows of an input are fed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import emx
from emx.api import compile, generate
from emx.build import Program, build, find_machine, run
from emx.check_plan import PlanError, check
from emx.errors import EmxError
from emx.groups import groups
from emx.kernel import Wishes
from emx.load import load
from emx.options import Options
from emx.passes import run as run_passes
from emx.plan import plan
from emx.program import FEED, Plan, Stream
from emx.select import bind, offer, own_outputs
from emx.target import find_target
from golden_models import golden_bundle
from many import SANITIZE, run_together
from stream_nets import bundle, integer_bundle, run_streams, streams

M4F, M55 = "mps2-an386", "mps3-an547"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 6, 8])
def test_rows_of_floats(tmp_path: Path, seed: int) -> None:
    assert run_streams(bundle(seed), tmp_path, "host", ("-O1",)) > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 4])
def test_rows_of_integers(tmp_path: Path, seed: int) -> None:
    assert run_streams(integer_bundle(seed), tmp_path, "host", ("-O1",)) > 8


@pytest.mark.slow
@pytest.mark.parametrize("make", [bundle, integer_bundle])
def test_rows_under_sanitizers(tmp_path: Path, make: Callable[[int], emx.Bundle]) -> None:
    quick = ("-O0", *(flag for flag in SANITIZE if flag.startswith("-fsanitize")))
    assert run_streams(make(2), tmp_path, "host", quick) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("board", [M4F, M55])
@pytest.mark.parametrize(("make", "seed"), [(bundle, 0), (integer_bundle, 9)])
def test_rows_on_boards(
    tmp_path: Path, make: Callable[[int], emx.Bundle], seed: int, board: str
) -> None:
    assert run_streams(make(seed), tmp_path, board, ("-O2",)) > 10


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20, 120))
def test_many_rows(tmp_path: Path, seed: int) -> None:
    run_streams(bundle(seed), tmp_path, "host", ("-O1",))
    run_streams(integer_bundle(seed), tmp_path, M55, ("-O2",))


def streamed(*, fed: bool = False, io_arena: bool = True) -> Plan:
    """The plan with the most layers row by row: four convolutions with a residual, two pools."""
    graph = own_outputs(run_passes(load(golden_bundle("residual"))))
    offered = offer(graph, find_target("generic"), Wishes(), io_arena=io_arena)
    group = list(groups(offered, fed=fed))[-1]
    assert len(group.rows) == 6
    picks = {layer.name: layer.fastest for layer in offered.layers}
    for layer, rows in zip(offered.layers, group.rows, strict=False):
        picks[layer.name] = rows.kernels[0]
    return plan(bind(offered, picks, group))


def damaged(good: Plan, **changes: Any) -> Plan:
    """With other fields of the stream."""
    first, *rest = good.program.steps
    assert first.stream
    step = replace(first, stream=replace(first.stream, **changes))
    return replace(good, program=replace(good.program, steps=(step, *rest)))


def stream_of(p: Plan) -> Stream:
    found = p.program.steps[0].stream
    assert found
    return found


@pytest.mark.parametrize("fed", [False, True])
def test_what_is_planned_is_right_and_no_line_has_a_row_too_many(fed: bool) -> None:
    good = streamed(fed=fed)
    check(good)
    stream = stream_of(good)
    inside = [line for line in stream.lines.values() if line.offset is not None]
    assert len(inside) == (6 if fed else 5) and any(line.rows == 3 for line in inside)
    for line in inside:
        if line.rows > 1:
            less = replace(line, rows=line.rows - 1, keep=min(line.keep, line.rows - 2))
            with pytest.raises(PlanError):
                check(damaged(good, lines={**stream.lines, line.name: less}))
        if line.keep:
            forgets = replace(line, keep=line.keep - 1)
            with pytest.raises(PlanError):
                check(damaged(good, lines={**stream.lines, line.name: forgets}))


def test_the_checker_names_what_is_wrong() -> None:
    good = streamed()
    stream = stream_of(good)
    names = list(stream.lines)

    def refused(what: str, **changes: Any) -> None:
        with pytest.raises(PlanError, match=what):
            check(damaged(good, **changes))

    def moved(name: str, offset: int) -> dict[str, Any]:
        return {**stream.lines, name: replace(stream.lines[name], offset=offset)}

    refused("too early", order=(1, *stream.order))
    refused("not complete", order=stream.order[:-1])
    refused("too many rows", order=(*stream.order, stream.order[-1]))
    refused("lies outside", lines=moved(names[1], 1 << 20))
    refused("lies outside", state=-4)
    first, second = (stream.lines[n].offset for n in names[1:3])
    assert first is not None and second is not None
    refused("a row of relu6 over x", lines=moved(names[2], first))
    refused("loses its state", state=first)
    wide = replace(stream.stages[1], spans={"x": replace(stream.stages[1].spans["x"], reach=5)})
    refused("too early|lost", stages=(stream.stages[0], wide, *stream.stages[2:]))


def test_a_stream_that_is_fed_runs_first() -> None:
    good = streamed(fed=True)
    assert FEED in stream_of(good).order
    steps = good.program.steps
    later = replace(good, program=replace(good.program, steps=(steps[1], steps[0], *steps[2:])))
    with pytest.raises(PlanError):
        check(later)


def test_every_group_of_random_networks_is_right() -> None:
    for make in (bundle, integer_bundle):
        assert sum(1 for _ in streams(make(9), "cortex-m4")) > 10


FEEDING = """
#include "residual.h"
#include <stdio.h>
extern const unsigned char residual_vectors[];

int main(void)
{
    static float row[RESIDUAL_IMAGE_ROW_LEN];
    static unsigned char arena[RESIDUAL_ARENA_BYTES] __attribute__((aligned(RESIDUAL_ARENA_ALIGN)));
    bool (*const feed)(void *, uint32_t, const float *) = residual_feed_row_in;
    enum { LAST = RESIDUAL_IMAGE_ROWS - 1 };
    int good = !feed(arena, 0, row) && !feed(arena, 1, row);
    good &= !feed(arena, 1, row) && !feed(arena, 3, row) && !feed(arena, LAST, row);
    for (int image = 0; image < 2; image++) {
        for (uint32_t r = 0; r <= LAST; r++) {
            for (int i = 0; i < RESIDUAL_IMAGE_ROW_LEN; i++) {
                row[i] = (float)(image * (int)r - i);
            }
            good &= feed(arena, r, row) == (r == LAST);
        }
        const float *const y = residual_softmax_in(arena);
        printf("%d %.4f %.4f\\n", good, (double)y[0], (double)y[1]);
    }
    return 0;
}
"""


def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    """Row 0 begins an image, also in the middle of another."""
    options = Options(io_arena=True, ram="min", input_rows=True, arena="caller")
    compile(golden_bundle("residual"), out_dir=tmp_path, options=options)
    (tmp_path / "main.c").write_text(FEEDING)
    sources = Program(tuple(sorted(tmp_path.glob("*.c"))), include=(tmp_path,), flags=SANITIZE)
    host = find_machine("host")
    done = run(host, build(host, sources, tmp_path / "feed"), cwd=tmp_path)
    lines = [line.split() for line in done.output.splitlines()]
    assert done.code == 0 and [line[0] for line in lines] == ["1", "1"], done.output
    assert lines[0][1:] != lines[1][1:]


@pytest.mark.parametrize("options", [{"ram": "min"}, {"ram": "min", "input_rows": True}], ids=str)
@pytest.mark.parametrize("arena", [{"io_arena": True}, {}, {"arena": "caller"}], ids=str)
@pytest.mark.parametrize("weights", ["incbin", "external"])
def test_with_every_kind_of_arena(
    tmp_path: Path, options: dict[str, Any], arena: dict[str, Any], weights: str
) -> None:
    wishes = Options(test=True, taps=True, weights=weights, **options, **arena)
    run_together([golden_bundle("residual")], tmp_path, "host", ("-O1", "-Wall", "-Werror"), wishes)
    facts = json.loads((tmp_path / "residual.json").read_text())
    if wishes.input_rows or not wishes.io_arena:  # else in place is as good
        assert facts["layers"][0]["kernel"].endswith(" layers row by row")


def test_the_manifest_has_the_layers_of_a_stream() -> None:
    options = Options(io_arena=True, ram="min", input_rows=True)
    facts = generate(golden_bundle("residual"), find_target("generic"), options).manifest
    (first, *_) = facts["layers"]
    assert [s["calls"] for s in first["rows"]][:4] == [6, 6, 6, 6]
    assert first["reason"] == "the smallest arena" and first["candidates"] == []
    assert first["macs"] == sum(s["macs"] for s in first["rows"])
    assert facts["inputs"][0]["rows"] == 12
    assert facts["arena_bytes"] < facts["fastest"]["arena_bytes"]
    assert facts["cost"] == sum(layer["cost"] for layer in facts["layers"])
    whole = generate(golden_bundle("residual"), find_target("generic"), Options()).manifest
    assert facts["macs"] == whole["macs"] and whole["fastest"]["cost"] == whole["cost"]


@pytest.mark.parametrize("name", ["dense", "several"])
def test_what_cannot_be_fed_is_an_error(name: str) -> None:
    with pytest.raises(EmxError) as caught:
        generate(golden_bundle(name), find_target("generic"), Options(input_rows=True))
    message = str(caught.value)
    assert f"the input of {name} cannot be fed row by row" in message
    assert "--input rows needs a model with one input" in message
