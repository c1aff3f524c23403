# SPDX-License-Identifier: Apache-2.0
"""Models as users of PyTorch quantise them: each form of a net is converted once and kept."""

from __future__ import annotations

import fcntl
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emx.exporter.torchtools import calm
from emx.paths import root

MODELS = root().parent / "shared" / "models"
NETS = ("ad", "kws", "ic", "vww")


def _xnnpack(**settings: Any) -> Any:
    from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack

    config = xnnpack.get_symmetric_quantization_config(**settings)
    return xnnpack.XNNPACKQuantizer().set_global(config)


def _x86() -> Any:
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    config = x86.get_default_x86_inductor_quantization_config()
    return x86.X86InductorQuantizer().set_global(config)


def _arm() -> Any:
    from torchao.quantization.pt2e.quantizer import arm_inductor_quantizer as arm

    config = arm.get_default_arm_inductor_quantization_config()
    return arm.ArmInductorQuantizer().set_global(config)


FORMS: dict[str, Callable[[], Any]] = {
    "xnnpack": lambda: _xnnpack(is_per_channel=True),
    "x86": _x86,  # uint8 activations
    "arm": _arm,  # uint8 activations, one scale for all weights of a layer
    "qat": lambda: _xnnpack(is_per_channel=True, is_qat=True),
    "dynamic": lambda: _xnnpack(is_per_channel=True, is_dynamic=True),
}


def convert(program: Any, form: str, samples: Sequence[Any]) -> Any:
    """The program quantised, calibrated with `samples`, exported again."""
    from torchao.quantization.pt2e import quantize_pt2e as pt2e

    prepare = pt2e.prepare_qat_pt2e if form == "qat" else pt2e.prepare_pt2e
    model = prepare(program.module(), FORMS[form]())
    with torch.no_grad():
        for x in samples:
            model(x)
    return torch.export.export(pt2e.convert_pt2e(model), (samples[0].clone(),))


def archive(net: str, form: str) -> Path:
    """A net of ../shared/models in that form, as torch.export.save writes it."""
    model, inputs = MODELS / f"{net}.pt2", MODELS / f"{net}_calibration.npz"
    key = hashlib.sha256(model.read_bytes() + inputs.read_bytes() + Path(__file__).read_bytes())
    key.update(f"{metadata.version('torchao')} {torch.__version__} {form}".encode())
    folder = Path(tempfile.gettempdir()) / "emx-converted"
    folder.mkdir(exist_ok=True)
    path = folder / f"{net}_{form}_{key.hexdigest()[:16]}.pt2"
    with path.with_suffix(".lock").open("w") as lock, calm():
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            x = torch.from_numpy(np.load(inputs)["x"][:64])
            program = convert(torch.export.load(model), form, x.split(1))
            temporary = path.with_suffix(".tmp")
            torch.export.save(program, temporary)
            temporary.rename(path)
    return path
