# SPDX-License-Identifier: Apache-2.0
"""A call of PyTorch gives its numbers in C, or a page that says why not; never anything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import emx
from emx import api
from emx.bundle import Bundle
from emx.errors import EmxError
from emx.options import Options
from emx.target import find_target
from many import SANITIZE, run_together
from torch_calls import CALLS, INPUTS

OPTIONS = Options(test=True, rtol=1e-3)
NAMES = {"torch": torch, "nn": nn, "F": functional}


class Call(nn.Module):
    """The expression as the forward() of a model; "nn.LSTM(4, 3)(x)" is a layer of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        if text.startswith("nn."):
            layer, _, arguments = text.partition(")(")
            self.layer = eval(layer + ")", NAMES)
            text = f"layer({arguments}"
        self.code = compile(text, "call.py", "eval")
        self.names = [name for name in INPUTS if name in self.code.co_names]

    def forward(self, *inputs: Tensor) -> Any:
        named = dict(zip(self.names, inputs, strict=True))
        return eval(self.code, {**NAMES, **named, "layer": getattr(self, "layer", None)})


def exported(number: int) -> Bundle:
    model = Call(CALLS[number]).eval()
    return emx.export(model, tuple(INPUTS[n] for n in model.names), name=f"call_{number}")


def check(numbers: Sequence[int], directory: Path) -> None:
    """Every call is refused with a page, or the C agrees with PyTorch under the sanitizers."""
    bundles = []
    for i in numbers:
        try:
            bundle = exported(i)
            api.generate(bundle, find_target("generic"), OPTIONS)
            bundles.append(bundle)
        except EmxError as error:
            for problem in error.problems or (error.head,):
                assert problem.what and problem.at and ".py:" in problem.at, CALLS[i]
        except Exception as error:
            raise AssertionError(f"{CALLS[i]}: {error!r}") from error
    assert bundles
    run_together(bundles, directory, "host", SANITIZE, OPTIONS)


@pytest.mark.slow
def test_some_calls(tmp_path: Path) -> None:
    check(range(0, len(CALLS), 20), tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(8))
def test_all_calls(part: int, tmp_path: Path) -> None:
    check(range(part, len(CALLS), 8), tmp_path)
