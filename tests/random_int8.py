# SPDX-License-Identifier: Apache-2.0
"""Random networks that become integer throughout, with data to calibrate them."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = (
    nn.ReLU, nn.ReLU, nn.ReLU6, nn.Identity, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Hardswish,
    nn.LeakyReLU,
)  # fmt: skip
KINDS = (
    "conv", "conv", "conv", "depthwise", "depthwise", "grouped", "transposed", "max", "mean", "pad",
    "concat", "gate", "resize",
)  # fmt: skip
MOST = 8_000  # elements of a tensor
SAMPLES = 16


class Block(nn.Module):
    """A layer with its normalisation and activation, and maybe a residual."""

    def __init__(self, pick: random.Random, channels: int) -> None:
        super().__init__()
        self.kind = pick.choice(KINDS)
        self.conv: nn.Module = nn.Identity()
        self.out = channels
        if self.kind in ("conv", "depthwise", "grouped", "transposed", "pad", "concat", "gate"):
            self.conv, self.out = _convolution(pick, self.kind, channels)
        self.norm = nn.BatchNorm2d(self.out) if pick.random() < 0.6 else nn.Identity()
        self.act = pick.choice(ACTIVATIONS)()
        self.sides = [pick.randint(0, 2) for _ in range(4)]
        self.pool = pick.choice((nn.MaxPool2d(2), nn.MaxPool2d(3, 1, 1)))
        self.mean = pick.choice((nn.AvgPool2d(2), nn.AvgPool2d(3, 2)))
        self.residual = pick.random() < 0.5
        self.out += channels if self.kind == "concat" else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return x + y if self.residual and y.shape == x.shape else y

    def body(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind in ("max", "mean"):
            pool = self.pool if self.kind == "max" else self.mean
            return pool(x) if min(x.shape[2:]) > 2 else x
        if self.kind == "resize":
            return F.interpolate(x, scale_factor=2) if max(x.shape[2:]) < 9 else x
        y = self.act(self.norm(self.conv(F.pad(x, self.sides) if self.kind == "pad" else x)))
        if self.kind == "concat":
            return torch.cat([x, y], 1)
        return x * y if self.kind == "gate" else y


def _convolution(pick: random.Random, kind: str, channels: int) -> tuple[nn.Module, int]:
    """The convolution and its output channels; one whose output is joined keeps the image."""
    keeps = kind in ("concat", "gate")
    kernel = pick.choice((1, 3)) if keeps else pick.choice((1, 1, 2, 3, 3, 5))
    dilation = 1 if keeps else pick.choice((1, 1, 2))
    stride = 1 if keeps else pick.choice((1, 1, 2))
    padding = kernel // 2 if keeps else pick.randint(0, (kernel * dilation) // 2)
    out = channels if kind == "gate" else pick.choice((channels, pick.randint(1, 21)))
    groups, bias = 1, pick.random() < 0.5
    if kind == "depthwise":
        groups = out = channels
    elif kind == "grouped" and channels % 2 == 0:
        groups, out = 2, 2 * pick.randint(1, 6)
    if kind == "transposed":
        extra = pick.randint(0, max(stride, dilation) - 1)
        return nn.ConvTranspose2d(
            channels, out, kernel, stride, padding, extra, 1, bias, dilation
        ), out
    return nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias), out


class Net(nn.Module):
    """A few blocks, then one of the usual heads."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        pick = random.Random(seed)
        torch.manual_seed(seed)
        channels = pick.choice((1, 3, 4, 8, pick.randint(1, 19)))
        self.shape = (1, channels, pick.randint(7, 16), pick.randint(7, 16))
        blocks: list[Block] = []
        for _ in range(pick.randint(1, 5)):
            blocks.append(Block(pick, channels))
            channels = blocks[-1].out
        self.blocks = nn.ModuleList(blocks)
        self.head = pick.choice(("image", "flat", "mean", "pool"))
        self.fc = nn.Identity() if self.head == "image" else nn.LazyLinear(pick.randint(1, 11))
        self.softmax = pick.random() < 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        if self.head == "image":
            return x
        if self.head == "mean":
            x = x.mean((2, 3))
        elif self.head == "pool":
            x = F.adaptive_avg_pool2d(x, 1)
        x = self.fc(x.flatten(1))
        return x.softmax(1) if self.softmax else x


def network(seed: int) -> tuple[Net, torch.Tensor]:
    """The seeded network with random statistics, and SAMPLES inputs, first axis: sample. One whose
    image vanishes on the way, or outgrows a board, is replaced by the next."""
    while True:
        net = Net(seed)
        if not _fits(net):
            seed += 100_000
            continue
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.uniform_(-0.5, 0.5)
                m.running_var.uniform_(0.5, 2.0)
                m.weight.data.uniform_(0.5, 1.5)
                m.bias.data.uniform_(-0.5, 0.5)
        return net.eval(), torch.randn(SAMPLES, *net.shape[1:]) * 2


def _fits(net: Net) -> bool:
    sizes: list[int] = []
    hook = nn.modules.module.register_module_forward_hook(lambda m, x, y: sizes.append(y.numel()))
    try:
        net.eval()(torch.randn(net.shape))
    except (RuntimeError, ValueError):
        return False
    finally:
        hook.remove()
    return 0 < max(sizes) < MOST
