# SPDX-License-Identifier: Apache-2.0
"""The export, stage by stage: source -> program -> bundle -> test vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emx.bundle import Bundle, Vectors
from emx.errors import EmxError
from emx.exporter import eager, scripts, sources
from emx.exporter.convert import convert
from emx.exporter.decompose import decompose
from emx.exporter.inputs import generate, parse_pins, read_example_file
from emx.exporter.signature import output_names
from emx.exporter.torchtools import calm, explained
from emx.ir import Array
from emx.names import c_identifier, require_identifier
from emx.version import VERSION


@dataclass(frozen=True)
class Options:
    """The options of emx.exporter.export()."""

    name: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example_file: Path | None
    vectors: int
    seed: int
    allow_pickle: bool
    quantize: str | None = None
    calibration: str | None = None
    keep_float: tuple[str, ...] = ()


def export_model(model: Any, example_inputs: Any, options: Options) -> Bundle:
    """Export a model that is not a bundle."""
    if options.vectors < 1:
        raise EmxError(f"{options.vectors} test vectors", hint="one is the least")
    pins = parse_pins(options.inputs)
    with calm(), _neighbours(model, options):
        source = _source(model, example_inputs, pins, options)
        functional = decompose(source.program)
        names = output_names(source.program, options.outputs, {n for n, _ in source.inputs})
        bundle = convert(functional, _name(model, options), source.inputs, names, producer())
        inputs = _test_inputs(source, options)
        with explained("the model fails on its test inputs", hint=_INPUT_HINT):
            outputs = eager.eager_outputs(source.module, source.program, bundle, inputs)
            layers = eager.layer_values(functional, bundle, inputs)
    tensors = bundle.tensors
    if not isinstance(model, str):  # whose memory is the caller's, who may train it further
        tensors = {name: data.copy() for name, data in tensors.items()}
    return replace(bundle, tensors=tensors, vectors=Vectors(inputs, outputs, layers))


def _neighbours(model: Any, options: Options) -> contextlib.AbstractContextManager[None]:
    """Let a script or a pickle import the files beside it, also during its calls; no other."""
    if isinstance(model, str) and (scripts.split(model) or options.allow_pickle):
        return scripts.importable(Path(model).parent)
    return contextlib.nullcontext()


def _source(
    model: Any, example_inputs: Any, pins: sources.Pins, options: Options
) -> sources.Source:
    if isinstance(model, str):
        return sources.from_path(model, example_inputs, pins, options.allow_pickle)
    if isinstance(model, torch.export.ExportedProgram):
        return sources.from_program(model, pins)
    return sources.from_module(model, example_inputs, pins)


_INPUT_HINT = "if it needs inputs in a certain range, give some: --example-inputs FILE.npz"


def _name(model: Any, options: Options) -> str:
    """The prefix of everything in C: what the user says, or the file's name made fit for it."""
    if options.name is None:
        stem = Path(model.rpartition(":")[0] or model).stem if isinstance(model, str) else "model"
        return c_identifier(stem)
    return require_identifier(options.name)


def _test_inputs(source: sources.Source, options: Options) -> Mapping[str, Array]:
    """The user's own inputs first, then generated ones; first axis: test vector.

    Sample inputs that are all one value, such as zeros, test little: they only give the shapes, and
    the values that integers may have.
    """
    given: Mapping[str, Array] = {name: a[None] for name, a in source.samples.items()}
    plain = all(a.size == 0 or (a == a.flat[0]).all() for a in given.values())
    if options.example_file is not None:
        given, plain = read_example_file(options.example_file, source.inputs), False
    inputs = {}
    for index, (name, t) in enumerate(source.inputs):
        examples = given.get(name, np.empty((0, *t.dims), t.dtype.numpy))
        own = examples[: 0 if plain else options.vectors]
        generated = generate(index, t, options.vectors - len(own), options.seed, examples)
        inputs[name] = np.concatenate([own, generated])
    return inputs


def producer() -> dict[str, str]:
    """What a bundle's numbers depend on besides the model."""
    return {
        "emx": VERSION,
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
