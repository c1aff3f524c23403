# SPDX-License-Identifier: Apache-2.0
"""Small networks that are quantised in tests, with samples that are the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import emx
from emx.bundle import Bundle
from emx.ir import Array

SAMPLES = 24


class Layers(nn.Module):
    """A module whose forward is a function of it and x [1, 4, 8, 8]; it has layers to use."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv = nn.Conv2d(4, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 4, 3, padding=1)
        self.wide = nn.Conv2d(12, 4, 1)
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2)
        self.grouped = nn.ConvTranspose2d(4, 6, 3, groups=2)
        self.fc = nn.Linear(8, 8)
        self.shift = nn.Parameter(torch.randn(6, 1, 1))
        self.token = nn.Parameter(torch.full((1, 4, 1, 1), 9.0))
        self.matrix = nn.Parameter(torch.randn(8, 5))
        self.bn, self.other_bn = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.bn4, self.bn8 = nn.BatchNorm2d(4), nn.BatchNorm1d(8)
        with torch.no_grad():
            for bn in (self.bn, self.other_bn, self.bn4, self.bn8):
                bn.running_mean.normal_()
                bn.running_var.uniform_(0.5, 2.0)
                bn.weight.uniform_(0.5, 1.5)
                bn.bias.normal_()

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def samples(x: torch.Tensor, count: int = SAMPLES) -> Array:
    """float32 [count, ...] of the shape of x."""
    words = np.random.Generator(np.random.Philox(7)).standard_normal((count, *x.shape))
    return words.astype(np.float32)


def quantised(net: nn.Module, x: torch.Tensor, **options: Any) -> Bundle:
    """The bundle of a net, int8, calibrated with samples like x."""
    settings = {"quantize": "int8", "calibration": samples(x), **options}
    return emx.export(net.eval(), (x,), **settings)


def noise(net: nn.Module, bundle: Bundle) -> float:
    """Decibels between a float net and the first output of its bundle, over the test vectors."""
    ((name, _), *_), ((output, _), *_) = bundle.inputs, bundle.outputs
    with torch.no_grad():
        floats = [net(torch.from_numpy(np.array(x))).numpy() for x in bundle.vectors.inputs[name]]
    error = np.stack(floats) - bundle.vectors.outputs[output]
    return float(10 * np.log10((np.stack(floats) ** 2).sum() / (error**2).sum()))


def scales(bundle: Bundle) -> list[float]:
    """The scales of all quantised values."""
    calls = (n for n in bundle.nodes if ".quantize_per_tensor." in n.target)
    return [float(n.args[1]) for n in calls]  # type: ignore[arg-type]
