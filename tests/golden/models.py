# SPDX-License-Identifier: Apache-2.0
"""The networks behind the golden C. A network is exported anew when its NAME.emx is removed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A small image network: every kind of layer that one expects in one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(6)
        self.expand = nn.Conv2d(6, 10, 1)
        self.project = nn.Conv2d(10, 6, 1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(6 * 2 * 2, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(image)))
        y = F.relu6(self.depthwise_norm(self.depthwise(x)))
        y = F.relu(self.expand(y))
        x = F.relu(x + self.project(y))
        x = F.avg_pool2d(self.pool(x), 2, stride=1)
        return torch.softmax(self.head(x.flatten(1)), dim=1)


class Pointwise(nn.Module):
    """Broadcasting chains, reductions and movements; no weights but a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(1, 4, 1) + 0.5)

    def forward(self, x: Tensor, row: Tensor) -> Tensor:
        x = F.gelu(x * self.scale + row)
        x = x * torch.sigmoid(x.mean(dim=(1, 2), keepdim=True))
        x = F.pad(x, (1, 0), value=0.5).transpose(1, 2)
        return torch.tanh(x[:, 1:, ::2]) - 0.25


class Several(nn.Module):
    """Names that C reserves; an input that is an output, one that is not read, a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(3))

    def forward(self, int: Tensor, unused: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return int, self.table.clone(), F.silu(y + int), (y * y).sum()


class Dense(nn.Module):
    """Layers that share a function; a residual connection over rows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 12)
        self.outer = nn.Linear(12, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, features: Tensor) -> Tensor:
        x = F.leaky_relu(self.inner(features), 0.1)
        return self.last(features + self.outer(x))


class Integers(nn.Module):
    """Quantised when it is exported: camera images, a residual block, scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.project = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.stem(image.float() / 255))
        x = F.relu(x + self.project(F.relu6(self.depthwise(x))))
        x = F.avg_pool2d(x, 6)
        return torch.softmax(self.head(x.flatten(1)), dim=1)


def residual() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(1)
    net = Residual()
    for norm in (net.stem_norm, net.depthwise_norm):  # statistics, as training would leave them
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return net.eval(), (torch.rand(1, 3, 12, 12),)


def pointwise() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(2)
    return Pointwise().eval(), (torch.rand(2, 4, 5), torch.rand(5))


def several() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(3)
    return Several().eval(), (torch.rand(2, 3), torch.rand(4), torch.rand(2, 3))


def dense() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(4)
    return Dense().eval(), (torch.rand(6, 8),)


def integers() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(5)
    return Integers().eval(), (next(iter(images())),)


def images() -> list[Tensor]:
    """Calibration data of `integers`."""
    torch.manual_seed(6)
    return [torch.randint(0, 256, (1, 3, 12, 12), dtype=torch.uint8) for _ in range(16)]
