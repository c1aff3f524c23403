# SPDX-License-Identifier: Apache-2.0
"""Quantisation after training: a float program and typical inputs -> a program of integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from emx.errors import EmxError, Problem
from emx.exporter import calibration
from emx.exporter.cache import torchao_version
from emx.exporter.decompose import decompose
from emx.exporter.eager import call_arguments
from emx.exporter.inputs import generate
from emx.exporter.origin import common_root, origin_of
from emx.exporter.quant_graph import place_tensor, ready, tensor_at, tensor_of
from emx.exporter.quant_kinds import is_constant
from emx.exporter.schemes import scheme_of
from emx.exporter.sources import Source
from emx.exporter.torchtools import explained
from emx.ir import Array

# Called with what is done, how much of it is, and how much there is.
Progress = Callable[[str, int, int], None]
_CALIBRATE = """name typical inputs: --calibration FILE.npz, which has an array for each input whose
first axis counts samples, or SCRIPT.py:FUNCTION, which gives them one by one"""
_KEEP = """give inputs in the range that the model was trained with, or keep this layer in float:
--keep-float MODULE"""
_AGAIN = "calibrate again, with inputs for which this tensor is neither constant nor infinite"


@dataclass(frozen=True)
class Quantised:
    """source   the program of integers, and what runs it
    samples  what it was calibrated with; first axis: sample
    floats   path of a tensor of integers -> the parameter that they stand for
    """

    source: Source
    samples: Mapping[str, Array]
    floats: Mapping[str, Any]


def is_quantised(program: Any) -> bool:
    return any("quantize_per_" in str(n.target) for n in program.graph.nodes)


def quantise(
    source: Source,
    scheme: str,
    given: calibration.Given | None,
    keep_float: tuple[str, ...],
    progress: Progress,
) -> Quantised:
    """Quantise a float model; EmxError for everything that is wrong with it or its calibration."""
    torchao_version()
    ranges = scheme_of(scheme).activations is not None
    if given is None and ranges:
        raise EmxError("quantising needs calibration data", hint=_CALIBRATE)
    if is_quantised(source.program):
        raise EmxError("the model is quantised already", hint="leave out --quantize")
    samples = {} if given is None else calibration.read(given, source.inputs)
    # Weights alone need no typical inputs, but any.
    inputs = samples or {n: generate(i, t, 1, 0) for i, (n, t) in enumerate(source.inputs)}
    model = ready(decompose(source.program).module(check_guards=False))
    parameters = _parameters(model)
    floats = {path: tensor_at(model, path) for path in parameters.values()}
    prepared = _prepared(model, scheme, keep_float)
    _calibrate(prepared, source.program, inputs, progress if ranges else _quiet)
    _check_ranges(prepared)
    converted, names = _converted(prepared, parameters)
    program = _exported(converted, source.program, inputs)
    quantised = Source(program, program.module(), source.inputs, {})
    return Quantised(quantised, samples, {new: floats[old] for new, old in names.items()})


def _parameters(model: Any) -> dict[tuple[str, int], str]:
    """(node, number of an argument) -> the path of the tensor that it is."""
    return {
        (n.name, i): a.target
        for n in model.graph.nodes
        for i, a in enumerate(n.args)
        if isinstance(a, torch.fx.Node) and is_constant(a)
    }


def _prepared(model: Any, scheme: str, keep_float: tuple[str, ...]) -> Any:
    """The model with observers."""
    with explained("torchao cannot quantise this model"):
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

        from emx.exporter.quantizer import EmxQuantizer

        return prepare_pt2e(model, EmxQuantizer(scheme, keep_float=keep_float))


def _quiet(what: str, done: int, total: int) -> None:
    """No progress."""


def _calibrate(
    prepared: Any, program: Any, samples: Mapping[str, Array], progress: Progress
) -> None:
    count = len(next(iter(samples.values())))
    for k in range(count):
        progress("calibrating", k, count)
        args, kwargs = call_arguments(program, [a[k] for a in samples.values()])
        with torch.no_grad(), explained("the model fails on its calibration data"):
            prepared(*args, **kwargs)


def _check_ranges(prepared: Any) -> None:
    """Refuse what is infinite for a sample: the first such value, the others follow from it."""
    root = common_root(prepared.graph.nodes)
    for node in prepared.graph.nodes:
        if node.op == "call_module" and not getattr(
            prepared.get_submodule(node.target), "is_finite", True
        ):
            value = node.args[0]
            raise EmxError(
                f"{value.name} is NaN or infinite for a calibration sample: it has no scale",
                at=_place(root, value),
                op=str(value.target),
                hint=_KEEP,
            )


def _converted(
    prepared: Any, parameters: Mapping[tuple[str, int], str]
) -> tuple[Any, dict[str, str]]:
    """The model of integers. They get the paths of the parameters that they stand for, as far as
    these are free: new path -> path of the parameter."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    with explained("torchao cannot quantise this model"):
        model = convert_pt2e(prepared)
    model.graph.eliminate_dead_code()
    names: dict[str, str] = {}
    floats = {n.target for n in model.graph.nodes if is_constant(n)}  # that are still there
    for node in model.graph.nodes:
        for i, argument in enumerate(node.args):
            path = parameters.get((node.name, i))
            if path and "dequantize" in str(argument.target) and is_constant(argument.args[0]):
                new = path
                while new in names or new in floats:
                    new += "_"
                names[new] = path
                _rename(model, argument, new)
    model.recompile()
    return model, names


def _rename(model: Any, dequantize: Any, path: str) -> None:
    """Move the integers that are dequantised, and their scales and zero points, to `path`."""
    constants = [a for a in dequantize.args if isinstance(a, torch.fx.Node)]
    for ending, node in zip(("", "_scale", "_zero_point"), constants, strict=False):
        place_tensor(model, path + ending, tensor_of(model, node))
        node.target = path + ending


def _exported(model: Any, program: Any, samples: Mapping[str, Array]) -> Any:
    """The model of integers as a program, called like `program`."""
    args, kwargs = call_arguments(program, [a[0] for a in samples.values()])
    with explained("the quantised model cannot be exported"):
        exported = torch.export.export(model, args, kwargs)
    exported.example_inputs = None
    check_scales(exported, _KEEP)
    return exported


def check_scales(program: Any, hint: str = _AGAIN) -> None:
    """Refuse scales of a quantised program with which nothing can be computed."""
    problems = tuple(_bad_scales(program, hint))
    if problems:
        raise EmxError.of(problems, "scales are zero or infinite")


def _bad_scales(program: Any, hint: str) -> Iterator[Problem]:
    root = common_root(program.graph.nodes)
    stored = {s.arg.name: s.target for s in program.graph_signature.input_specs}
    for node in program.graph.nodes:
        if "quantize_per_" not in str(node.target) or len(node.args) < 2:
            continue
        value, scale, *_ = node.args
        if "quantize_per_" in str(value.target):  # dequantises what that, with this scale, makes
            continue
        if isinstance(scale, torch.fx.Node):
            scale = program.state_dict.get(stored.get(scale.name), torch.ones(1))
        values = torch.as_tensor(scale, dtype=torch.float32)
        both = torch.cat([values.flatten(), 1 / values.flatten()])
        if not bool((torch.isfinite(both) & (both > 0)).all()):
            worst = values.flatten()[int((torch.log2(values.flatten()).abs()).argmax())]
            what = f"the scale of {value.name} is {float(worst)}"
            yield Problem(what, _place(root, value, node), str(node.target), hint)


def _place(root: str, *nodes: Any) -> str | None:
    """The origin of the first node that has one: inputs and parameters have none."""
    known = (origin_of(node, root) for node in nodes)
    return next((str(o) for o in known if o.source or o.module), None)
