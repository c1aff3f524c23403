# SPDX-License-Identifier: Apache-2.0
"""The examples, built and run as a newcomer would, in a directory with a space in its name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import emx
from emx.build import board_names

ROOT = Path(__file__).resolve().parents[1]
MADE = ("model.pt2", "calibration.npz", "held_out.h", "held_out.npz")  # by train.py
pytestmark = pytest.mark.slow


def run(*command: object, ok: bool = True) -> str:
    done = subprocess.run(
        [str(c) for c in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert (done.returncode == 0) == ok, done.stdout
    return done.stdout


def configure(source: Path, build: Path, *options: str) -> str:
    python = f"-DEMX_PYTHON_EXECUTABLE={sys.executable}"
    return run("cmake", "-S", source, "-B", build, "-G", "Ninja", python, *options)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples with the network trained."""
    copy = tmp_path_factory.mktemp("a copy") / "examples"
    ignored = shutil.ignore_patterns(*MADE, "build", "bazel-*")
    shutil.copytree(ROOT / "examples", copy, ignore=ignored)
    assert "held-out digits" in run(sys.executable, copy / "firmware" / "train.py")
    return copy


def test_firmware_recognises_what_pytorch_does(examples: Path) -> None:
    build, toolchain = examples / "build m4", ROOT / "toolchains" / "cortex-m4.cmake"
    configure(examples / "firmware", build, f"--toolchain={toolchain}")
    run("cmake", "--build", build)
    assert "100% tests passed, 0 tests failed out of 3" in run("ctest", "--test-dir", build)

    printed = run("cmake", "--build", build, "--target", "run")
    figures = re.search(
        r"(\d+) held-out digits: the board recognises (\d+), with int8 (\d+), PyTorch (\d+)",
        printed,
    )
    assert figures
    held_out, board, int8, pytorch = map(int, figures.groups())
    assert abs(board - pytorch) <= 1
    assert board > 0.97 * held_out
    assert board - int8 <= 0.005 * held_out

    # The program itself must notice a worse accuracy.
    data = examples / "firmware" / "held_out.h"
    text = data.read_text()
    data.write_text(text.replace(f"PYTORCH_CORRECT = {pytorch}", f"PYTORCH_CORRECT = {board + 2}"))
    run("cmake", "--build", build)
    assert "firmware (Failed)" in run("ctest", "--test-dir", build, ok=False)
    data.write_text(text)


def test_int8_beside_float(examples: Path) -> None:
    printed = run(sys.executable, examples / "firmware" / "compare.py", "mps2-an386")
    rows = [re.split(r"  +", line) for line in printed.splitlines()[-5:]]
    assert rows[0] == ["mps2-an386", "float", "int8"]
    figures = {
        what: [float(n.strip(" %").replace(",", "")) for n in row] for what, *row in rows[1:]
    }
    floats, int8 = figures["accuracy"]
    assert floats > 97 and floats - int8 <= 0.5
    for what, least in (("flash, bytes", 2), ("RAM, bytes", 2.5), ("instructions a digit", 1.3)):
        floats, int8 = figures[what]
        assert floats > least * int8, what


def test_worth_on_a_data_set(examples: Path) -> None:
    """What emx verify says of the held-out images, on the host and on a board."""
    here = examples / "firmware"
    quantise = ("--quantize", "int8", "--calibration", here / "calibration.npz")
    command = ("-m", "emx", "verify", here / "model.pt2", *quantise, "--dataset")
    options = ("--target", "mps2-an386", "--samples", "50", "--json")
    done = subprocess.run(
        [sys.executable, *map(str, (*command, here / "held_out.npz", *options))],
        stdout=subprocess.PIPE,
        check=True,
    )
    report = json.loads(done.stdout)["dataset"]
    scores = {s["who"]: s for s in report["scores"]}
    assert [s["samples"] for s in scores.values()] == [360, 360, 360, 50]
    floats, quantised, host, board = (s["accuracy"] for s in scores.values())
    assert list(scores)[2:] == ["C on host", "C on mps2-an386"]
    assert floats > 0.97 and floats - host <= 0.005 and board > 0.95
    assert abs(host - quantised) <= 1 / 360
    assert {n["module"] for n in report["layers"]} == {"conv1", "conv2", "fc"}
    noise = [n["sqnr_db"] for n in report["layers"]]
    assert noise == sorted(noise) and noise[0] > 30
    assert all(n["own_sqnr_db"] >= n["sqnr_db"] - 0.1 for n in report["layers"])
    assert report["advice"] is None


@pytest.mark.parametrize("board", board_names())
def test_the_network_on_every_board(examples: Path, board: str) -> None:
    report = emx.verify(digits(examples), target=board, layers=True)
    assert report.ok, str(report)
    assert all(layer.rel <= 1e-5 for layer in report.layers)
    exact = emx.verify(digits_int8(examples), target=board, layers=True)
    assert exact.ok, str(exact)
    assert all(layer.max_abs == 0 for layer in (*exact.outputs, *exact.layers))
    assert exact.distances and all(layer.steps <= 1 for layer in exact.distances.layers)


@cache
def digits(examples: Path) -> emx.Bundle:
    return emx.export(examples / "firmware" / "model.pt2", name="digits")


@cache
def digits_int8(examples: Path) -> emx.Bundle:
    calibration = examples / "firmware" / "calibration.npz"
    model = examples / "firmware" / "model.pt2"
    return emx.export(model, name="digits_int8", quantize="int8", calibration=calibration)


def test_host_program(examples: Path) -> None:
    build = examples / "build host"
    configure(examples / "host", build, f"-Demx_DIR={ROOT / 'cmake'}")
    run("cmake", "--build", build)
    rows = (line.split(":") for line in run(build / "hello_digits").splitlines())
    scores = {int(digit): float(score) for digit, score in rows}
    assert len(scores) == 10
    assert max(scores, key=scores.__getitem__) == 1


def test_firmware_without_a_model_says_how_to_get_it(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns(*MADE)
    source = shutil.copytree(ROOT / "examples" / "firmware", tmp_path / "firmware", ignore=ignored)
    directory = f"-Demx_DIR={ROOT / 'cmake'}"
    said = run("cmake", "-S", source, "-B", tmp_path / "build", directory, ok=False)
    assert "python train.py" in said
