# SPDX-License-Identifier: Apache-2.0
"""Graph + Target -> Program: a kernel for every node, packed weights, instances, buffers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from emx.errors import EmxError, Problem
from emx.ir import Array, Graph, Node, Unsupported, Value, raw
from emx.kernel import Kernel
from emx.names import Names
from emx.ops.movement import Copy, Movement, Reshape
from emx.program import Buffer, Instance, Program, Step
from emx.quant import Quant
from emx.target import Target

# After NAME_, what the generated C calls its own.
SYMBOLS = ("weights", "arena", "run", "run_in", "bind_weights", "bound", "code_hash")


def select(graph: Graph, target: Target, *, io_arena: bool = False) -> Program:
    """Bind every node to a kernel. EmxError with all nodes that no kernel can do."""
    graph = own_outputs(graph)
    names = Names(f"{graph.name}_{symbol}" for symbol in SYMBOLS)
    buffers = _Buffers(graph, names, io_arena)
    kernels, problems = _kernels(graph, buffers, target)
    if problems:
        raise EmxError.of(problems, "operators of this model have no kernel")
    instances = _instances(list(kernels.values()), names)
    weights = _Weights()
    steps = []
    for node in graph.nodes:
        if node.output.name not in kernels:
            continue
        kernel = kernels[node.output.name]
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
            )
        )
    return Program(
        name=graph.name,
        target=target,
        buffers=buffers.table,
        steps=tuple(steps),
        instances=tuple(instances),
        weights=weights.table,
        inputs=tuple((v.name, buffers.of(v)) for v in graph.inputs),
        outputs=tuple(
            (name, buffers.of(v)) for name, v in zip(graph.output_names, graph.outputs, strict=True)
        ),
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
            root = values[self._place(v).root]
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


def _kernels(
    graph: Graph, buffers: _Buffers, target: Target
) -> tuple[dict[str, Kernel], list[Problem]]:
    """Output name -> kernel, for all nodes whose output is not a view."""
    kernels: dict[str, Kernel] = {}
    problems: list[Problem] = []
    for n in graph.nodes:
        if not buffers.has_kernel(n.output):
            continue
        try:
            kernels[n.output.name] = n.op.kernel_for(n, graph.constants, target)
        except Unsupported as error:
            problems.append(
                Problem(error.what, str(n.origin), str(n).partition("  #")[0], error.hint)
            )
    return kernels, problems


def _operands(
    node: Node, kernel: Kernel, constants: Mapping[str, Array]
) -> tuple[dict[str, Value], dict[str, tuple[str, Array]]]:
    """Operand -> value read from memory, and operand -> (name, data) read from the weights.

    Packed weights stand for the node's constants, in order.
    """
    reads = {k: node.inputs[i] for k, i in kernel.inputs.items()}
    used = set(kernel.inputs.values())
    rest = [v.name for i, v in enumerate(node.inputs) if i not in used and v.name in constants]
    packed = {k: (name, data) for (k, data), name in zip(kernel.weights.items(), rest, strict=True)}
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
            base = name.removesuffix(".folded").removesuffix(".permuted")
            self._seen[key] = self._names.unique(base)
            self.table[self._seen[key]] = data
        return self._seen[key]


def _identity(kernel: Kernel) -> tuple[object, ...]:
    """What layers must agree on to share one C function."""
    key = tuple((k, kernel.params[k]) for k in kernel.key)
    return kernel.function, key, kernel.scalars, kernel.operands


def _instances(kernels: Sequence[Kernel], names: Names) -> list[Instance]:
    groups: dict[tuple[object, ...], list[Kernel]] = {}
    for k in kernels:
        groups.setdefault(_identity(k), []).append(k)
    instances: list[Instance] = []
    count: dict[str, int] = {}
    for members in groups.values():
        first = members[0]
        name = first.function.removeprefix("emx_")
        count[name] = count.get(name, -1) + 1
        varying = [f for f in first.params if any(m.params[f] != first.params[f] for m in members)]
        unique = names.unique(f"{name}_{count[name]}")
        instances.append(Instance(unique, first, tuple(varying)))
    return instances


def _instance_of(kernel: Kernel, instances: Sequence[Instance]) -> int:
    wanted = _identity(kernel)
    return next(i for i, inst in enumerate(instances) if _identity(inst.kernel) == wanted)
