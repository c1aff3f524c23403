# SPDX-License-Identifier: Apache-2.0
"""Attention as models write it: masks, grouped heads, and nothing copied around it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

import emx
from emx import passes
from emx.bundle import Bundle
from emx.interpret import outputs
from emx.load import load
from emx.ops.attention import Attention
from many import SANITIZE, run_together

TRIANGLE = torch.ones(6, 6).tril()
SPARSE = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) > 0.6
SPARSE[2] = False  # a row that sees nothing is 0
Call = Callable[[Tensor, Tensor, Tensor], Tensor]


class Heads(nn.Module):
    """One projection makes q, k and v; `call` attends; the heads are joined again."""

    def __init__(self, call: Call, kv_heads: int = 4) -> None:
        super().__init__()
        self.call, self.kv = call, kv_heads
        self.project = nn.Linear(16, 16 + 8 * kv_heads)

    def forward(self, x: Tensor) -> Tensor:
        all_heads = self.project(x).unflatten(-1, (-1, 4)).transpose(1, 2)
        q, k, v = all_heads[:, :4], all_heads[:, 4 : 4 + self.kv], all_heads[:, 4 + self.kv :]
        return self.call(q, k, v).transpose(1, 2).flatten(2)


def sdpa(**options: Any) -> Call:
    return lambda q, k, v: scaled_dot_product_attention(q, k, v, **options)


# name -> (model, whether its attention is causal and has a mask)
MODELS: dict[str, tuple[nn.Module, bool, bool]] = {
    "plain": (Heads(sdpa()), False, False),
    "scaled": (Heads(sdpa(scale=0.1)), False, False),
    "causal": (Heads(sdpa(is_causal=True)), True, False),
    "triangle": (Heads(sdpa(attn_mask=TRIANGLE.bool())), True, False),
    "infinite": (Heads(sdpa(attn_mask=torch.where(TRIANGLE > 0, 0.0, -inf))), True, False),
    "all_seen": (Heads(sdpa(attn_mask=torch.ones(1, 1, 6, 6).bool())), False, False),
    "sparse": (Heads(sdpa(attn_mask=SPARSE)), False, True),
    "added": (Heads(sdpa(attn_mask=SPARSE[None, None] * 3.0 - TRIANGLE)), False, True),
    "grouped": (Heads(sdpa(is_causal=True, enable_gqa=True), 2), True, False),
    "grouped_mask": (
        Heads(sdpa(attn_mask=SPARSE.expand(1, 4, 6, 6), enable_gqa=True), 1), False, True,
    ),
    "encoder": (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), False, False),
}  # fmt: skip


def bundle_of(name: str) -> Bundle:
    torch.manual_seed(2)
    x = torch.rand(2, 6, 16) * 4 - 2
    return emx.export(MODELS[name][0].eval(), (x,), name=name, vectors=2)


@pytest.mark.parametrize("name", MODELS)
def test_attention_is_one_node(name: str) -> None:
    _, causal, masked = MODELS[name]
    bundle = bundle_of(name)
    inputs = [x[0] for x in bundle.vectors.inputs.values()]
    graph = passes.run(load(bundle), check=inputs)
    (want,) = (y[0] for y in bundle.vectors.outputs.values())
    np.testing.assert_allclose(outputs(graph, inputs)[0], want, rtol=1e-4, atol=1e-5)
    (node,) = (n for n in graph.nodes if isinstance(n.op, Attention))
    assert isinstance(node.op, Attention) and node.op.causal == causal
    assert len(node.inputs) == (4 if masked else 3)
    if isinstance(MODELS[name][0], Heads):
        assert {n.op.name for n in graph.nodes} <= {"linear", "attention", "reshape"}, str(graph)


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["host", "mps2-an386"])
def test_the_c_attends_like_pytorch(tmp_path: Path, machine: str) -> None:
    flags = SANITIZE if machine == "host" else ("-O2",)
    options = emx.Options(test=True, taps=True)
    run_together([bundle_of(n) for n in MODELS], tmp_path, machine, flags, options)


def test_no_matrix_of_scores(tmp_path: Path) -> None:
    """Eight rows of scores are kept, however long the sequence."""
    q = k = v = torch.rand(1, 2, 256, 8)

    class Long(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return scaled_dot_product_attention(q, k, v)

    bundle = emx.export(Long(), (q, k, v), name="attend")
    artifacts = emx.compile(bundle, target="host", out_dir=tmp_path)
    assert artifacts.manifest["arena_bytes"] == 4 * (8 * 256 + 4 * 256)
