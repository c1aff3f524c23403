# SPDX-License-Identifier: Apache-2.0
"""Random convolutional networks in 1-D to 3-D: what people write, in random combinations."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Identity, nn.Hardtanh)
KINDS = (
    "conv", "conv", "conv", "depthwise", "grouped", "transposed", "pool", "resize", "pad", "scale",
    "shuffle",
)  # fmt: skip
MOST = 20_000  # elements of a tensor
MODES = {
    1: ("nearest", "linear"),
    2: ("nearest", "bilinear", "bicubic"),
    3: ("nearest", "trilinear"),
}


def of_rank(name: str, rank: int) -> Any:
    """nn.Conv2d, for example."""
    return getattr(nn, f"{name}{rank}d")


class Layer(nn.Module):
    """A convolution or the like with its normalisation and activation, and maybe a residual."""

    def __init__(self, pick: random.Random, rank: int, channels: int) -> None:
        super().__init__()
        self.kind = pick.choice(KINDS)
        self.rank, self.out = rank, channels
        if self.kind in ("conv", "pad", "depthwise", "grouped", "transposed"):
            self.conv = self.convolution(pick, channels)
            self.out = self.conv.out_channels
        self.norm = of_rank("BatchNorm", rank)(self.out) if pick.random() < 0.6 else nn.Identity()
        self.act = pick.choice(ACTIVATIONS)()
        self.sides = [pick.randint(0, 2) for _ in range(2 * rank)]
        self.pool = self.pooling(pick)
        self.factor = pick.choice((2, 2, 0.5, 1.5))
        self.mode = pick.choice(MODES[rank])
        self.align = pick.choice((None, True)) if self.mode != "nearest" else None
        self.residual = pick.random() < 0.5

    def convolution(self, pick: random.Random, channels: int) -> Any:
        kernel, dilation = pick.choice((1, 2, 3, 5)), pick.choice((1, 1, 2))
        stride = pick.choice((1, 1, 2))
        padding = pick.randint(0, (kernel * dilation) // 2)
        out = pick.choice((channels, pick.randint(1, 13)))
        groups = 1
        if self.kind == "depthwise":
            groups, out = channels, channels * (2 if pick.random() < 0.2 else 1)
        elif self.kind == "grouped" and channels % 2 == 0:
            groups, out = 2, 2 * pick.randint(1, 6)
        bias = pick.random() < 0.5
        if self.kind == "transposed":
            extra = pick.randint(0, max(stride, dilation) - 1)
            return of_rank("ConvTranspose", self.rank)(
                channels, out, kernel, stride, padding, extra, groups, bias, dilation
            )
        return of_rank("Conv", self.rank)(
            channels, out, kernel, stride, padding, dilation, groups, bias
        )

    def pooling(self, pick: random.Random) -> Any:
        windows = (
            of_rank("MaxPool", self.rank)(2, ceil_mode=True),
            of_rank("MaxPool", self.rank)(3, 1, 1),
            of_rank("AvgPool", self.rank)(3, 1, 1),
            of_rank("AvgPool", self.rank)(2, ceil_mode=True, count_include_pad=False),
            of_rank("AdaptiveAvgPool", self.rank)(pick.randint(2, 5)),
            of_rank("AdaptiveMaxPool", self.rank)(pick.randint(2, 5)),
        )
        return pick.choice(windows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.norm(self.body(x)))
        return x + y if self.residual and y.shape == x.shape else y

    def body(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "pool":
            return self.pool(x) if min(x.shape[2:]) > 1 else x
        if self.kind == "scale":
            return x * 0.5 + x.mean(list(range(2, x.ndim)), keepdim=True)
        if self.kind == "resize":
            small = max(x.shape[2:]) < 16
            factor = self.factor if small or self.factor < 1 else 0.5
            if min(x.shape[2:]) < 2 and factor < 1:
                return x
            return F.interpolate(x, scale_factor=factor, mode=self.mode, align_corners=self.align)
        if self.kind == "shuffle":
            if self.rank == 2 and x.shape[1] % 4 == 0:
                return F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2)
            return F.channel_shuffle(x, 2) if x.shape[1] % 2 == 0 else x
        return self.conv(F.pad(x, self.sides) if self.kind == "pad" else x)


class Net(nn.Module):
    """A few layers, then one of the usual heads."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        pick = random.Random(seed)
        torch.manual_seed(seed)
        channels, rank = pick.randint(1, 9), pick.choice((1, 2, 2, 2, 3))
        extents = [pick.randint(*((8, 19) if rank < 3 else (4, 9))) for _ in range(rank)]
        self.shape = (pick.choice((1, 1, 2)), channels, *extents)
        layers: list[Layer] = []
        for _ in range(pick.randint(1, 6)):
            layers.append(Layer(pick, rank, channels))
            channels = layers[-1].out
        self.layers = nn.ModuleList(layers)
        self.head = pick.choice(("image", "flat", "mean", "pool"))
        self.pool = of_rank("AdaptiveAvgPool", rank)(1)
        outputs = pick.randint(1, 11)
        self.fc = nn.Identity() if self.head == "image" else nn.LazyLinear(outputs)
        self.softmax = pick.random() < 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        if self.head == "image":
            return x
        if self.head == "mean":
            x = x.mean(list(range(2, x.ndim)))
        elif self.head == "pool":
            x = self.pool(x)
        x = self.fc(x.flatten(1))
        return x.softmax(1) if self.softmax else x


def largest(net: Net, x: torch.Tensor) -> int:
    """Elements of the largest tensor of a run, 0 if there is none."""
    sizes = []
    hook = nn.modules.module.register_module_forward_hook(lambda m, x, y: sizes.append(y.numel()))
    try:
        net(x)
    except (RuntimeError, ValueError):
        return 0
    finally:
        hook.remove()
    return max(sizes)


def network(seed: int) -> tuple[Net, tuple[torch.Tensor]]:
    """The seeded network with random statistics, and an input. A network whose image vanishes on
    the way, or outgrows a board, is replaced by the next one."""
    while True:
        net = Net(seed)
        x = torch.randn(net.shape)
        if not 0 < largest(net.eval(), x) < MOST:
            seed += 100_000
            continue
        for m in net.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.running_mean.uniform_(-0.5, 0.5)
                m.running_var.uniform_(0.5, 2.0)
                m.weight.data.uniform_(0.5, 1.5)
                m.bias.data.uniform_(-0.5, 0.5)
        return net, (x,)
