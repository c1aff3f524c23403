# SPDX-License-Identifier: Apache-2.0
"""The five networks end to end, and that their tests notice when something is changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from board_sets import QUICK
from emx.api import bench, check, compile, verify
from emx.build import Finished, board_names, find_machine, run
from emx.bundle import Bundle
from emx.errors import EmxError
from emx.exporter import cached_export
from emx.options import Options
from emx.paths import root
from emx.testrun import build_test
from many import run_together

MODELS = root().parent / "shared" / "models"
NETWORKS = ("ad", "ic", "kws", "sww", "vww")
INSTANCE = re.compile(r"^EMX_INSTANCE void (\w+)\([^)]*\)\n\{\n.*?^\}", re.MULTILINE | re.DOTALL)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models"),
]
Load = Callable[[str], Bundle]


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The bundle of a network, exported once, also where several workers share the tests."""
    directory = tmp_path_factory.getbasetemp()

    def get(name: str) -> Bundle:
        out = directory / f"{name}.emx"
        if not out.exists():
            cached_export(MODELS / f"{name}.pt2", out, cache_dir=directory.parent / "cache")
        return Bundle.load(out)

    return get


def run_test(directory: Path, name: str, machine_name: str) -> Finished:
    machine = find_machine(machine_name)
    program = build_test(machine, directory, name, ("emx_test.c", "emx_print.c"))
    return run(machine, program, cwd=directory)


def generate(bundle: Bundle, directory: Path, machine: str, *, taps: bool = False) -> None:
    options = Options(test=True, taps=taps)
    compile(bundle, target=find_machine(machine).target, out_dir=directory, options=options)


@pytest.mark.parametrize("machine", ["host", *QUICK])
@pytest.mark.parametrize("network", NETWORKS)
def test_agrees_with_pytorch(load: Load, network: str, machine: str, tmp_path: Path) -> None:
    """Every layer too; and what --dump leaves shows the same."""
    report = verify(load(network), target=machine, layers=True, dump=tmp_path)
    assert report.ok, str(report)
    assert report.layers and all(layer.rel <= 1e-4 for layer in report.layers)
    for output in report.outputs:
        eager, device = (
            np.load(tmp_path / group / f"{output.name}.npy") for group in ("eager", "device")
        )
        assert len(eager) >= 4 and eager.dtype == device.dtype == np.float32
        rel = np.abs(eager.astype(float) - device).max() / np.abs(eager).max()
        assert output.rel == rel <= 1e-4


@pytest.mark.parametrize("board", sorted({*board_names()} - {*QUICK, "microbit"}))
def test_agree_on_other_boards(load: Load, board: str, tmp_path: Path) -> None:
    """All in one program; one vector, for without an FPU they take billions of instructions."""
    bundles = [load(network).with_vectors(1) for network in NETWORKS]
    run_together(bundles, tmp_path, board, ("-O3",), Options(test=True, taps=True))


@pytest.mark.parametrize("network", NETWORKS)
def test_none_fits_the_smallest_board(load: Load, network: str) -> None:
    with pytest.raises(EmxError) as caught:
        check(load(network), target="microbit")
    what, *lines, model = str(caught.value).splitlines()
    assert what == f"{network} is too large for microbit"
    for line in lines:
        assert re.search(r"(FLASH|RAM): \d+,\d{3},?\d* bytes needed, (262,144|16,384) there$", line)
    assert lines and "bytes of weights and an arena of" in model


@pytest.mark.parametrize("board", ["mps2-an386", "mps3-an547"])
@pytest.mark.parametrize("network", ["ad", "ic", "kws", "vww"])
def test_code_is_small(load: Load, network: str, board: str) -> None:
    """7 KB at -Os, 14 KB at -O3."""
    options = Options(io_arena=True)
    for level, limit in (("s", 7), ("3", 14)):
        report = bench(load(network), target=board, optimize=level, options=options)
        assert report.code_bytes <= limit * 1024


def test_each_changed_kernel_is_named(load: Load, tmp_path: Path) -> None:
    """The first layer that uses the kernel is the one that diverges."""
    generate(load("kws"), tmp_path, "host", taps=True)
    source = tmp_path / "kws.c"
    original = source.read_text()
    layers = json.loads((tmp_path / "kws.json").read_text())["layers"]
    kernels = [match[1] for match in INSTANCE.finditer(original)]
    assert sorted(kernels) == sorted({layer["kernel"] for layer in layers}) and len(kernels) == 6
    for match in INSTANCE.finditer(original):
        at = match.end() - 1
        source.write_text(original[:at] + "    y[0] += 1;\n" + original[at:])
        done = run_test(tmp_path, "kws", "host")
        first = next(layer for layer in layers if layer["kernel"] == match[1])
        assert done.code == 1
        assert f"emx: FAIL kws: layer {first['name']} diverges from PyTorch" in done.output
        assert f"  at      {first['source']}" in done.output
        assert f"(module {first['module']})" in done.output or not first["module"]
        assert f"  kernel  {match[1]}\n  worst   [0] is " in done.output


@pytest.mark.parametrize("network", NETWORKS)
def test_changed_kernel_on_a_board(load: Load, network: str, tmp_path: Path) -> None:
    generate(load(network), tmp_path, "mps2-an386")
    source = tmp_path / f"{network}.c"
    text = source.read_text()
    at = next(m for m in INSTANCE.finditer(text) if "float *y" in m[0]).end() - 1
    source.write_text(text[:at] + "    y[0] = y[0] * 2 + 100;\n" + text[at:])
    done = run_test(tmp_path, network, "mps2-an386")
    assert done.code == 1
    assert f"emx: FAIL {network}: output " in done.output


@pytest.mark.parametrize(("byte", "layer"), [(0, "relu"), (1, "relu"), (-1, "linear")])
def test_changed_weight_byte_is_named(load: Load, byte: int, layer: str, tmp_path: Path) -> None:
    """One bit: far too little for the outputs to leave their tolerance."""
    generate(load("kws"), tmp_path, "mps2-an386")
    flip(tmp_path / "kws_weights.bin", byte)
    done = run_test(tmp_path, "kws", "mps2-an386")
    assert done.code == 2
    assert f"emx: FAIL kws: the weights of layer {layer} are not those of the model" in done.output


@pytest.mark.parametrize("byte", [0, 5000, -1])
def test_changed_vector_byte(load: Load, byte: int, tmp_path: Path) -> None:
    generate(load("kws"), tmp_path, "mps3-an547")
    flip(tmp_path / "kws_vectors.bin", byte)
    done = run_test(tmp_path, "kws", "mps3-an547")
    assert done.code == 2
    assert "emx: FAIL kws: the test vectors are not those that were exported" in done.output


def flip(blob: Path, byte: int) -> None:
    data = bytearray(blob.read_bytes())
    data[byte] ^= 1
    blob.write_bytes(data)


def test_every_byte_of_the_weights_is_checked(load: Load, tmp_path: Path) -> None:
    """Padding too: the ranges of the checksums cover the blob without a gap."""
    for network in NETWORKS:
        generate(load(network), tmp_path, "host")
        text = (tmp_path / f"{network}_test.c").read_text()
        table = re.search(r"weight_table\[\] = \{(.*?)\n\};", text, re.DOTALL)
        assert table
        rows = re.findall(r'\{"[^"]*", \d+, (\d+), (\d+), 0x\w{8}u\}', table[1])
        ranges = sorted((int(offset), int(offset) + int(size)) for size, offset in rows)
        assert [a for a, _ in ranges] == [0, *(b for _, b in ranges[:-1])]
        assert ranges[-1][1] == (tmp_path / f"{network}_weights.bin").stat().st_size


@pytest.mark.parametrize(
    ("network", "ram"), [("ad", 3072), ("kws", 64000), ("ic", 131072), ("vww", 221184)]
)
def test_ram(load: Load, network: str, ram: int) -> None:
    """With inputs and outputs in the arena; scratch may add 5 %."""
    report = bench(load(network), target="mps2-an386", options=Options(io_arena=True))
    assert report.arena_lower_bound <= report.arena_bytes <= report.ram_bytes <= ram * 1.05
    assert report.io_bytes == 0


@pytest.mark.parametrize("options", [Options(io_arena=True), Options(arena="caller")])
def test_other_arenas_on_a_board(load: Load, options: Options) -> None:
    assert verify(load("kws"), target="mps2-an386", options=options).ok
