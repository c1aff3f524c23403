# SPDX-License-Identifier: Apache-2.0
"""A graph under change: what the passes read and edit, rebuilt into an immutable Graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from emx.ir import Array, DType, Eager, Graph, Node, Op, TensorType, Value
from emx.quant import Grid

# What a rule says of a node: nothing to do; the nodes to stand in its place, the last of which
# makes its output; or the older value that its output is.
Edit = list[Node] | Value | None
Rule = Callable[["Rewriter", Node], Edit]


class Rewriter:
    """The nodes of a graph in order, with tables that stay right while rules edit them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = list(graph.nodes)
        self.constants: dict[str, Array] = dict(graph.constants)
        self.grids = dict(graph.grids)
        self.quants = dict(graph.quants)
        self.outputs = list(graph.outputs)
        self._names = {v.name for v in graph.inputs} | set(self.constants)
        self._names |= {v.name for n in self.nodes for v in n.outputs}
        self._alias: dict[str, Value] = {}
        self._index()

    def apply(self, rule: Rule) -> Graph:
        """Offer every node to `rule`, in order and again, until it edits nothing any more."""
        while self._sweep(rule):
            self._drop_unused()
        self._drop_unused()
        return self._build()

    def only_use(self, v: Value) -> bool:
        return self._uses.get(v.name) == 1

    def all_read(self, v: Value, kind: type[Op]) -> bool:
        """Whether every use of v is one by an operator of this kind; False in doubt, until the next
        sweep."""
        readers = self.readers(v)
        return readers is not None and all(isinstance(op, kind) for op in readers)

    def readers(self, v: Value) -> list[Op] | None:
        """The operators that read v; None if others may do it, until the next sweep."""
        found = self._readers.get(v.name, [])
        return found if len(found) == self._uses.get(v.name) else None

    def made_by(self, v: Value) -> Node | None:
        return self._producer.get(v.name)

    def position(self, node: Node) -> int:
        """Where the sweep finds `node`, or the one whose place it took; what is new comes last."""
        return self._position.get(node.output.name, len(self.nodes))

    def data(self, v: Value) -> Array | None:
        return self.constants.get(v.name)

    def constant(self, like: str, data: Array) -> Value:
        """A new constant, named after the one it comes from."""
        name = self._fresh(like)
        self.constants[name] = data
        return Value(name, TensorType(tuple(data.shape), DType.of(data.dtype)))

    def moved(self, v: Value, like: str, move: Callable[[Array], Array]) -> Value:
        """The constant v with its elements moved, and with them what it is as integers."""
        w = self.constant(like, np.ascontiguousarray(move(self.constants[v.name])))
        if grid := self.grids.get(v.name):
            scale = grid.scale.reshape(-1)
            if scale.size > 1:
                scale = move(np.broadcast_to(grid.scale, grid.units.shape))
            self.grids[w.name] = Grid(move(grid.units), scale)
        return w

    def inner(self, op: Op, inputs: tuple[Value, ...], node: Node, eager: Eager | None) -> Node:
        """A new node in `node`'s place in the model, with a new output."""
        t = op.infer(*(v.type for v in inputs))
        name = self._fresh(eager.name if eager else node.output.name)
        return Node(op, inputs, (Value(name, t, eager),), node.origin)

    def _sweep(self, rule: Rule) -> bool:
        changed = False
        done: list[Node] = []
        for node in self.nodes:
            node = self._resolved(node)
            edit = rule(self, node)
            changed |= edit is not None
            if isinstance(edit, Value):
                edit = self._alias.get(edit.name, edit)
                self._alias[node.output.name] = edit
                self._uses[edit.name] = self._uses.get(edit.name, 0) + self._uses.get(
                    node.output.name, 0
                )
                continue
            done += [node] if edit is None else edit
            for n in edit or ():
                self._producer[n.output.name] = n
                for v in n.inputs:
                    self._uses[v.name] = self._uses.get(v.name, 0) + 1
        self.nodes = done
        for i, v in enumerate(self.outputs):
            self.outputs[i] = same = self._alias.get(v.name, v)
            if v.name in self.quants:
                self.quants[same.name] = self.quants[v.name]
        return changed

    def _resolved(self, node: Node) -> Node:
        if not any(v.name in self._alias for v in node.inputs):
            return node
        node = replace(node, inputs=tuple(self._alias.get(v.name, v) for v in node.inputs))
        self._producer[node.output.name] = node
        return node

    def _drop_unused(self) -> None:
        self._index()
        kept: list[Node] = []
        for n in reversed(self.nodes):
            if self._uses.get(n.output.name):
                kept.append(n)
                continue
            for v in n.inputs:
                self._uses[v.name] -= 1
        self.nodes = kept[::-1]
        self._index()

    def _index(self) -> None:
        self._producer = {n.output.name: n for n in self.nodes}
        self._position = {n.output.name: i for i, n in enumerate(self.nodes)}
        self._readers: dict[str, list[Op]] = {}
        for n in self.nodes:
            for v in n.inputs:
                self._readers.setdefault(v.name, []).append(n.op)
        self._uses: dict[str, int] = {}
        for v in [v for n in self.nodes for v in n.inputs] + self.outputs:
            self._uses[v.name] = self._uses.get(v.name, 0) + 1

    def _fresh(self, like: str) -> str:
        name, k = like, 0
        while name in self._names:
            k += 1
            name = f"{like}.{k}"
        self._names.add(name)
        return name

    def _build(self) -> Graph:
        read = {v.name for n in self.nodes for v in n.inputs} | {v.name for v in self.outputs}
        return replace(
            self.graph,
            nodes=tuple(self.nodes),
            constants={k: c for k, c in self.constants.items() if k in read},
            grids=self.grids,
            quants=self.quants,
            outputs=tuple(self.outputs),
        )


def from_eager(eager: Eager | None, perm: tuple[int, ...]) -> Eager | None:
    """The view of a value that is `perm`-transposed from one with the view `eager`."""
    if eager is None or len(eager.perm) != len(perm):
        return None
    return Eager(eager.name, tuple(eager.perm[p] for p in perm))


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(perm.index(i) for i in range(len(perm)))


def replaced(node: Node, op: Op, inputs: tuple[Value, ...]) -> Node:
    """`node` with another operator that makes the same output."""
    return Node(op, inputs, node.outputs, node.origin)
