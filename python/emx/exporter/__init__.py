# SPDX-License-Identifier: Apache-2.0
"""Model -> Bundle: the only part of emx that runs PyTorch, which is imported when it is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emx.bundle import Bundle, is_bundle
from emx.errors import EmxError
from emx.exporter.cache import cached_export, torch_version
from emx.ir import Array

if TYPE_CHECKING:
    from emx.accuracy import InPyTorch

__all__ = ["cached_export", "export", "outputs_of"]

_QUANTIZE = "quantise the model that it was made of"


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
    calibration: str | os.PathLike[str] | Array | Mapping[str, Array] | None = None,
    keep_float: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
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
    quantize         scheme of a quantisation after training: "int8", "int16x8" (activations of 16
                     bits), "int4" (weights of 4 bits), or "weights-int8" and "weights-int4", which
                     leave activations in float
    calibration      typical inputs for activations: an array for each input, by name, first axis:
                     sample; an .npz or .pt file of them; or a script's function ("data.py:batches")
    keep_float       modules that stay in float, by path: "encoder.layers.0"
    progress         called with what takes long, how much of it is done, and of how much

    Raises EmxError for everything that is wrong with the model.
    """
    path = os.fspath(model) if isinstance(model, str | os.PathLike) else None
    if path is not None and is_bundle(Path(path)):
        if quantize is not None:
            raise EmxError(f"{Path(path).name} is exported already", at=path, hint=_QUANTIZE)
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
        calibration=os.fspath(calibration) if isinstance(calibration, os.PathLike) else calibration,
        keep_float=tuple(keep_float),
    )
    return export_model(model if path is None else path, example_inputs, options, progress)


def outputs_of(
    model: Any, arrays: Mapping[str, Array], example_inputs: Any = None, **options: Any
) -> InPyTorch:
    """What PyTorch computes of inputs by name, first axis: sample; nothing of a bundle. `model` and
    the rest are those of export()."""
    from emx.accuracy import InPyTorch

    path = os.fspath(model) if isinstance(model, str | os.PathLike) else None
    if path is not None and is_bundle(Path(path)):
        return InPyTorch()
    torch_version()
    from emx.exporter import evaluate
    from emx.exporter.run import Options

    settings = Options(**options)
    return evaluate.outputs_of(model if path is None else path, example_inputs, arrays, settings)
