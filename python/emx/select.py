# SPDX-License-Identifier: Apache-2.0
"""Graph + Target -> Program: a kernel for every node, packed weights, instances, buffers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from emx.errors import EmxError, Problem
from emx.ir import Array, Graph, Node, Unsupported, Value, raw
from emx.kernel import Kernel, Rows, Wishes
from emx.names import Names
from emx.ops.movement import Copy, Movement, Reshape
from emx.program import Buffer, Instance, Program, Step
from emx.quant import Quant
from emx.stream import stream_step
from emx.target import Target

# After NAME_, what the generated C calls its own.
SYMBOLS = ("weights", "arena", "run", "run_in", "bind_weights", "bound", "code_hash")


@dataclass(frozen=True)
class Layer:
    """A node that needs a kernel, and those to choose from, each with a cost."""

    node: Node
    kernels: tuple[Kernel, ...]

    @property
    def name(self) -> str:
        return self.node.output.name

    @property
    def fastest(self) -> Kernel:
        return min(self.kernels, key=lambda k: k.cost)


@dataclass(frozen=True)
class Offer:
    """A graph whose outputs own their memory (`own_outputs`), and the kernels that it can have.

    layers   its nodes but for those that are views, in order
    places   where the views lie
    """

    graph: Graph
    target: Target
    wishes: Wishes
    io_arena: bool
    layers: tuple[Layer, ...]
    places: Mapping[str, Place]


@dataclass(frozen=True)
class Group:
    """The first layers, to run row by row: the way of each. fed: as in Stream."""

    rows: tuple[Rows, ...]
    fed: int = 0


def select(
    graph: Graph, target: Target, *, io_arena: bool = False, wishes: Wishes | None = None
) -> Program:
    """Bind every node to its fastest kernel. EmxError with all nodes that no kernel can do."""
    offered = offer(graph, target, wishes or Wishes(), io_arena=io_arena)
    return bind(offered, {layer.name: layer.fastest for layer in offered.layers})


def offer(graph: Graph, target: Target, wishes: Wishes, *, io_arena: bool = False) -> Offer:
    """All candidates for all layers. EmxError with all nodes that have none."""
    graph = own_outputs(graph)
    views = _places(graph)
    layers, problems = list[Layer](), list[Problem]()
    for n in graph.nodes:
        if n.output.name in views:
            continue
        try:
            kernels = n.op.kernels_for(n, graph.constants, target, wishes)
            layers.append(Layer(n, tuple(priced(k, n) for k in kernels)))
        except Unsupported as error:
            text = str(n).partition("  #")[0]
            problems.append(Problem(error.what, str(n.origin), text, error.hint))
    if problems:
        raise EmxError.of(problems, "operators of this model have no kernel")
    return Offer(graph, target, wishes, io_arena, tuple(layers), views)


def priced(kernel: Kernel, node: Node, calls: int = 1) -> Kernel:
    """With a cost, where the operator predicts none: float kernels on a Cortex-M4F take about
    that. The node takes `calls` calls."""
    if kernel.cost:
        return kernel
    return replace(kernel, cost=(2 * node.op.macs(node) + 8 * node.output.type.size) // calls)


def bind(offer: Offer, picks: Mapping[str, Kernel], group: Group | None = None) -> Program:
    """The program in which each layer has the kernel that `picks` names for it; in the group that
    is one for a row."""
    graph = offer.graph
    names = Names(f"{graph.name}_{symbol}" for symbol in SYMBOLS)
    buffers = _Buffers(graph, names, offer.io_arena)
    kernels = [picks[layer.name] for layer in offer.layers]
    rows = group.rows if group else ()
    instances = _instances(kernels, rows, names)
    weights = _Weights()
    steps = []
    for i, (node, kernel) in enumerate(zip((n.node for n in offer.layers), kernels, strict=True)):
        reads, constants = _operands(node, kernel, graph.constants)
        steps.append(
            Step(
                name=buffers.of(node.output),
                kernel=kernel,
                reads={k: buffers.of(v) for k, v in reads.items()},
                starts={k: start for k, v in reads.items() if (start := buffers.start(v))},
                weights={k: weights.add(name, data) for k, (name, data) in constants.items()},
                writes=buffers.of(node.output),
                origin=node.origin,
                macs=node.op.macs(node),
                instance=_instance_of(kernel, instances),
                candidates=tuple((rows[i] if i < len(rows) else offer.layers[i]).kernels),
            )
        )
    table: dict[str, Buffer] = buffers.table
    if group:
        fed = buffers.of(graph.inputs[0]) if group.fed else None
        stream = stream_step(steps[: len(rows)], rows, table, offer.target, fed, group.fed)
        inside = {s.writes for s in steps[: len(rows) - 1]}
        steps[: len(rows)] = [stream]
        table = {n: b for n, b in table.items() if n not in inside}
        if fed:
            table[fed] = replace(table[fed], home="rows")
    return Program(
        name=graph.name,
        target=offer.target,
        buffers=table,
        steps=tuple(steps),
        instances=tuple(instances),
        weights=weights.table,
        inputs=tuple((v.name, buffers.of(v)) for v in graph.inputs),
        outputs=tuple(
            (name, buffers.of(v)) for name, v in zip(graph.output_names, graph.outputs, strict=True)
        ),
        float_layers=graph.float_layers,
        slimmed=graph.slimmed,
    )


def own_outputs(graph: Graph) -> Graph:
    """Every output becomes memory that one node of its own writes: an output that is an input, a
    constant, or another output's memory is copied."""
    places = _places(graph)
    values = {v.name: v for n in graph.nodes for v in n.outputs}
    taken = {v.name for v in graph.inputs} | set(graph.constants)
    nodes, outputs, quants = list(graph.nodes), list[Value](), dict(graph.quants)
    for name, v in zip(graph.output_names, graph.outputs, strict=True):
        root = places.get(v.name, Place(v.name)).root
        if root in taken or values[root].type.size != v.type.size:
            copy = Value(f"{name}.output.{len(outputs)}", v.type, v.eager)
            nodes.append(Node(Copy(), (v,), (copy,)))
            if v.name in quants:
                quants[copy.name] = quants[v.name]
            v, root = copy, copy.name
        taken.add(root)
        outputs.append(v)
    return replace(graph, nodes=tuple(nodes), outputs=tuple(outputs), quants=quants)


@dataclass(frozen=True)
class Place:
    """Memory of a value that no kernel writes: the elements from `start` on of the value `root`."""

    root: str
    start: int = 0


def _places(graph: Graph) -> dict[str, Place]:
    """Reshapes, and movements whose result is one run of memory of their input, such as a slice
    of the outermost axis: they cost nothing."""
    places: dict[str, Place] = {}
    for n in graph.nodes:
        start = _view(n)
        if start is not None:
            x = n.inputs[0].name
            source = places.get(x, Place(x))
            places[n.output.name] = Place(source.root, source.start + start)
    return places


def _view(n: Node) -> int | None:
    if isinstance(n.op, Reshape):
        return 0
    return n.op.view(n.inputs[0].type, n.output.type) if isinstance(n.op, Movement) else None


class _Buffers:
    """One buffer for each value that a kernel writes, and for each input."""

    def __init__(self, graph: Graph, names: Names, io_arena: bool) -> None:
        self._places = _places(graph)
        self.table: dict[str, Buffer] = {}
        self._names: dict[str, str] = {}
        values = {v.name: v for n in graph.nodes for v in n.outputs}
        for v in graph.inputs:
            home = "arena" if io_arena else "input"
            self._add(v, names.unique(v.name), home, graph.quants.get(v.name))
        for name, v in zip(graph.output_names, graph.outputs, strict=True):
            root = replace(values[self._place(v).root], type=v.type)
            home = "arena" if io_arena else "output"
            self._add(root, names.unique(name), home, graph.quants.get(v.name))
        for n in graph.nodes:
            v = n.output
            if v.name not in self._places and v.name not in self._names:
                self._add(v, names.unique((v.eager or v).name.removesuffix(".0")), "arena")

    def of(self, v: Value) -> str:
        return self._names[self._place(v).root]

    def start(self, v: Value) -> int:
        """Where in its buffer a value starts, in elements."""
        return self._place(v).start

    def has_kernel(self, v: Value) -> bool:
        return v.name not in self._places

    def _place(self, v: Value) -> Place:
        return self._places.get(v.name, Place(v.name))

    def _add(self, v: Value, name: str, home: str, quant: Quant | None = None) -> None:
        self._names[v.name] = name
        self.table[name] = Buffer(name, v.type, home, v.name, quant)


def _operands(
    node: Node, kernel: Kernel, constants: Mapping[str, Array]
) -> tuple[dict[str, Value], dict[str, tuple[str, Array]]]:
    """Operand -> value read from memory, and operand -> (name, data) read from the weights.

    Packed weights stand for the node's constants, in order.
    """
    reads = {k: node.inputs[i] for k, i in kernel.inputs.items()}
    used = set(kernel.inputs.values())
    rest = [v.name for i, v in enumerate(node.inputs) if i not in used and v.name in constants]
    packed = {
        k: (name, data) for (k, data), name in zip(kernel.weights.items(), rest, strict=False)
    }
    for k in [k for k, v in reads.items() if v.name in constants]:
        v = reads.pop(k)
        packed[k] = (v.name, constants[v.name])
    return reads, packed


class _Weights:
    """Tensors of the blob, equal ones once, under names that remind of the model's own."""

    def __init__(self) -> None:
        self.table: dict[str, Array] = {}
        self._names = Names()
        self._seen: dict[tuple[str, tuple[int, ...]], str] = {}

    def add(self, name: str, data: Array) -> str:
        key = (hashlib.sha256(raw(data)).hexdigest(), data.shape)
        if key not in self._seen:
            for made in (".folded", ".permuted", ".dequantised"):
                name = name.removesuffix(made)
            self._seen[key] = self._names.unique(name)
            self.table[self._seen[key]] = data
        return self._seen[key]


def _identity(kernel: Kernel) -> tuple[object, ...]:
    """What layers must agree on to share one C function."""
    key = tuple((k, kernel.params[k]) for k in kernel.key)
    return kernel.function, key, kernel.scalars, kernel.operands


def _instances(kernels: Sequence[Kernel], rows: Sequence[Rows], names: Names) -> list[Instance]:
    """The first kernels are those for `rows`."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, k in enumerate(kernels):
        groups.setdefault(_identity(k), []).append(i)
    instances: list[Instance] = []
    count: dict[str, int] = {}
    for members in groups.values():
        first = kernels[members[0]]
        name = first.function.removeprefix("emx_")
        count[name] = count.get(name, -1) + 1
        varying = [
            f
            for f in first.params
            if (f in ("in_h", "pad_top") and any(m < len(rows) and rows[m].varies for m in members))
            or any(kernels[m].params[f] != first.params[f] for m in members)
        ]
        unique = names.unique(f"{name}_{count[name]}")
        instances.append(Instance(unique, first, tuple(varying)))
    return instances


def _instance_of(kernel: Kernel, instances: Sequence[Instance]) -> int:
    wanted = _identity(kernel)
    return next(i for i, inst in enumerate(instances) if _identity(inst.kernel) == wanted)
