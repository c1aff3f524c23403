# SPDX-License-Identifier: Apache-2.0
"""What a model computes without its inputs is in the bundle as PyTorch computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import emx
from emx.bundle import Bundle, Ref
from export_models import Calls, X


def export(function: Callable[..., Any]) -> Bundle:
    return emx.export(Calls(function).eval(), (X,))


def mask(s: Calls, x: Tensor) -> Tensor:
    keep = torch.arange(4)[None, :] <= torch.arange(2)[:, None]
    return x + torch.zeros(2, 4).masked_fill(~keep, -3.0)


@pytest.mark.parametrize(
    ("function", "constant"),
    [
        (mask, [[0, -3, -3, -3], [0, 0, -3, -3]]),
        (lambda s, x: x + torch.fft.fft(s.scale).real, [4, 0, 0, 0]),  # complex on the way
        (lambda s, x: x + torch.full_like((x * 2)[0], 3.0), [3, 3, 3, 3]),
        (lambda s, x: x * s.scale.half().float(), [1, 1, 1, 1]),
        (lambda s, x: x + functional.dropout(s.scale, training=False) * 2, [2, 2, 2, 2]),
        (lambda s, x: x + s.scale.split(2)[1].repeat(2) / 2, [0.5, 0.5, 0.5, 0.5]),
        (lambda s, x: x[:, :2] + torch.arange(4.0).split(2)[1], [2, 3]),
        (lambda s, x: x + torch.hann_window(4).cumsum(0), [0, 0.5, 1.5, 2]),
    ],
)
def test_constants_are_computed(function: Callable[..., Any], constant: Any) -> None:
    bundle = export(function)
    x, c = bundle.nodes[-1].args[:2]
    assert x in (Ref("x"), Ref("slice_1")) and isinstance(c, Ref)
    np.testing.assert_array_equal(bundle.tensors[c.name], constant)
    assert list(bundle.tensors) == [c.name]


def test_numbers_are_computed() -> None:
    (node,) = export(lambda s, x: x * (s.scale.sum() + 1).item()).nodes
    assert node.args[:2] == (Ref("x"), 5.0)


def test_copies_of_a_parameter_are_the_parameter() -> None:
    bundle = export(lambda s, x: x + s.scale.detach().clone().contiguous())
    assert list(bundle.tensors) == ["scale"]


def test_memory_that_nobody_writes_is_zero() -> None:
    bundle = export(lambda s, x: x + torch.empty(1000, 4).reshape(2, 4, 500)[..., 0])
    (data,) = bundle.tensors.values()
    np.testing.assert_array_equal(data, np.zeros((2, 4)))


def test_a_constant_can_be_an_output() -> None:
    bundle = export(lambda s, x: (x + 1, torch.arange(3) * 2))
    (_, out) = bundle.outputs
    np.testing.assert_array_equal(bundle.tensors[out[1].name], [0, 2, 4])


def test_weights_made_of_parameters() -> None:
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 3)),
        parametrizations.spectral_norm(nn.Linear(3, 2)),
    ).eval()
    bundle = emx.export(model, (X,))
    assert [n.target for n in bundle.nodes] == ["aten.linear.default"] * 2
    report = emx.verify(bundle, target="host")
    assert report.ok, str(report)
