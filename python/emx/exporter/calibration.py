# SPDX-License-Identifier: Apache-2.0
"""Typical inputs of a model, from which the ranges of its values are taken."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emx.errors import EmxError
from emx.exporter import scripts
from emx.exporter.inputs import Signature, batches, read_arrays
from emx.exporter.torchtools import explained
from emx.ir import Array

# The next sample exceeds the largest value of n others in one of n + 1 cases.
LEAST = 8
MOST = 4096  # of a script's function, which may never end
_GIVES = "it yields, or returns a list of, the inputs of calls: a tensor, a tuple or a dict by name"
_DATA = "calibration data"
_SAMPLES = f"{_DATA} of"


Given = str | Array | Mapping[str, Array]


def read(given: Given, signature: Signature) -> dict[str, Array]:
    """Samples by input; first axis: sample. `given` names an .npz or .pt file or the function of a
    script ("data.py:batches"), or is what is in such a file: an array for each input, named like
    it. Where there is one input any single array, or the one called x, will do.
    """
    source = given if isinstance(given, str) else None
    script = scripts.split(given) if isinstance(given, str) else None
    if script is not None:
        samples = _from_script(*script, signature)
    else:
        arrays = _read(Path(given), signature) if isinstance(given, str) else given
        samples = batches(_named(arrays, signature), signature, Path(source or _DATA), _SAMPLES)
    count = len(next(iter(samples.values())))
    if count < LEAST:
        raise EmxError(
            f"{count} calibration sample{'s are' if count > 1 else ' is'} too few to tell the "
            "range of values",
            at=source,
            hint=f"give {LEAST} at least; a hundred typical inputs are a good start",
        )
    for name, array in samples.items():
        _check_values(name, array, source)
    return samples


def _check_values(name: str, array: Array, source: str | None) -> None:
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        what = f"holds NaN or infinity, first in sample {int(finite.argmin())}"
    elif array.dtype.kind == "f" and not array.any():
        what = "is zero throughout: its scale would be zero"
    else:
        return
    hint = "give inputs as the model will see them"
    raise EmxError(f"the {_DATA} of {name} {what}", at=source, hint=hint)


def _read(path: Path, signature: Signature) -> Mapping[str, Array]:
    if not path.is_file():
        raise EmxError(f"there is no file {path}", hint=f"it was given as {_DATA}")
    return read_arrays(path, signature, _DATA)


def _named(arrays: Array | Mapping[str, Array], signature: Signature) -> Mapping[str, Array]:
    """The arrays by input; a single one has the name of the single input."""
    found = dict(arrays) if isinstance(arrays, Mapping) else {"x": _array(arrays)}
    only = "x" if "x" in found else next(iter(found), "")
    if len(signature) == 1 and signature[0][0] not in found and (only == "x" or len(found) == 1):
        found[signature[0][0]] = found[only]
    return found


def _from_script(script: Path, function: str, signature: Signature) -> dict[str, Array]:
    with scripts.importable(script.parent), explained(f"{function}() of {script.name} fails"):
        given = scripts.call(script, function, _GIVES)
        if not isinstance(given, Iterable) or isinstance(given, torch.Tensor | Mapping):
            kind = type(given).__name__
            raise EmxError(
                f"{function}() of {script.name} returns one {kind}, not many inputs",
                at=str(script),
                hint=_GIVES,
            )
        calls = [_by_name(c, script, signature) for c in itertools.islice(given, MOST)]
    if not calls:
        raise EmxError(f"{function}() of {script.name} gives nothing", at=str(script), hint=_GIVES)
    samples = [batches(arrays, signature, script, _SAMPLES) for arrays in calls]
    return {name: np.concatenate([s[name] for s in samples]) for name, _ in signature}


def _by_name(call: Any, script: Path, signature: Signature) -> dict[str, Array]:
    """The inputs of one call."""
    if isinstance(call, Mapping):
        return {str(k): _array(v) for k, v in call.items()}
    values = call if isinstance(call, tuple | list) else (call,)
    if len(values) != len(signature):
        raise EmxError(
            f"{script.name} gives {len(values)} inputs for a call, the model has {len(signature)}",
            at=str(script),
            hint=_GIVES,
        )
    return {name: _array(v) for (name, _), v in zip(signature, values, strict=True)}


def _array(value: Any) -> Array:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def spread(samples: Mapping[str, Array], count: int) -> dict[str, Array]:
    """`count` of the samples, or all, evenly spread."""
    total = len(next(iter(samples.values())))
    chosen = np.linspace(0, total - 1, min(count, total)).round().astype(int)
    return {name: a[chosen] for name, a in samples.items()}
