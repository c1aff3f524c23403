# SPDX-License-Identifier: Apache-2.0
"""Models that take uint8 images: what they do before they quantise is a table for each channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import emx
from emx.api import generate
from emx.build import find_machine
from emx.bundle import Bundle, Ref
from emx.ir import Array, DType
from emx.load import load
from emx.ops.pixels_s8 import PixelsS8
from emx.passes.pixels import fold_pixels
from emx.quant import Quant
from emx.sample import I
from emx.target import find_target
from sampled import DECOMPOSED, Calls, numbers
from twins import MACHINES, Case, run_cases

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
Q, PIXELS = Quant(0.0187, -14), Quant(1 / 255, -128)
Step = tuple[str, object]  # an ATen call and its second argument: a number, or an array
TORCHVISION: tuple[Step, ...] = (
    ("div", 255.0),
    ("sub", MEAN.astype(np.float32).reshape(1, 3, 1, 1)),
    ("div", STD.astype(np.float32).reshape(1, 3, 1, 1)),
)


def image(*steps: Step, shape: tuple[int, ...] = (1, 3, 5, 4), q: Quant = Q) -> Bundle:
    """quantise(steps(float(image))), dequantised."""
    calls = Calls(np.random.default_rng(3))
    return calls.bundle("image", (pixels(calls, *steps, shape=shape, q=q),))


def pixels(calls: Calls, *steps: Step, shape: tuple[int, ...], q: Quant) -> Ref:
    x = calls.argument(I(*shape, low=0, high=256, dtype=DType.U8), "image")
    (value,) = calls.add("wide", "aten._to_copy.default", (x,), {"dtype": DType.F32})
    for i, (call, a) in enumerate(steps):
        b: object = calls.tensor(f"c{i}", a) if isinstance(a, np.ndarray) else a
        (value,) = calls.add(f"step{i}", f"aten.{call}.Tensor", (value, b))
    (y,) = calls.add("quantize", f"{DECOMPOSED}.quantize_per_tensor.default", (value, *numbers(q)))
    return calls.dequantised(y, q)


def tables(bundle: Bundle) -> list[tuple[PixelsS8, Array]]:
    graph = fold_pixels(load(bundle))
    found = [n for n in graph.nodes if isinstance(n.op, PixelsS8)]
    return [(n.op, graph.constants[n.inputs[1].name]) for n in found]  # type: ignore[misc]


def test_what_takes_a_table_cannot_arrive_row_by_row() -> None:
    with pytest.raises(emx.EmxError, match="not with a normalisation of bytes by a table"):
        generate(image(*TORCHVISION), find_target("generic"), emx.Options(input_rows=True))


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


def network(channels: int, stride: int, pad: int, groups: int = 1, q: Quant = PIXELS) -> Bundle:
    """A convolution of pixels that were divided by 255, and relu, quantised."""
    calls = Calls(np.random.default_rng(5))
    x = pixels(calls, ("div", 255.0), shape=(1, channels, 9, 7), q=q)
    shape = (groups * 6 // groups, channels // groups, 3, 3)
    data = calls.random.uniform(-1, 1, shape).astype(np.float32)
    w = calls.by_channels("w", data, 0, Quant(1.0, lo=-127))
    b = calls.tensor("b", calls.random.uniform(-1, 1, 6).astype(np.float32))
    conv = (x, w, b, (stride, stride), (pad, pad), (1, 1), groups)
    (y,) = calls.add("conv2d", "aten.conv2d.default", conv)
    (y,) = calls.add("relu", "aten.relu.default", (y,))
    out = Quant(0.03, -128)
    (y,) = calls.add("last", f"{DECOMPOSED}.quantize_per_tensor.default", (y, *numbers(out)))
    return calls.bundle("network", (calls.dequantised(y, out),))


def operators(bundle: Bundle, machine: str) -> list[str]:
    """Kernels of the C, but for the last, which puts channels first."""
    manifest = generate(bundle, find_target(find_machine(machine).target), emx.Options()).manifest
    *others, last = manifest["operators"]
    assert last in ("emx_movement", "emx_pixels_s8")
    return [name for name in (*others, last) if name != "emx_movement"]


@pytest.mark.parametrize("machine", ["host", "mps2-an386", "mps3-an547"])
@pytest.mark.parametrize(
    ("channels", "stride", "pad"), [(3, 2, 1), (1, 1, 0), (4, 1, 1), (5, 1, 2)]
)
def test_the_first_layer_reads_pixels(machine: str, channels: int, stride: int, pad: int) -> None:
    bundle = network(channels, stride, pad)
    for ram in ("default", "min"):
        options = emx.Options(io_arena=ram == "min", ram=ram)
        report = emx.verify(bundle, target=machine, layers=ram == "default", options=options)
        assert report.ok, str(report)
        assert report.distances and report.distances.outputs[0].steps is not None
        assert report.distances.outputs[0].steps < 1.5
    assert operators(bundle, machine) == ["emx_conv2d_u8"]


@pytest.mark.parametrize(
    "bundle",
    [
        network(3, 1, 1, q=Quant(1 / 250, -128)),
        network(3, 1, 1, q=Quant(1 / 255, -120)),
        network(6, 1, 1, 6),
    ],
    ids=["other steps", "other zero", "depthwise"],
)
def test_other_first_layers_need_the_table(bundle: Bundle) -> None:
    kernels = operators(bundle, "host")
    assert "emx_pixels_s8" in kernels and "emx_conv2d_u8" not in kernels
    assert emx.verify(bundle).ok


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


class Camera(nn.Module):
    """A network that normalises bytes itself."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mean = nn.Buffer(torch.tensor(mean).reshape(1, -1, 1, 1))
        self.std = nn.Buffer(torch.tensor(std).reshape(1, -1, 1, 1))
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv((image.float() / 255 - self.mean) / self.std))
        return self.fc(x.mean((2, 3)))


def camera(tmp_path: Path, mean: Sequence[float], std: Sequence[float]) -> Bundle:
    """Calibrated with images that do not reach black and white."""
    images = np.random.default_rng(0).integers(9, 230, (16, 1, 3, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "calibration.npz", image=images)
    return emx.export(
        Camera(mean, std).eval(),
        (torch.from_numpy(images[0]),),
        name="camera",
        quantize="int8",
        calibration=tmp_path / "calibration.npz",
    )


@pytest.mark.parametrize(
    ("mean", "std", "first"),
    [
        ((0.45,), (0.22,), "emx_conv2d_u8"),
        ((0.0,), (1.0,), "emx_conv2d_u8"),
        (MEAN.tolist(), STD.tolist(), "emx_pixels_s8"),
        ((0.5,), (-0.25,), "emx_pixels_s8"),  # a negative
        ((1.5,), (1.0,), "emx_pixels_s8"),  # no int8 is zero
    ],
)
def test_quantising_arranges_the_steps_of_pixels(
    tmp_path: Path, mean: Sequence[float], std: Sequence[float], first: str
) -> None:
    pytest.importorskip("torchao")
    bundle = camera(tmp_path, mean, std)
    manifest = generate(bundle, find_target("host"), emx.Options()).manifest
    assert manifest["layers"][0]["kernel"].startswith(first.removeprefix("emx_"))
    assert sum("quantize_per_tensor" in n.target for n in bundle.nodes) == 2 * 4
    report = emx.verify(bundle, layers=True)
    assert report.ok, str(report)


def test_pixels_that_others_read_too(tmp_path: Path) -> None:
    """The image is also an output in float: it is quantised where the convolution reads it."""
    pytest.importorskip("torchao")

    class Both(Camera):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = (image.float() / 255 - self.mean) / self.std
            return self.fc(torch.relu(self.conv(x)).mean((2, 3))), x * 2

    images = torch.randint(0, 256, (16, 1, 3, 8, 8), dtype=torch.uint8)
    np.savez(tmp_path / "c.npz", image=images)
    bundle = emx.export(Both((0.45,), (0.22,)).eval(), (images[0],), quantize="int8",
                        calibration=tmp_path / "c.npz")  # fmt: skip
    assert emx.verify(bundle).ok
