# SPDX-License-Identifier: Apache-2.0
"""Test inputs: the user's own from a file, and generated ones that are the same everywhere."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from emx.bundle import parse_type
from emx.errors import EmxError
from emx.ir import Array, DType, TensorType

Signature = Sequence[tuple[str, TensorType]]

_SPEC = "write it as NAME=TYPE[SHAPE], for instance x=f32[1x3x32x32]"


def parse_pins(specs: Sequence[str]) -> dict[str, TensorType]:
    """Parse "x=f32[1x3x32x32]" for each input."""
    pins = {}
    for spec in specs:
        name, equals, text = spec.partition("=")
        try:
            pins[name] = parse_type(text)
        except ValueError:
            raise EmxError(f"cannot read the input {spec!r}", hint=_SPEC) from None
        if not equals or not name.isidentifier() or min(pins[name].dims, default=1) < 0:
            raise EmxError(f"cannot read the input {spec!r}", hint=_SPEC)
    return pins


def generate(
    index: int, t: TensorType, count: int, seed: int, examples: Array | None = None
) -> Array:
    """`count` arrays of type `t` for input number `index`; first axis: test vector.

    The words come from Philox, a counter-based generator whose output is fixed by its paper, so
    the inputs do not depend on the version of NumPy. Floats are multiples of 2**-23 in [-1, 1).
    Integers and booleans are elements of `examples`: what is a token, an index or a mask is known
    to the user alone. Without examples integers lie in 0..9.
    """
    key = np.array([seed % 2**64, index], dtype=np.uint64)
    words = np.random.Philox(key=key).random_raw(count * t.size)
    words = np.asarray(words, dtype=np.uint64).reshape(count, *t.dims)
    top = (words >> np.uint64(40)).astype(np.int64)  # 24 bits
    if t.dtype in (DType.F32, DType.F64):
        return (top * 2.0**-23 - 1.0).astype(t.dtype.numpy)
    if examples is not None and examples.size:
        return examples.ravel()[top % examples.size].astype(t.dtype.numpy)
    if t.dtype is DType.BOOL:
        return (top & 1).astype(t.dtype.numpy)
    return (top % 10).astype(t.dtype.numpy)


def read_example_file(path: Path, signature: Signature) -> dict[str, Array]:
    """Arrays of a .npz, .npy or .pt file by input name; first axis: test vector."""
    if not path.is_file():
        raise EmxError(f"there is no file {path}", hint="it was given as example inputs")
    return batches(read_arrays(path, signature, "example inputs"), signature, path)


def batches(
    arrays: Mapping[str, Array], signature: Signature, path: Path, what: str = "example input"
) -> dict[str, Array]:
    """The arrays of `path` by input name, each with a first axis that counts; as many of all."""
    names = [name for name, _ in signature]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise EmxError(
            f"{path.name} has no array for the input {missing[0]}; it has "
            f"{', '.join(arrays) or 'none'}",
            at=str(path),
            hint=f"name the arrays like the model's inputs: {', '.join(names)}",
        )
    found = {name: _batch(arrays[name], f"{what} {name}", t, path) for name, t in signature}
    if len({len(a) for a in found.values()}) > 1:
        counts = ", ".join(f"{name}: {len(a)}" for name, a in found.items())
        raise EmxError(f"the inputs of {path.name} differ in number: {counts}", at=str(path))
    return found


def read_arrays(path: Path, signature: Signature, what: str) -> Mapping[str, Array]:
    """The arrays of a .npz, .npy or .pt file, by name."""
    try:
        if path.suffix == ".npz":
            if not zipfile.is_zipfile(path):
                raise ValueError("it is no .npz archive")
            with np.load(path, allow_pickle=False) as z:
                return {name: z[name] for name in z.files}
        if path.suffix == ".npy":
            return _by_name([np.load(path, allow_pickle=False)], signature, what)
        if path.suffix in (".pt", ".pth"):
            return _read_torch(path, signature, what)
    except EmxError:
        raise
    except Exception as error:  # NumPy and PyTorch raise all kinds for a damaged file
        raise EmxError(
            f"cannot read the {what} {path.name}: {str(error).splitlines()[0]}",
            at=str(path),
            hint="write plain arrays: numpy.savez(FILE, x=...)",
        ) from None
    raise EmxError(
        f"{what} in a {path.suffix or 'nameless'} file are not supported",
        at=str(path),
        hint="give an .npz file with arrays named like the inputs, an .npy file, or a .pt file"
        + (", or name a function: SCRIPT.py:FUNCTION" if path.suffix == ".py" else ""),
    )


def _read_torch(path: Path, signature: Signature, what: str) -> Mapping[str, Array]:
    import torch

    try:
        data: Any = torch.load(path, weights_only=True, map_location="cpu")
    except UnpicklingError:  # its text is advice on how to run the code in a pickle
        raise ValueError("it holds more than tensors") from None
    values = data if isinstance(data, dict | tuple | list) else [data]
    tensors = values.values() if isinstance(values, dict) else values
    if other := [v for v in tensors if not isinstance(v, torch.Tensor)]:
        raise ValueError(f"it holds a value of type {type(other[0]).__name__}, not only tensors")
    if isinstance(values, dict):
        return {str(k): v.detach().numpy() for k, v in values.items()}
    return _by_name([v.detach().numpy() for v in values], signature, what)


def _by_name(arrays: Sequence[Array], signature: Signature, what: str) -> dict[str, Array]:
    if len(arrays) != len(signature):
        raise EmxError(
            f"the {what} hold {len(arrays)} arrays, the model has {len(signature)} inputs",
            hint="write an .npz file with one array for each input, named like the input",
        )
    return {name: a for (name, _), a in zip(signature, arrays, strict=True)}


def _batch(a: Array, what: str, t: TensorType, path: Path) -> Array:
    """`a` with a leading axis that counts test vectors; a batch of a model that takes one."""
    if a.shape == t.dims:
        a = a[None]
    elif t.dims[:1] == (1,) and a.shape[1:] == t.dims[1:]:
        a = a[:, None]
    if a.shape[1:] != t.dims or len(a.shape) != t.rank + 1:
        raise EmxError(
            f"the {what} has shape {_shape(a.shape)}, the model takes {t}",
            at=str(path),
            hint=f"give [{_dims(t)}], or [Nx{_dims(t)}] for N of them",
        )
    if len(a) == 0:
        hint = f"give [Nx{_dims(t)}] for N of them"
        raise EmxError(f"there is nothing in the {what}", at=str(path), hint=hint)
    if a.dtype != t.dtype.numpy:
        raise EmxError(
            f"the {what} has type {a.dtype}, the model takes {t}",
            at=str(path),
            hint=f"convert it: array.astype('{t.dtype.numpy.name}')",
        )
    return np.ascontiguousarray(a)


def _dims(t: TensorType) -> str:
    return "x".join(map(str, t.dims))


def _shape(shape: Sequence[int]) -> str:
    return f"[{'x'.join(map(str, shape))}]"
