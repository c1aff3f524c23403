# SPDX-License-Identifier: Apache-2.0
"""What forward() takes and returns, and the C function that a person would have written for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import emx
from emx.api import generate
from emx.bundle import Bundle
from emx.options import Options
from emx.target import find_target
from export_models import X, refusal
from many import SANITIZE, run_together


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


@dataclass
class Detection:
    boxes: Tensor
    scores: Tensor
    masks: Tensor | None = None


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0]))


class Several(Base):
    def forward(self, left: Tensor, right: Tensor) -> Any:
        total = left + right
        return total, left * right


class Nested(Base):
    def forward(self, pair: Any, more: Any) -> Any:
        low, high = pair
        return {"sum": low + more["a"], "rest": [high * 2, {"b": more["b"][0] - low}]}


class Fields(Base):
    def forward(self, pair: Pair) -> Pair:
        return Pair(pair.right * 2, pair.left + 1)


class Detector(Base):
    def forward(self, image: Tensor) -> Any:
        return Detection(image * 2, image.sigmoid()), image.relu()


class TakesDataclass(Base):
    def forward(self, found: Detection) -> Tensor:
        return found.boxes * found.scores


class Optional(Base):
    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 2.0) -> Tensor:
        y = x * scale
        return y if mask is None else y * mask


class Plain(Base):
    """Python's own values are constants of the export."""

    def forward(self, x: Tensor, times: int, sign: bool, bias: float, name: str) -> Any:
        y = x * times + bias
        return -y if sign and name == "negative" else y


class Returned(Base):
    def forward(self, x: Tensor) -> Any:
        return x, self.gain, torch.arange(3.0), 7, None


class Twice(Base):
    def forward(self, x: Tensor) -> Any:
        y = x * 2
        return y, y


class Views(Base):
    def forward(self, x: Tensor) -> Any:
        grid = x * self.gain
        row = grid[0]
        flat = grid.reshape(-1)
        turned = grid.t()
        return grid, row, flat, turned, x.reshape(4, 2)


class Reserved(Base):
    def forward(self, int: Tensor, main: Tensor, arena: Tensor, emx_x: Tensor) -> Any:
        return {"return": int + main, "a b/c": arena - 1, "class": emx_x * 2, "3d": int * arena}


class Cases(Base):
    def forward(self, x: Tensor) -> Any:
        return {"A": x + 1, "a": x - 1, "X": x * 2}


class State(Base):
    def forward(self, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(x + h)
        return x * h, h


class Unnamed(Base):
    def forward(self, x: Tensor) -> Any:
        return [x + 1, x + 2], (x + 3,)


class Unpacked(Base):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(4, 3)

    def forward(self, x: Tensor) -> Any:
        y, (h, c) = self.lstm(x)
        return y, h, c


class Chain(Base):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 2).relu() + (x - 1).relu() + x


class Unused(Base):
    def forward(self, x: Tensor, spare: Tensor) -> Tensor:
        return x.softmax(-1)


class Made(Base):
    def forward(self, **arguments: Tensor) -> Any:
        loss = sum(arguments.values())
        return loss


class Integers(Base):
    """Every type, read, computed with, returned, and returned as it came."""

    def forward(self, ids: Tensor, mask: Tensor, count: Tensor, byte: Tensor) -> Any:
        table = ids * 2 - 1
        return {"ids": table, "keep": ~mask, "mask": mask, "count": count, "byte": byte,
                "picked": ids[1:], "wide": count.to(torch.int64) + ids[0, 0],
                "score": ids.float() * self.gain, "most": (ids * mask).argmax(-1)}  # fmt: skip


IDS = torch.tensor([[5, 900, -3, 2**40], [7, 7, 1, 0]])
INTEGERS = (IDS, IDS > 2, torch.tensor([3, -4], dtype=torch.int32),
            torch.tensor([-128, 127, 5], dtype=torch.int8))  # fmt: skip
Y = X.flip(0) * 0.5
SIGNATURES: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "several": (Several, (X, Y), "left, right -> total, mul"),
    "nested": (Nested, ((X, Y), {"a": X, "b": [Y]}),
               "pair_0, pair_1, more_a, more_b_0 -> sum, rest_0, rest_1_b"),
    "fields": (Fields, (Pair(X, Y),), "pair_left, pair_right -> left, right"),
    "detector": (Detector, (X,), "image -> boxes, scores, relu"),
    "dataclass": (TakesDataclass, (Detection(X, Y),), "found_boxes, found_scores -> mul"),
    "optional": (Optional, (X,), "x -> y"),
    "optional_given": (Optional, {"x": X, "mask": Y, "scale": 0.5}, "x, mask -> output"),
    "plain": (Plain, (X, 3, True, 0.5, "negative"), "x -> neg"),
    "returned": (Returned, (X,), "x -> x_out, gain, arange"),
    "twice": (Twice, (X,), "x -> y, y_1"),
    "views": (Views, (X,), "x -> grid, row, flat, turned, output_4"),
    "reserved": (Reserved, (X, Y, X, Y), "m_int, m_main, m_arena, m_emx_x -> "
                 "m_return, a_b_c, m_class, m_3d"),
    "cases": (Cases, (X,), "x -> A, a_2, X_2"),
    "state": (State, (X, Y), "x, h -> mul, h_out"),
    "unnamed": (Unnamed, (X,), "x -> output_0, output_1, output_2"),
    "unpacked": (Unpacked, (X,), "x -> y, h, c"),
    "chain": (Chain, (X,), "x -> output"),
    "unused": (Unused, (X, Y), "x, spare -> softmax"),
    "integers": (Integers, INTEGERS, "ids, mask, count, byte -> ids_out, keep, mask_out, "
                 "count_out, byte_out, picked, wide, score, most"),
    "made": (Made, {"one": X, "two": Y}, "one, two -> loss"),
}  # fmt: skip


def exported(name: str) -> Bundle:
    make, inputs, _ = SIGNATURES[name]
    return emx.export(make().eval(), inputs, name=name)


def prototype(bundle: Bundle) -> str:
    """ "x, h -> y" from the C header."""
    files = generate(bundle, find_target("generic"), Options()).files
    header = files[f"{bundle.name}.h"].decode()
    match = re.search(rf"^void {bundle.name}_run\((.*?)\);", header, re.MULTILINE | re.DOTALL)
    assert match
    parameters = [p.split("[")[0].split() for p in match[1].split(",")]
    inputs = [p[-1] for p in parameters if p[0] == "const"]
    return f"{', '.join(inputs)} -> {', '.join(p[-1] for p in parameters if p[0] != 'const')}"


def test_types_in_c() -> None:
    bundle = exported("integers")
    header = generate(bundle, find_target("generic"), Options()).files["integers.h"].decode()
    for declared in (
        "const int64_t ids[", "const bool mask[", "const int32_t count[", "const int8_t byte[",
        " int64_t ids_out[", " bool keep[", " int32_t count_out[", " int8_t byte_out[",
        " int64_t wide[", " float score[", " int64_t most[",
    ):  # fmt: skip
        assert declared in header


@pytest.mark.parametrize("name", SIGNATURES)
def test_names(name: str) -> None:
    assert prototype(exported(name)) == SIGNATURES[name][2]


def test_an_archive_gives_the_same_names(tmp_path: Path) -> None:
    """Also where its containers are classes that nobody knows when it is read."""
    for name, (make, inputs, want) in SIGNATURES.items():
        if name in ("fields", "dataclass"):  # PyTorch cannot write them
            continue
        exported(name)
        args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
        program = torch.export.export(make().eval(), args, kwargs)
        path = tmp_path / f"{name}.pt2"
        torch.export.save(program, path)
        assert prototype(emx.export(path)) == want


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["host", "mps2-an386"])
def test_values(machine: str, tmp_path: Path) -> None:
    flags = SANITIZE if machine == "host" else ()
    bundles = [exported(name) for name in SIGNATURES]
    printed = run_together(bundles, tmp_path, machine, flags, Options(test=True))
    outputs = sum(len(b.outputs) for b in bundles)
    assert len(re.findall(r"emx: pass \w+: output .* vectors 4\)", printed)) == outputs


def test_values_in_an_arena(tmp_path: Path) -> None:
    bundles = [exported(name) for name in ("returned", "views", "state", "reserved")]
    run_together(bundles, tmp_path, "host", SANITIZE, Options(test=True, io_arena=True))


def test_python_values_decide_at_export() -> None:
    model = Plain().eval()
    bundle = emx.export(model, (X, 3, False, 0.5, "negative"))
    np.testing.assert_allclose(bundle.vectors.outputs["y"][0], X * 3 + 0.5)


def test_hint_for_a_result_that_is_no_container() -> None:
    class Box:
        def __init__(self, x: Tensor) -> None:
            self.x = x

    class Boxes(Base):
        def forward(self, x: Tensor) -> Any:
            return Box(x)

    error = refusal(Boxes().eval(), (X,))
    assert "which is not a known type" in error.head.what
    assert "tuples, lists, dicts, named tuples or dataclasses" in (error.head.hint or "")
