# SPDX-License-Identifier: Apache-2.0
"""Model -> Bundle: the only part of emx that runs PyTorch, which is imported when it is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emx.bundle import Bundle, is_bundle
from emx.exporter.cache import cached_export, torch_version

__all__ = ["cached_export", "export"]


def export(
    model: Any,
    example_inputs: Any = None,
    *,
    name: str | None = None,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    example_file: str | os.PathLike[str] | None = None,
    vectors: int = 4,
    seed: int = 0,
    allow_pickle: bool = False,
    quantize: str | None = None,
    calibration: str | os.PathLike[str] | None = None,
    keep_float: Sequence[str] = (),
) -> Bundle:
    """Export `model`: an ExportedProgram, an nn.Module, or the path of an archive, a script
    ("net.py:factory") or a bundle.

    example_inputs   a tensor, a tuple of arguments, or a dict of them (only for an nn.Module)
    name             name of the bundle; the file's name without suffix if not given
    inputs           types that fix open shapes, "x=f32[1x3x32x32]"
    outputs          names of the outputs, if the model's own do not please
    example_file     .npz, .npy or .pt file with test inputs
    vectors          number of test vectors; what the model and `example_file` do not give is
                     generated from `seed`
    allow_pickle     load a pickled nn.Module, which runs whatever code it holds
    quantize         scheme of a quantisation after training: "int8"
    calibration      typical inputs for it: .npz or .pt file, or a script's function
                     ("data.py:batches") that gives them
    keep_float       modules that stay in float, by path: "encoder.layers.0"

    Raises EmxError for everything that is wrong with the model.
    """
    path = os.fspath(model) if isinstance(model, str | os.PathLike) else None
    if path is not None and is_bundle(Path(path)):
        bundle = Bundle.load(Path(path))
        return replace(bundle, name=name) if name else bundle
    torch_version()  # says what to do where PyTorch is missing
    from emx.exporter.run import Options, export_model

    options = Options(
        name=name,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        example_file=Path(example_file) if example_file is not None else None,
        vectors=vectors,
        seed=seed,
        allow_pickle=allow_pickle,
        quantize=quantize,
        calibration=os.fspath(calibration) if calibration is not None else None,
        keep_float=tuple(keep_float),
    )
    return export_model(model if path is None else path, example_inputs, options)
