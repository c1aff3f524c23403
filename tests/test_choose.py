# SPDX-License-Identifier: Apache-2.0
"""Which kernels are chosen: beside every combination, by hand-made operators with known costs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from emx.blob import Blob
from emx.check_plan import check
from emx.choose import MORE, SLACK, choose
from emx.ir import Array, Graph, Node, Op, TensorType, Value
from emx.kernel import Kernel, Trace, Wishes
from emx.options import CHOICES, Options
from emx.plan import plan
from emx.program import Plan
from emx.report import manifest
from emx.select import bind, offer
from emx.target import Target, find_target

GENERIC = find_target("generic")
WORDS = CHOICES["ram"]


@dataclass(frozen=True)
class Layer(Op):
    """y has `size` bytes. kernels: (cost, bytes of scratch, whether y may be x) of each."""

    name: ClassVar[str] = "layer"
    size: int
    kernels: tuple[tuple[int, int, bool], ...]

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType((self.size // 4,))

    def reference(self, *arrays: Array) -> Array:
        raise AssertionError

    def kernels_for(
        self, node: Node, constants: Mapping[str, Array], target: Target, wishes: Wishes
    ) -> Sequence[Kernel]:
        x = node.inputs[0].type.bytes
        at = np.array([0]), np.array([x]), np.array([0]), np.array([self.size])
        return [
            Kernel(
                header="layer",
                function="emx_layer_f32",
                inputs={"x": 0},
                params={},
                key=(),
                scratch_bytes=scratch,
                overlap={"x": Trace(*at)} if over else {},
                variant=str(i),
                cost=cost,
            )
            for i, (cost, scratch, over) in enumerate(self.kernels)
        ]


def chain(layers: Sequence[Layer]) -> Graph:
    """Layer after layer from an input of 64 bytes."""
    values = [Value("x", TensorType((16,)))]
    nodes = []
    for i, layer in enumerate(layers):
        values.append(Value(f"t{i}", layer.infer()))
        nodes.append(Node(layer, (values[-2],), (values[-1],)))
    return Graph("test", (values[0],), (values[-1],), ("y",), tuple(nodes), {})


def chosen(graph: Graph, ram: str) -> Plan:
    planned = choose(graph, GENERIC, Options(io_arena=True, ram=ram))
    check(planned)
    return planned


def variants(planned: Plan) -> list[str]:
    return [s.kernel.variant for s in planned.program.steps]


# The arena is 64 + 64 and scratch, or 64 and scratch in place.
KERNELS = ((1000, 4096, False), (1030, 1024, False), (1250, 64, True), (2000, 0, True))
ONE = chain([Layer(64, KERNELS)])


@pytest.mark.parametrize(
    ("ram", "variant", "arena"),
    [("default", "0", 4224), ("small", "1", 1152), ("min", "2", 128)],
)
def test_what_may_be_paid(ram: str, variant: str, arena: int) -> None:
    planned = chosen(ONE, ram)
    assert variants(planned) == [variant] and planned.arena_bytes == arena


def test_costs_of_all_layers_count() -> None:
    """Two layers that each become 3 % dearer are within 4 %; one of 8 % is not."""
    cheap = Layer(64, ((1000, 4096, False), (1030, 64, False)))
    dear = Layer(64, ((1000, 512, False), (1080, 64, False)))
    assert variants(chosen(chain([cheap, cheap]), "small")) == ["1", "1"]
    assert variants(chosen(chain([cheap, dear]), "small")) == ["1", "0"]
    assert variants(chosen(chain([cheap, dear]), "min")) == ["1", "1"]


def test_only_layers_at_the_peak_pay() -> None:
    small = Layer(64, ((1000, 64, False), (1010, 0, False)))
    large = Layer(64, ((1000, 4096, False), (1010, 2048, False)))
    assert variants(chosen(chain([small, large, small]), "min")) == ["0", "1", "0"]


def test_a_few_bytes_are_not_worth_it() -> None:
    graph = chain([Layer(4096, ((1000, 64, False), (1030, 32, False)))])
    assert variants(chosen(graph, "small")) == ["0"]


def test_without_candidates_nothing_changes() -> None:
    graph = chain([Layer(256, ((10, 64, True),)), Layer(64, ((10, 0, False),))])
    arenas = {chosen(graph, ram).arena_bytes for ram in WORDS}
    assert len(arenas) == 1


@pytest.mark.parametrize("seed", range(30))
def test_beside_every_combination(seed: int) -> None:
    """No combination that costs as little needs an arena that is smaller by more than SLACK."""
    rng = random.Random(seed)
    layers = [
        Layer(
            16 * rng.randrange(1, 30),
            tuple(
                (rng.randrange(100, 140), rng.choice((0, 64, 128, 512)), rng.random() < 0.4)
                for _ in range(rng.randrange(1, 4))
            ),
        )
        for _ in range(rng.randrange(1, 5))
    ]
    graph = chain(layers)
    offered = offer(graph, GENERIC, Wishes(), io_arena=True)
    names = [layer.name for layer in offered.layers]
    every = [
        plan(bind(offered, dict(zip(names, kernels, strict=True))))
        for kernels in itertools.product(*(layer.kernels for layer in offered.layers))
    ]
    least = min(p.cost for p in every)
    for ram in WORDS:
        more, planned = MORE[ram], chosen(graph, ram)
        assert planned.cost <= int(least * more)
        smallest = min(p.arena_bytes for p in every if p.cost <= int(least * more))
        assert ram == "default" or planned.arena_bytes <= smallest * SLACK


def test_the_manifest_says_why() -> None:
    planned = chosen(ONE, "small")
    facts = manifest(planned, Options(ram="small"), model_hash="", weights=Blob({}), version="1")
    (layer,) = facts["layers"]
    assert layer["variant"] == "1" and layer["cost"] == 1030 and layer["scratch_bytes"] == 1024
    assert layer["reason"] == "the fastest that fits the smallest arena"
    assert [c["cost"] for c in layer["candidates"]] == [1000, 1030, 1250, 2000]
    assert facts["ram"] == "small" and facts["cost"] == 1030
    assert facts["fastest"] == {"arena_bytes": 4224, "cost": 1000}
    default = manifest(
        chosen(ONE, "default"), Options(), model_hash="", weights=Blob({}), version="1"
    )
    assert default["layers"][0]["reason"] == "the fastest"
