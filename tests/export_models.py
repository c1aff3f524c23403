# SPDX-License-Identifier: Apache-2.0
"""Small models that the tests of the export share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import emx
from emx.errors import EmxError


class Net(nn.Module):
    """Convolution, batch norm, activation, pooling, a residual and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)
        self.drop = nn.Dropout()
        with torch.no_grad():
            self.bn.running_mean.normal_()
            self.bn.running_var.uniform_(0.5, 2.0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.relu_(self.bn(self.conv(image)))
        x = functional.max_pool2d(x, 2) + 1.0
        x = self.drop(x).mean((2, 3)).contiguous()
        return torch.softmax(self.fc(x), dim=-1)


IMAGE = (torch.arange(2 * 2 * 6 * 6, dtype=torch.float32).reshape(2, 2, 6, 6).sin(),)


class Calls(nn.Module):
    """A module whose forward is a function; it has a layer, a buffer and a parameter to use."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.fc = nn.Linear(4, 4)
        self.bn = nn.BatchNorm1d(4)
        self.register_buffer("count", torch.zeros(4))
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


X = torch.tensor([[0.5, -1.0, 2.0, 0.25], [1.5, 3.0, -2.0, 0.75]])


def refusal(model: Any, *args: Any, **options: Any) -> EmxError:
    with pytest.raises(EmxError) as caught:
        emx.export(model, *args, **options)
    return caught.value
