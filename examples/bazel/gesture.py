# SPDX-License-Identifier: Apache-2.0
"""A network of which emx is told by `factory = "make"`."""

import torch
from torch import Tensor, nn


class Gesture(nn.Module):
    """Three seconds of a motion sensor -> a score for each of four gestures."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(60, 32)
        self.score = nn.Linear(32, 4)

    def forward(self, motion: Tensor) -> Tensor:
        return torch.softmax(self.score(torch.relu(self.hidden(motion))), dim=1)


def make() -> tuple[nn.Module, tuple[Tensor]]:
    """The module and an example of its inputs. Yours would load trained weights."""
    torch.manual_seed(0)
    return Gesture().eval(), (torch.zeros(1, 60),)
