# SPDX-License-Identifier: Apache-2.0
"""What PyTorch computes of many inputs: the float model, and the quantised one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from emx.accuracy import InPyTorch
from emx.exporter import eager
from emx.exporter.constants import placeholders
from emx.exporter.convert import to_numpy, user_inputs
from emx.exporter.decompose import decompose
from emx.exporter.quantise import Quantised, is_quantised
from emx.exporter.run import Options, neighbours, read_model
from emx.exporter.sources import Source
from emx.exporter.torchtools import calm, explained
from emx.ir import Array

LAYER_SAMPLES = 16  # of which the values of layers are kept


def outputs_of(
    model: Any, example_inputs: Any, inputs: Mapping[str, Array], options: Options
) -> InPyTorch:
    """First outputs for `inputs`, first axis: sample, of a model that is not a bundle."""
    with calm(), neighbours(model, options):
        source, quantised = read_model(model, example_inputs, options)
        with explained("the model fails on these inputs"):
            if quantised is None and is_quantised(source.program):
                return InPyTorch(quantised=_first_output(source, inputs))
            floats = _first_output(source, inputs)
            if quantised is None:
                return InPyTorch(floats)
            layers = _float_layers(quantised, inputs)
            return InPyTorch(floats, _first_output(quantised.source, inputs), layers)


def _first_output(source: Source, inputs: Mapping[str, Array]) -> Array:
    count = len(next(iter(inputs.values())))
    rows = (
        eager.call(source.module, source.program, [inputs[name][k] for name, _ in source.inputs])
        for k in range(count)
    )
    return np.stack([to_numpy(row[0]) for row in rows])


def _float_layers(quantised: Quantised, inputs: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Of the first samples: name of a quantised value -> what the float model has there."""
    program = decompose(quantised.source.program)
    count = min(len(next(iter(inputs.values()))), LAYER_SAMPLES)
    names = [name for name, _ in quantised.source.inputs]
    return [_float_values(program, quantised.floats, [inputs[n][k] for n in names])
            for k in range(count)]  # fmt: skip


def _float_values(program: Any, floats: Mapping[str, Any], arrays: list[Array]) -> dict[str, Array]:
    """The program of integers with everything quantised left as it was."""
    values = placeholders(program)
    paths = {s.arg.name: s.target for s in program.graph_signature.input_specs}
    values |= {name: floats[path] for name, path in paths.items() if path in floats}
    specs = zip(user_inputs(program), arrays, strict=True)
    values |= {spec.arg.name: torch.from_numpy(np.array(a)) for spec, a in specs}
    layers: dict[str, Array] = {}
    for node in program.graph.nodes:
        if node.op != "call_function" or any(n.name not in values for n in node.all_input_nodes):
            continue
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: values[n.name])
        same = "quantize_per_" in str(node.target) and args[0].is_floating_point()
        with torch.no_grad():
            values[node.name] = args[0] if same else node.target(*args, **kwargs)
        if same and ".quantize_per_" in str(node.target):
            layers[node.name] = to_numpy(args[0])
    return layers
