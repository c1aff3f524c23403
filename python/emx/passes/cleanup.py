# SPDX-License-Identifier: Apache-2.0
"""Constant folding and dead code."""

from __future__ import annotations

import numpy as np

from emx.ir import Graph, Node
from emx.passes.rewrite import Edit, Rewriter


def fold_constants(graph: Graph) -> Graph:
    """Nodes that depend on constants alone are computed now, in float64."""
    return Rewriter(graph).apply(_fold)


def drop_dead_code(graph: Graph) -> Graph:
    """Nodes and constants that no output needs go."""
    return Rewriter(graph).apply(lambda r, node: None)


def _fold(r: Rewriter, node: Node) -> Edit:
    arrays = [r.data(v) for v in node.inputs]
    known = [a for a in arrays if a is not None]
    if len(known) < len(arrays):
        return None
    wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in known]
    data = node.op.reference(*wide).astype(node.output.type.dtype.numpy)
    return r.constant(node.output.name, np.asarray(data, order="C"))
