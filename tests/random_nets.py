# SPDX-License-Identifier: Apache-2.0
"""Random convolutional networks: what people write, in combinations nobody thought of."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Identity, nn.Hardtanh)


class Layer(nn.Module):
    """A convolution or pool with its normalisation and activation, and maybe a residual."""

    def __init__(self, pick: random.Random, channels: int) -> None:
        super().__init__()
        self.kind = pick.choice(("conv", "conv", "depthwise", "grouped", "pool", "pad", "scale"))
        kernel, dilation = pick.choice((1, 2, 3, 5)), pick.choice((1, 1, 2))
        stride = pick.choice((1, 1, 2))
        self.out = channels
        padding = pick.randint(0, (kernel * dilation) // 2)
        if self.kind in ("conv", "pad"):
            self.out = pick.choice((channels, pick.randint(1, 13)))
        groups = {"depthwise": channels, "grouped": 2 if channels % 2 == 0 else 1}
        self.conv = nn.Conv2d(
            channels,
            self.out * (2 if self.kind == "depthwise" and pick.random() < 0.2 else 1),
            kernel,
            stride,
            padding,
            dilation,
            groups.get(self.kind, 1),
            bias=pick.random() < 0.5,
        )
        self.out = self.conv.out_channels if self.kind not in ("pool", "scale") else channels
        self.norm = nn.BatchNorm2d(self.out) if pick.random() < 0.6 else nn.Identity()
        self.act = pick.choice(ACTIVATIONS)()
        self.sides = [pick.randint(0, 2) for _ in range(4)]
        self.pool = pick.choice((nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(3, 1, 1)))
        self.residual = pick.random() < 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "pool":
            y = self.pool(x) if min(x.shape[2:]) > 1 else x
        elif self.kind == "scale":
            y = x * 0.5 + x.mean((2, 3), keepdim=True)
        else:
            y = self.conv(F.pad(x, self.sides) if self.kind == "pad" else x)
        y = self.norm(y)
        if self.residual and y.shape == x.shape:
            y = x + y
        return self.act(y)


class Net(nn.Module):
    """A few layers, then one of the usual heads."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        pick = random.Random(seed)
        torch.manual_seed(seed)
        channels = pick.randint(1, 9)
        self.shape = (pick.choice((1, 1, 2)), channels, pick.randint(8, 19), pick.randint(8, 19))
        layers: list[Layer] = []
        for _ in range(pick.randint(1, 6)):
            layers.append(Layer(pick, channels))
            channels = layers[-1].out
        self.layers = nn.ModuleList(layers)
        self.head = pick.choice(("image", "flat", "mean", "pool"))
        outputs = pick.randint(1, 11)
        self.fc = nn.Identity() if self.head == "image" else nn.LazyLinear(outputs)
        self.softmax = pick.random() < 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        if self.head == "image":
            return x
        if self.head == "mean":
            x = x.mean((2, 3))
        elif self.head == "pool":
            x = F.adaptive_avg_pool2d(x, 1)
        x = self.fc(x.flatten(1))
        return x.softmax(1) if self.softmax else x


def network(seed: int) -> tuple[Net, tuple[torch.Tensor]]:
    """The seeded network with random statistics, and an input. A network whose image vanishes on
    the way is replaced by the next one."""
    while True:
        net = Net(seed)
        x = torch.randn(net.shape)
        try:
            net.eval()(x)
        except RuntimeError:
            seed += 100_000
            continue
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.uniform_(-0.5, 0.5)
                m.running_var.uniform_(0.5, 2.0)
                m.weight.data.uniform_(0.5, 1.5)
                m.bias.data.uniform_(-0.5, 0.5)
        return net, (x,)
