# SPDX-License-Identifier: Apache-2.0
"""A model's test fails when a byte of weights or vectors or a kernel changes, and names the layer.

The network is the golden one with convolutions, a residual, pools and a linear layer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import emx
from emx.build import Finished, find_machine, run
from emx.testrun import build_test
from golden_models import golden_bundle

NAME = "residual"
MACHINES = ("host", "mps2-an386")
INSTANCE = re.compile(r"^EMX_INSTANCE void (\w+)\([^)]*\)\n\{\n.*?^\}", re.MULTILINE | re.DOTALL)
WEIGHT = re.compile(r'\{"([^"]*)", (\d+), (\d+), (\d+), 0x\w{8}u\}')
BODIES = {
    "adds": lambda body: body[:-1] + "    y[0] += 1;\n}",
    "does nothing": lambda body: re.sub(
        r"^    emx_\w+\(&p.*;\n", "    (void)p;\n", body, flags=re.M
    ),
}


def generate(directory: Path, machine: str, *, taps: bool) -> list[dict[str, Any]]:
    """The layers of the network whose C is now in `directory`."""
    options = emx.Options(test=True, taps=taps)
    bundle = golden_bundle(NAME)
    target = find_machine(machine).target
    artifacts = emx.compile(bundle, target=target, out_dir=directory, options=options)
    layers: list[dict[str, Any]] = artifacts.manifest["layers"]
    assert len(layers) >= 8 and len({layer["kernel"] for layer in layers}) == len(layers)
    return layers


def build_model(directory: Path, machine: str) -> Path:
    harness = ("emx_test.c", "emx_print.c")
    flags = ("-O1", "-std=gnu11")
    return build_test(find_machine(machine), directory, NAME, harness, flags=flags)


def run_changed(program: Path, machine: str, blob: bytes, byte: int) -> Finished:
    """Run the program with one bit of one byte of `blob` changed in its image."""
    image = bytearray(program.read_bytes())
    assert image.count(blob) == 1
    image[image.index(blob) + byte] ^= 1
    changed = program.with_name("changed.elf")
    changed.write_bytes(image)
    changed.chmod(0o755)
    return run(find_machine(machine), changed, cwd=program.parent)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("taps", [pytest.param(False, marks=pytest.mark.slow), True])
def test_each_weight_byte_names_its_layer(tmp_path: Path, machine: str, taps: bool) -> None:
    """The first and the last byte of every tensor, padding included."""
    layers = generate(tmp_path, machine, taps=taps)
    program = build_model(tmp_path, machine)
    assert run(find_machine(machine), program, cwd=tmp_path).code == 0
    blob = (tmp_path / f"{NAME}_weights.bin").read_bytes()
    rows = WEIGHT.findall((tmp_path / f"{NAME}_test.c").read_text())
    assert len(rows) == 10
    source = (tmp_path / f"{NAME}.c").read_text()
    for tensor, step, size, offset in rows:
        call = re.search(rf"^    (\w+)\(.*w->{tensor}\b.*\);$", source, re.MULTILINE)
        assert call and call[1] == layers[int(step)]["kernel"]
        for byte in (int(offset), int(offset) + int(size) - 1):
            done = run_changed(program, machine, blob, byte)
            layer = layers[int(step)]
            assert done.code == 2
            want = f"the weights of layer {layer['name']} are not those of the model"
            assert f"emx: FAIL {NAME}: {want}" in done.output
            assert f"  kernel  {layer['kernel']}\n  tensor  {tensor}: " in done.output


@pytest.mark.parametrize("machine", MACHINES)
def test_each_vector_byte(tmp_path: Path, machine: str) -> None:
    generate(tmp_path, machine, taps=True)
    program = build_model(tmp_path, machine)
    blob = (tmp_path / f"{NAME}_vectors.bin").read_bytes()
    for byte in range(0, len(blob), len(blob) // 7):
        done = run_changed(program, machine, blob, byte)
        assert done.code == 2
        assert "the test vectors are not those that were exported" in done.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "change"),
    [("host", "adds"), ("host", "does nothing"), ("mps2-an386", "adds")],
)
def test_each_kernel_names_its_layer(tmp_path: Path, machine: str, change: str) -> None:
    layers = generate(tmp_path, machine, taps=True)
    source = tmp_path / f"{NAME}.c"
    original = source.read_text()
    instances = {match[1]: match[0] for match in INSTANCE.finditer(original)}
    assert sorted(instances) == sorted(layer["kernel"] for layer in layers)
    for layer in layers:
        body = instances[layer["kernel"]]
        changed = BODIES[change](body)
        assert changed != body
        source.write_text(original.replace(body, changed))
        done = run(find_machine(machine), build_model(tmp_path, machine), cwd=tmp_path)
        assert done.code == 1
        assert f"emx: FAIL {NAME}: layer {layer['name']} diverges from PyTorch" in done.output
        assert f"  at      {layer['source']}: " in done.output
        assert f"\n  kernel  {layer['kernel']}\n  worst   [" in done.output


@pytest.mark.slow
def test_each_kernel_is_noticed_without_taps(tmp_path: Path) -> None:
    """The outputs alone tell that something is wrong, though not where."""
    generate(tmp_path, "host", taps=False)
    source = tmp_path / f"{NAME}.c"
    original = source.read_text()
    for match in INSTANCE.finditer(original):
        changed = match[0].replace("\n}", "\n    y[0] = 1 - y[0] * 3;\n}")
        source.write_text(original.replace(match[0], changed))
        done = run(find_machine("host"), build_model(tmp_path, "host"), cwd=tmp_path)
        assert done.code == 1
        assert f"emx: FAIL {NAME}: output softmax differs from PyTorch" in done.output
