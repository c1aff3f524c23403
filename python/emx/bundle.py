# SPDX-License-Identifier: Apache-2.0
"""The bundle: everything emx needs of a model, without PyTorch, in one file.

A zip archive (stored, no time stamps), specified in docs/output-format.md:

  format                       "emx-bundle 1\\n"
  graph.json                   signature, nodes with origins, tensor table; one node per line
  tensors/NAME                 raw little-endian data of parameters, buffers and constants
  vectors.json                 test vectors: table of the arrays below
  vectors/inputs/NAME          raw, first axis: test vector
  vectors/outputs/NAME         raw, what PyTorch gave
  vectors/layers/NAME          raw, what PyTorch gave for a node, for test vector 0 only

`model_hash` covers format, graph.json and tensors/, not the vectors.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from emx.errors import EmxError
from emx.ir import Array, DType, Origin, TensorType, raw

FORMAT = b"emx-bundle 1\n"
_DATE = (1980, 1, 1, 0, 0, 0)
_PIECE = 1 << 20  # bytes that are read at once


@dataclass(frozen=True)
class Ref:
    """An argument that is a tensor: a node's output ("conv2d", or "topk.1" for the second of
    several), an input, or a tensor of the bundle."""

    name: str


Arg = None | bool | int | float | str | DType | Ref | tuple["Arg", ...]


@dataclass(frozen=True)
class AtenNode:
    """One ATen call, with the types PyTorch gave its outputs."""

    name: str
    target: str  # "aten.conv2d.default"
    args: tuple[Arg, ...]
    kwargs: Mapping[str, Arg]
    outputs: tuple[TensorType, ...]
    origin: Origin = field(default_factory=Origin)

    @property
    def output_names(self) -> tuple[str, ...]:
        if len(self.outputs) == 1:
            return (self.name,)
        return tuple(f"{self.name}.{i}" for i in range(len(self.outputs)))


@dataclass(frozen=True)
class Vectors:
    """Test vectors. The first axis of inputs and outputs counts vectors; `layers` has the value
    of every node's output that depends on an input, for vector 0."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    layers: Mapping[str, Array] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return min((len(a) for a in self.outputs.values()), default=0)


@dataclass(frozen=True)
class Bundle:
    """A model as ATen calls on named tensors.

    inputs   (argument name, type), in call order
    outputs  (output name, the value it is)
    """

    name: str
    inputs: tuple[tuple[str, TensorType], ...]
    outputs: tuple[tuple[str, Ref], ...]
    nodes: tuple[AtenNode, ...]
    tensors: Mapping[str, Array]
    vectors: Vectors
    producer: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def model_hash(self) -> str:
        """SHA-256 over everything that decides the generated code; vectors stay outside."""
        digest = hashlib.sha256(FORMAT + _graph_json(self))
        for name, data in self.tensors.items():
            digest.update(name.encode() + b"\0")
            digest.update(raw(data))
        return digest.hexdigest()

    def with_vectors(self, count: int) -> Bundle:
        """The same model with the first `count` test vectors."""
        inputs = {name: a[:count] for name, a in self.vectors.inputs.items()}
        outputs = {name: a[:count] for name, a in self.vectors.outputs.items()}
        return replace(self, vectors=Vectors(inputs, outputs, self.vectors.layers))

    def to_bytes(self) -> bytes:
        out = io.BytesIO()
        self._write(out)
        return out.getvalue()

    def _write(self, out: BinaryIO) -> None:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
            for name, data in _members(self):
                z.writestr(zipfile.ZipInfo(name, _DATE), data)

    def save(self, path: Path) -> None:
        """Write the bundle; the file appears whole or not at all."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as stream:
                self._write(stream)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @staticmethod
    def load(path: Path) -> Bundle:
        """Read a bundle; a damaged one is an EmxError."""
        try:
            with zipfile.ZipFile(path) as z:
                bundle = _read(z, path)
            _validate(bundle)
            return bundle
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError) as error:
            raise EmxError(
                f"{path.name} is damaged: {error}", at=str(path), hint="export the model again"
            ) from None


def is_bundle(path: Path) -> bool:
    """True for a zip archive whose first member is an emx `format` file."""
    try:
        with zipfile.ZipFile(path) as z:
            return z.namelist()[:1] == ["format"]
    except (OSError, zipfile.BadZipFile):
        return False


def _members(b: Bundle) -> Iterator[tuple[str, bytes | memoryview]]:
    v = b.vectors
    groups = {"inputs": v.inputs, "outputs": v.outputs, "layers": v.layers}
    tables = {
        kind: {k: _type_text(a) for k, a in arrays.items()} for kind, arrays in groups.items()
    }
    table = json.dumps({"producer": dict(b.producer), **tables}, indent=1)
    yield "format", FORMAT
    yield "graph.json", _graph_json(b)
    yield from ((f"tensors/{name}", raw(data)) for name, data in b.tensors.items())
    yield "vectors.json", table.encode()
    for kind, arrays in groups.items():
        yield from ((f"vectors/{kind}/{name}", raw(data)) for name, data in arrays.items())


def _graph_json(b: Bundle) -> bytes:
    head = {
        "name": b.name,
        "inputs": [[name, str(t)] for name, t in b.inputs],
        "outputs": [[name, ref.name] for name, ref in b.outputs],
        "tensors": {name: _type_text(data) for name, data in b.tensors.items()},
    }
    nodes = ",\n".join("  " + json.dumps(_node_json(n)) for n in b.nodes)
    return (json.dumps(head, indent=1)[:-2] + ',\n "nodes": [\n' + nodes + "\n ]\n}\n").encode()


def _node_json(n: AtenNode) -> dict[str, Any]:
    return {
        "name": n.name,
        "target": n.target,
        "args": [_arg_json(a) for a in n.args],
        "kwargs": {k: _arg_json(a) for k, a in n.kwargs.items()},
        "outputs": [str(t) for t in n.outputs],
        "origin": [n.origin.module, n.origin.source, n.origin.text],
    }


def _arg_json(a: Arg) -> Any:
    if isinstance(a, Ref):
        return {"ref": a.name}
    if isinstance(a, DType):
        return {"dtype": a.value}
    if isinstance(a, float) and not np.isfinite(a):
        return {"float": str(a)}
    if isinstance(a, tuple):
        return [_arg_json(x) for x in a]
    return a


def _parse_arg(a: Any) -> Arg:
    if isinstance(a, list):
        return tuple(_parse_arg(x) for x in a)
    if isinstance(a, dict):
        ((kind, value),) = a.items()
        kinds: dict[str, Callable[[Any], Arg]] = {"ref": Ref, "dtype": DType, "float": float}
        return kinds[kind](value)
    if a is None or isinstance(a, bool | int | float | str):
        return a
    raise ValueError(f"unknown argument {a!r}")


def parse_type(text: str) -> TensorType:
    """Parse "f32[1x3x8x8]"; "f32[]" is a scalar."""
    dtype, bracket, rest = text.partition("[")
    if not bracket or not rest.endswith("]"):
        raise ValueError(f"not a tensor type: {text!r}")
    dims = rest[:-1]
    return TensorType(tuple(int(d) for d in dims.split("x")) if dims else (), DType(dtype))


def _read(z: zipfile.ZipFile, path: Path) -> Bundle:
    if z.read("format") != FORMAT:
        raise EmxError(
            f"{path.name} was written by another version of emx: {z.read('format')[:40]!r}",
            at=str(path),
            hint="export the model again with this version",
        )
    head = json.loads(z.read("graph.json"))
    table = json.loads(z.read("vectors.json"))
    arrays = {
        kind: {k: _array(z, f"vectors/{kind}/{k}", t) for k, t in table[kind].items()}
        for kind in ("inputs", "outputs", "layers")
    }
    return Bundle(
        name=head["name"],
        inputs=tuple((name, parse_type(t)) for name, t in head["inputs"]),
        outputs=tuple((name, Ref(ref)) for name, ref in head["outputs"]),
        nodes=tuple(_parse_node(n) for n in head["nodes"]),
        tensors={k: _array(z, f"tensors/{k}", t) for k, t in head["tensors"].items()},
        vectors=Vectors(**arrays),
        producer=table["producer"],
    )


def _validate(b: Bundle) -> None:
    """Every name is defined before it is used; the vectors fit the signature."""
    known = {name for name, _ in b.inputs} | set(b.tensors)
    for n in b.nodes:
        for name in _refs((*n.args, *n.kwargs.values())):
            if name not in known:
                raise ValueError(f"{n.name} reads {name}, which nothing defines")
        known.update(n.output_names)
    for _, ref in b.outputs:
        if ref.name not in known:
            raise ValueError(f"the output {ref.name} is not defined")
    for name, t in b.inputs:
        if b.vectors.inputs[name].shape != (b.vectors.count, *t.dims):
            raise ValueError(f"the test vectors of {name} do not fit {t}")
    if set(b.vectors.outputs) != {name for name, _ in b.outputs}:
        raise ValueError("the test vectors are those of other outputs")


def _refs(args: Iterable[Arg]) -> Iterator[str]:
    for a in args:
        if isinstance(a, Ref):
            yield a.name
        elif isinstance(a, tuple):
            yield from _refs(a)


def _parse_node(n: Any) -> AtenNode:
    return AtenNode(
        name=n["name"],
        target=n["target"],
        args=tuple(_parse_arg(a) for a in n["args"]),
        kwargs={k: _parse_arg(a) for k, a in n["kwargs"].items()},
        outputs=tuple(parse_type(t) for t in n["outputs"]),
        origin=Origin(*n["origin"]),
    )


def _type_text(data: Array) -> str:
    return str(TensorType(tuple(data.shape), DType.of(data.dtype)))


def _array(z: zipfile.ZipFile, member: str, text: str) -> Array:
    """Read in pieces: zipfile would need twice the memory of the whole."""
    t = parse_type(text)
    array = np.empty(t.dims, t.dtype.numpy)
    view, at = raw(array), 0
    with z.open(member) as stream:
        while piece := stream.read(_PIECE):
            view[at : at + len(piece)] = piece
            at += len(piece)
    if at != len(view):
        raise ValueError(f"{member} is {at} bytes instead of {len(view)}")
    array.flags.writeable = False
    return array
