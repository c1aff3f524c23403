# SPDX-License-Identifier: Apache-2.0
"""Quantised models in CMake: its words reach emx, and what calibrates a model is a dependency."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from cmake_project import ROOT, Project, run, worked

from emx.bundle import Bundle
from emx.options import CHOICES, INPUT, SCHEMES

pytest.importorskip("torchao")

SCRIPT = """
import torch

torch.manual_seed(0)
layers = [torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)]
net = torch.nn.Sequential(*layers).eval()
program = torch.export.export(net, (torch.zeros(1, 4),))
torch.export.save(program, "net.pt2")
"""
CALL = """
emx_add_model(net net.pt2 QUANTIZE int8 {})
emx_add_model_test(net_test MODEL net)
get_target_property(arguments net _EMX_COMPILE_ARGS)
get_target_property(inputs net EMX_INPUTS)
message(STATUS "found: ${{inputs}} ${{arguments}}")
"""


@pytest.fixture
def floats(project: Project) -> Project:
    """A project with a float model and samples for it."""
    project.write("net.py", SCRIPT)
    run(sys.executable, "net.py", cwd=project.path).ok()
    calibrate(project, 1)
    return project


def calibrate(project: Project, scale: float) -> None:
    x = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
    np.savez(project.path / "calib.npz", x=scale * x)


def bundle_of(project: Project) -> Bundle:
    return Bundle.load(project.build_dir() / "emx/net/configure/net.emx")


def scale_of(project: Project) -> float:
    """The first scale, which is that of the input."""
    calls = (n for n in bundle_of(project).nodes if ".quantize_per_tensor." in n.target)
    return float(next(calls).args[1])  # type: ignore[arg-type]


def test_a_quantised_model(floats: Project) -> None:
    """Other samples are noticed by the build alone; a new time stamp is none."""
    floats.cmakelists(CALL.format("CALIBRATION calib.npz"))
    assert "found: input=s8[1x4] " in floats.configure().ok().text
    first = scale_of(floats)
    floats.build().ok()
    assert floats.passed() == 1
    calibrate(floats, 1)
    assert worked(floats.build().ok().text) == []
    calibrate(floats, 4)
    assert "(calib.npz changed)" in floats.build().ok().text
    assert scale_of(floats) == pytest.approx(4 * first)
    assert floats.passed() == 1


def test_samples_of_a_script(floats: Project) -> None:
    """What the script reads is a dependency, too."""
    floats.write(
        "data.py",
        """
        import pathlib
        import numpy

        def batches():
            return numpy.load(pathlib.Path(__file__).with_name("calib.npz"))["x"][:, None]
        """,
    )
    floats.cmakelists(CALL.format("CALIBRATION data.py:batches"))
    floats.configure().ok()
    first = scale_of(floats)
    calibrate(floats, 2)
    assert "(calib.npz changed)" in floats.configure().ok().text
    assert scale_of(floats) == pytest.approx(2 * first)


def test_all_words(floats: Project) -> None:
    """In any case; they say the same as on the command line."""
    words = "OPTIMIZE SIZE RAM small NO_SLIM IO FLOAT INPUT whole"
    floats.cmakelists(CALL.format(f"CALIBRATION calib.npz KEEP_FLOAT 2 {words}"))
    text = floats.configure().ok().text
    assert "found: input=f32[1x4] " in text
    assert "--optimize;size;--ram;small;--io;float;--input;whole;--no-slim" in text
    assert bundle_of(floats).tensors["2.weight"].dtype == np.float32


def test_errors(floats: Project) -> None:
    """The pages of emx: no samples, and a layer that strictly should not stay float."""
    floats.cmakelists(CALL.format(""))
    assert "quantising needs calibration data" in floats.configure().fails().text
    floats.cmakelists(CALL.format("CALIBRATION calib.npz KEEP_FLOAT 2 STRICT"))
    assert "this layer stays in float" in floats.configure().fails().text


def test_cmake_has_the_words_of_emx() -> None:
    text = (ROOT / "cmake" / "EmxAddModel.cmake").read_text()
    for words in (SCHEMES, INPUT, *(CHOICES[k] for k in ("optimize", "ram", "io"))):
        assert f'"{"|".join(words)}"' in text
