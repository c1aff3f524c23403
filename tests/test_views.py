# SPDX-License-Identifier: Apache-2.0
"""Movements around matrix products: absorbed into strides where NumPy would not copy either."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import emx
from emx import passes
from emx.bundle import Bundle
from emx.interpret import outputs
from emx.load import load
from emx.view import View
from many import SANITIZE, run_together

A, B = (2, 6, 24), (2, 8, 24)


class Product(torch.nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.function(a, b)


def heads(x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], 3, 8).transpose(1, 2)


# name -> the function and how many movements are left
PRODUCTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {
    "transposed": (lambda a, b: a @ b.transpose(1, 2), 0),
    "heads": (lambda a, b: heads(a) @ heads(b).transpose(2, 3), 0),
    "written": (lambda a, b: (heads(a) @ heads(b).mT).permute(2, 0, 3, 1), 0),
    "joined": (lambda a, b: (heads(a) @ heads(a).mT @ heads(a)).transpose(1, 2).flatten(2), 0),
    "sliced": (lambda a, b: a[:, 1:5, 2::3] @ b[:, :, 8:16].mT[:, :, ::2], 0),
    "expanded": (lambda a, b: a[:1].expand(4, -1, -1) @ b[0].mT.expand(4, -1, -1), 0),
    "einsum": (lambda a, b: torch.einsum("bik,bjk->ji", a, b), 2),
    "diagonal": (lambda a, b: torch.einsum("bik,bjk->bij", a, b), 0),
    "copied": (lambda a, b: a.mT.reshape(2, 12, 12) @ b.view(2, 12, 16), 1),
}  # fmt: skip


def bundle_of(name: str) -> Bundle:
    torch.manual_seed(1)
    function, _ = PRODUCTS[name]
    arguments = (torch.rand(A), torch.rand(B))
    return emx.export(Product(function).eval(), arguments, name=name, vectors=2)


@pytest.mark.parametrize("name", PRODUCTS)
def test_movements_become_strides(name: str) -> None:
    bundle = bundle_of(name)
    inputs = [x[0] for x in bundle.vectors.inputs.values()]
    graph = passes.run(load(bundle), check=inputs)
    (want,) = (y[0] for y in bundle.vectors.outputs.values())
    np.testing.assert_allclose(outputs(graph, inputs)[0], want, rtol=1e-5, atol=1e-5)
    moves = [n.op.name for n in graph.nodes if n.op.name not in ("matmul", "reshape")]
    assert len(moves) == PRODUCTS[name][1], str(graph)


@pytest.mark.slow
def test_they_compute_the_same(tmp_path: Path) -> None:
    options = emx.Options(test=True, taps=True)
    run_together([bundle_of(n) for n in PRODUCTS], tmp_path, "host", SANITIZE, options)


def test_a_view_is_what_numpy_does_not_copy() -> None:
    x = np.arange(2 * 3 * 4)
    transposed = View.of((2, 3, 4), lambda a: a.transpose(0, 2, 1), lambda a: a[:, 1:, ::2])
    assert transposed == View((2, 3, 2), (12, 1, 8), 1)
    want = x.reshape(2, 3, 4).transpose(0, 2, 1)[:, 1:, ::2]
    np.testing.assert_array_equal(transposed.read(x), want)
    assert View.of((2, 3, 4), lambda a: a.transpose(1, 0, 2), lambda a: a.reshape(6, 4)) is None
    assert View.of((2, 3), lambda a: a + a) is None
