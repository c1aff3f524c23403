# SPDX-License-Identifier: Apache-2.0
"""Models that take uint8 images: what they do before they quantise is a table for each channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import emx
from emx.bundle import Arg, Bundle
from emx.ir import Array, DType
from emx.load import load
from emx.ops.pixels_s8 import PixelsS8
from emx.passes.pixels import fold_pixels
from emx.quant import Quant
from emx.sample import I
from sampled import DECOMPOSED, Calls, numbers
from twins import MACHINES, Case, run_cases

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
Q = Quant(0.0187, -14)
Step = tuple[str, object]  # an ATen call and its second argument: a number, or an array
TORCHVISION: tuple[Step, ...] = (
    ("div", 255.0),
    ("sub", MEAN.astype(np.float32).reshape(1, 3, 1, 1)),
    ("div", STD.astype(np.float32).reshape(1, 3, 1, 1)),
)


def image(*steps: Step, shape: tuple[int, ...] = (1, 3, 5, 4), q: Quant = Q) -> Bundle:
    """quantise(steps(float(image))), dequantised."""
    calls = Calls(np.random.default_rng(3))
    x = calls.argument(I(*shape, low=0, high=256, dtype=DType.U8), "image")
    (value,) = calls.add("wide", "aten._to_copy.default", (x,), {"dtype": DType.F32})
    for i, (call, a) in enumerate(steps):
        b: Arg = calls.tensor(f"c{i}", a) if isinstance(a, np.ndarray) else a  # type: ignore[assignment]
        (value,) = calls.add(f"step{i}", f"aten.{call}.Tensor", (value, b))
    (y,) = calls.add("quantize", f"{DECOMPOSED}.quantize_per_tensor.default", (value, *numbers(q)))
    return calls.bundle("image", (calls.dequantised(y, q),))


def tables(bundle: Bundle) -> list[tuple[PixelsS8, Array]]:
    graph = fold_pixels(load(bundle))
    found = [n for n in graph.nodes if isinstance(n.op, PixelsS8)]
    return [(n.op, graph.constants[n.inputs[1].name]) for n in found]  # type: ignore[misc]


def test_torchvision_normalisation_is_three_tables() -> None:
    ((op, table),) = tables(image(*TORCHVISION))
    pixels = np.arange(256) / 255
    want = [np.rint((pixels - m) / s / Q.scale) + Q.zero for m, s in zip(MEAN, STD, strict=True)]
    want = np.clip(want, -128, 127)
    assert op.axis == 1 and table.shape == (3, 256) and table.dtype == np.int8
    assert np.abs(table - want).max() <= 1 and (table != want).mean() < 0.01


def test_numbers_are_one_table() -> None:
    q = Quant(1 / 255, -128)
    ((_, table),) = tables(image(("div", 255.0), q=q))
    np.testing.assert_array_equal(table, [np.arange(256) - 128])


@pytest.mark.parametrize(
    "steps",
    [
        (("mul", np.linspace(0.5, 1, 20, dtype=np.float32).reshape(5, 4)),),
        (
            ("mul", np.linspace(0.5, 1, 3, dtype=np.float32).reshape(3, 1, 1)),
            ("mul", np.linspace(0.5, 1, 4, dtype=np.float32)),
        ),
    ],
    ids=["pixel by pixel", "two axes"],
)
def test_what_is_no_table_stays(steps: tuple[Step, ...]) -> None:
    bundle = image(*steps)
    assert not tables(bundle)
    assert emx.verify(bundle).ok


@pytest.mark.parametrize("io_arena", [False, True])
def test_c_takes_bytes_and_gives_pytorchs_integers(tmp_path: Path, io_arena: bool) -> None:
    options = emx.Options(io_arena=io_arena)
    bundle = image(*TORCHVISION)
    report = emx.verify(bundle, layers=True, options=options)
    assert report.ok, str(report)
    assert report.distances and report.distances.outputs[0].rate == 0
    artifacts = emx.compile(bundle, out_dir=tmp_path, options=options)
    assert artifacts.manifest["operators"] == ["emx_pixels_s8"]
    assert artifacts.manifest["inputs"][0]["dtype"] == "u8"
    header = (tmp_path / "image.h").read_text()
    assert "uint8_t" in header and "IMAGE_IMAGE_SCALE" not in header


U = np.random.default_rng(1)


def case(i: int, axis: int, channels: int, *shape: int) -> Case:
    table = U.integers(-128, 128, (channels, 256), np.int8)
    x = U.integers(0, 256, (2, *shape), np.uint8)
    return Case(f"pixels_{i}", PixelsS8(axis, Q), (x,), (table,))


CASES = [
    case(0, 1, 3, 1, 3, 5, 4),
    case(1, 3, 3, 2, 5, 4, 3),
    case(2, 0, 1, 7),
    case(3, 1, 2, 3, 2, 0),
]


@pytest.mark.parametrize("machine", MACHINES)
def test_kernel_is_the_twin(tmp_path: Path, machine: str) -> None:
    run_cases(CASES, tmp_path, machine)
    x, table = CASES[0].inputs[0], CASES[0].constants[0]
    y = CASES[0].outputs()
    assert y[1, 0, 2, 3, 1] == table[2, x[1, 0, 2, 3, 1]]
    x, table = CASES[1].inputs[0], CASES[1].constants[0]
    assert CASES[1].outputs()[1, 1, 2, 3, 2] == table[2, x[1, 1, 2, 3, 2]]
