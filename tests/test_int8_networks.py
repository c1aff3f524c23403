# SPDX-License-Identifier: Apache-2.0
"""The networks in int8: as the twin on every byte, small in memory, with few instructions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emx
from emx.api import bench, generate
from emx.bundle import Bundle
from emx.options import Options
from emx.paths import root
from emx.target import find_target
from many import SANITIZE, run_together

MODELS = root().parent / "shared" / "models"
NETWORKS = ("ad", "ic", "kws", "vww")
ALL = (*NETWORKS, "sww")
M4F, M55 = "mps2-an386", "mps3-an547"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models"),
]
Load = Callable[[str], Bundle]


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The quantised bundle of a network, made once, also where several workers share the tests. Its
    test vectors begin with the genuine inputs."""
    directory = tmp_path_factory.getbasetemp().parent

    def get(name: str) -> Bundle:
        out = directory / f"{name}_int8.emx"
        if not out.exists():
            real = MODELS / f"{name}_real.npz"
            bundle = emx.export(
                MODELS / f"{name}.pt2",
                quantize="int8",
                calibration=MODELS / f"{name}_calibration.npz",
                example_file=real if real.exists() else None,
                vectors=8,
            )
            bundle.save(out)
        return Bundle.load(out)

    return get


def manifest(bundle: Bundle, target: str, **options: Any) -> Any:
    return generate(bundle, find_target(target), Options(**options)).manifest


# Bytes with inputs and outputs in the arena, scratch included.
RAM = {
    "default": {"ad": 768, "kws": 16_256, "ic": 33_400, "vww": 55_296},
    "small": {"ad": 768, "kws": 8_300, "ic": 33_400, "vww": 37_500},
    "min": {"ad": 768, "kws": 5_200, "ic": 16_200, "vww": 32_000},
}
DEARER = {"small": 1.04, "min": 1.30}


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("ram", RAM)
def test_arena(load: Load, network: str, ram: str, target: str) -> None:
    facts = manifest(load(network), target, io_arena=True, ram=ram)
    assert facts["arena_bytes"] <= RAM[ram][network]


@pytest.mark.parametrize("board", [M4F, M55])
@pytest.mark.parametrize("network", NETWORKS)
def test_less_memory_costs_little(load: Load, network: str, board: str) -> None:
    counts = {}
    for ram in RAM:
        report = bench(load(network), target=board, options=Options(io_arena=True, ram=ram))
        assert report.ram_bytes <= RAM[ram][network]
        counts[ram] = report.instructions
    for ram, factor in DEARER.items():
        assert counts[ram] <= factor * counts["default"]


def test_rows_of_the_input_one_by_one(load: Load) -> None:
    for target in ("cortex-m4", "cortex-m55"):
        options = {"io_arena": True, "ram": "min", "input_rows": True}
        assert manifest(load("vww"), target, **options)["arena_bytes"] <= 15_000


# Million instructions of TFLM with CMSIS-NN.
TFLM = {
    "ad": (0.582, 0.150), "kws": (7.845, 1.785), "ic": (29.875, 4.811), "vww": (24.720, 6.433),
}  # fmt: skip


@pytest.mark.parametrize("board", [M4F, M55])
@pytest.mark.parametrize("network", NETWORKS)
def test_instructions_and_code(load: Load, network: str, board: str) -> None:
    """Fewer instructions than the peers; 16 KB of code at -O3, 8 KB at -Os."""
    options = Options(io_arena=True, slim=False)
    report = bench(load(network), target=board, options=options)
    assert report.instructions < TFLM[network][board == M55] * 1e6
    assert report.code_bytes <= 16 * 1024
    small = bench(load(network), target=board, optimize="s", options=options)
    assert small.code_bytes <= 8 * 1024


WEIGHTS = {"ad": 271, "kws": 29, "ic": 82, "vww": 240}  # KiB


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55", "generic"])
@pytest.mark.parametrize("network", NETWORKS)
def test_weights(load: Load, network: str, target: str) -> None:
    facts = manifest(load(network), target, optimize="size", slim=False)
    assert facts["weights_bytes"] <= WEIGHTS[network] * 1024


def test_dead_filters_are_left_out(load: Load) -> None:
    facts = manifest(load("vww"), "cortex-m4", optimize="size")
    assert facts["weights_bytes"] <= 46 * 1024
    assert facts["macs"] <= 3_780_000
    whole = manifest(load("vww"), "cortex-m4", slim=False)
    assert whole["macs"] == 7_489_664


@pytest.mark.parametrize("network", ALL)
def test_host(load: Load, network: str, tmp_path: Path) -> None:
    """Every layer equals the twin on every byte, without undefined behaviour."""
    bundle = load(network).with_vectors(2)
    run_together([bundle], tmp_path, "host", SANITIZE, Options(test=True, taps=True))


@pytest.mark.parametrize(
    "options",
    [{"slim": False}, {"optimize": "size", "ram": "min"}, {"io": "float", "ram": "min"}],
    ids=str,
)
def test_host_otherwise(load: Load, options: dict[str, Any], tmp_path: Path) -> None:
    bundles = [load(network).with_vectors(1) for network in ALL]
    wishes = Options(test=True, io_arena=True, **options)
    run_together(bundles, tmp_path, "host", SANITIZE, wishes)


@pytest.mark.parametrize("board", ["mps2-an385", M4F, "mps2-an500", "mps2-an505", M55])
def test_boards(load: Load, board: str, tmp_path: Path) -> None:
    """Every layer equals the twin on every byte."""
    bundles = [load(network).with_vectors(1) for network in ALL]
    run_together(bundles, tmp_path, board, ("-O2",), Options(test=True, taps=True, io_arena=True))


@pytest.mark.parametrize("network", NETWORKS)
def test_no_layer_is_generic(load: Load, network: str) -> None:
    """The manifest names the kernel of every layer; those with weights are packed for the target's
    own dot products, which its code refuses to do without."""
    for target, macro in (("cortex-m4", "EMX_DOT_DSP"), ("cortex-m55", "EMX_DOT_MVE")):
        artifacts = generate(load(network), find_target(target), Options())
        assert all(layer["kernel"] for layer in artifacts.manifest["layers"])
        assert not artifacts.manifest["float_layers"]
        assert macro in str(artifacts.files[f"{network}.c"])


@pytest.mark.parametrize("network", NETWORKS)
def test_same_answer_as_pytorch(load: Load, network: str, tmp_path: Path) -> None:
    """The largest output of every genuine input is the same element."""
    assert emx.verify(load(network), dump=tmp_path).ok
    (name,) = (path.stem for path in (tmp_path / "eager").iterdir())
    eager, device = (np.load(tmp_path / group / f"{name}.npy") for group in ("eager", "device"))
    best = [y.reshape(len(y), -1).argmax(axis=1) for y in (eager, device)]
    assert len(eager) == 8 and np.array_equal(*best)
