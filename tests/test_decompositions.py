# SPDX-License-Identifier: Apache-2.0
"""The exporter's own decompositions give the bits that the operators give."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from emx.exporter import decompositions

aten = torch.ops.aten
X = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5).sin()
Y = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5).cos()

CALLS = [
    (aten.slice_scatter.default, (X, Y[:, :2], 1, 0, 2)),
    (aten.slice_scatter.default, (X, Y[:, 1:3], 1, -3, -1)),
    (aten.slice_scatter.default, (X, Y[..., ::2], -1, None, None, 2)),
    (aten.slice_scatter.default, (X, Y[..., 1:4:2], 2, 1, 4, 2)),
    (aten.slice_scatter.default, (X, Y, 0, 0, 2**63 - 1)),
    (aten.slice_scatter.default, (X, Y[:0], 0, 2, 1)),
    (aten.slice_scatter.default, (X[:, :0], Y[:, :0], 1)),
    (aten.select_scatter.default, (X, Y[0], 0, -1)),
    (aten.select_scatter.default, (X, Y[..., 2], -1, 0)),
    (aten.copy.default, (X, Y[0])),
    (aten.copy.default, (X, torch.tensor(3))),
    *((aten.unfold.default, (X, *a)) for a in ((0, 3, 1), (1, 2, 2), (-1, 2, 3), (2, 1, 5))),
    (aten.unfold.default, (torch.tensor(2.0), 0, 1, 1)),
    (aten.dist.default, (X, Y[0], 3.0)),
    (aten._cdist_forward.default, (X, Y[:, :2], 2.0, None)),
    (aten._cdist_forward.default, (X, Y, 1.0, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "arguments"), CALLS)
def test_same_values(op: Any, arguments: Any) -> None:
    want = op(*arguments)
    got = decompositions.table()[op](*arguments)
    assert got.dtype == want.dtype and got.shape == want.shape
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
