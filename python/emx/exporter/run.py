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
from emx.exporter import calibration, eager, scripts, sources
from emx.exporter.convert import convert
from emx.exporter.decompose import decompose
from emx.exporter.inputs import generate, parse_pins, read_example_file
from emx.exporter.quantise import Progress, Quantised, check_scales, quantise
from emx.exporter.signature import output_names
from emx.exporter.torchtools import calm, explained
from emx.ir import Array
from emx.names import c_identifier, require_identifier
from emx.version import VERSION


@dataclass(frozen=True)
class Options:
    """The options of emx.exporter.export()."""

    name: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    example_file: Path | None = None
    vectors: int = 4
    seed: int = 0
    allow_pickle: bool = False
    quantize: str | None = None
    calibration: calibration.Given | None = None
    keep_float: tuple[str, ...] = ()


def export_model(
    model: Any, example_inputs: Any, options: Options, progress: Progress | None = None
) -> Bundle:
    """Export a model that is not a bundle."""
    if options.vectors < 1:
        raise EmxError(f"{options.vectors} test vectors", hint="one is the least")
    with calm(), neighbours(model, options):
        source, quantised = read_model(model, example_inputs, options, progress)
        names = output_names(source.program, options.outputs, {n for n, _ in source.inputs})
        inputs = _test_inputs(source, quantised, options)
        source = quantised.source if quantised else source
        functional = decompose(source.program)
        bundle = convert(functional, _name(model, options), source.inputs, names, producer())
        with explained("the model fails on its test inputs", hint=_INPUT_HINT):
            outputs = eager.eager_outputs(source.module, source.program, bundle, inputs)
            layers = eager.layer_values(functional, bundle, inputs)
    tensors = bundle.tensors
    if not isinstance(model, str):  # whose memory is the caller's, who may train it further
        tensors = {name: data.copy() for name, data in tensors.items()}
    return replace(bundle, tensors=tensors, vectors=Vectors(inputs, outputs, layers))


def read_model(
    model: Any, example_inputs: Any, options: Options, progress: Progress | None = None
) -> tuple[sources.Source, Quantised | None]:
    """The model as it is, and quantised if the options say so."""
    given = options.calibration is not None
    if options.quantize is None and (given or options.keep_float):
        what = "calibration data" if given else "modules to keep in float"
        raise EmxError(f"{what} for a model that is not quantised", hint="add --quantize int8")
    source = _source(model, example_inputs, options)
    if options.quantize is None:
        check_scales(source.program)
        return source, None
    return source, quantise(
        source,
        options.quantize,
        options.calibration,
        options.keep_float,
        progress or (lambda what, done, total: None),
    )


def neighbours(model: Any, options: Options) -> contextlib.AbstractContextManager[None]:
    """Let a script or a pickle import the files beside it, also during its calls; no other."""
    if isinstance(model, str) and (scripts.split(model) or options.allow_pickle):
        return scripts.importable(Path(model).parent)
    return contextlib.nullcontext()


def _source(model: Any, example_inputs: Any, options: Options) -> sources.Source:
    pins = parse_pins(options.inputs)
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


def _test_inputs(
    source: sources.Source, quantised: Quantised | None, options: Options
) -> Mapping[str, Array]:
    """The user's own inputs first, or those for calibration, then generated ones; first axis: test
    vector.

    Sample inputs that are all one value, such as zeros, test little: they only give the shapes, and
    the values that integers may have.
    """
    given: Mapping[str, Array] = {name: a[None] for name, a in source.samples.items()}
    plain = all(a.size == 0 or (a == a.flat[0]).all() for a in given.values())
    if options.example_file is not None:
        given, plain = read_example_file(options.example_file, source.inputs), False
    elif quantised is not None and quantised.samples:
        given, plain = calibration.spread(quantised.samples, options.vectors), False
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
