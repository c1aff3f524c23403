# SPDX-License-Identifier: Apache-2.0
"""A file, a module or an exported program -> one exported program with fixed shapes."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # the operators of converted models, for their archives
import torch.utils._pytree as pytree
from torch.export.graph_signature import InputKind, TensorArgument

from emx.errors import EmxError, Problem
from emx.exporter import archive, pickles, scripts
from emx.exporter.convert import Unconvertible, tensor_type, to_numpy, torch_dtype, user_inputs
from emx.exporter.decompose import KEEPS_STATE
from emx.exporter.inputs import generate
from emx.exporter.signature import register_dataclasses
from emx.exporter.torchtools import HINTS, explained
from emx.ir import Array, TensorType

_UNKNOWN_TYPE = "which is not a known type"
_EXPORT_HINTS = {
    "DynamicCache": "a model of transformers: set model.config.use_cache = False",
    _UNKNOWN_TYPE: "return tensors in tuples, lists, dicts, named tuples or dataclasses",
} | HINTS
_SELF = re.compile(r"\bself\.[\w.\[\]']+")
Pins = Mapping[str, TensorType]


@dataclass(frozen=True)
class Source:
    """A program, the module it came from (what PyTorch itself runs), and the user's own inputs.

    `samples` is empty or has one array for each input.
    """

    program: Any
    module: Any
    inputs: tuple[tuple[str, TensorType], ...]
    samples: Mapping[str, Array]


def from_path(path: str, example_inputs: Any, pins: Pins, allow_pickle: bool) -> Source:
    """Load an archive of torch.export.save, a script's factory, or, if allowed, a pickle."""
    if script := scripts.split(path):
        module, examples = scripts.run(*script)
        return from_module(module, examples if example_inputs is None else example_inputs, pins)
    file = Path(path)
    data = archive.read(file)
    if archive.kind_of(data, file) is archive.Kind.EXPORTED:
        with explained(f"PyTorch cannot use {file.name}", hint=archive.AGAIN):
            checked = archive.check(data, file)
            del data  # PyTorch reads the tensors from what is checked
            return from_program(load_archive(checked, file), pins)
    if not allow_pickle:
        raise pickles.refuse(data, file)
    return from_module(pickles.load(data, file), example_inputs, pins)


def load_archive(checked: archive.Checked, path: Path) -> Any:
    """The program of an archive that passed every check which needs no PyTorch."""
    try:
        samples = torch.load(io.BytesIO(checked.sample_inputs), weights_only=True)
    except Exception:  # a pickle that needs more than tensors, or a damaged one
        raise archive.refuse(path, "data/sample_inputs/model.pt", "its sample inputs hold more "
                             "than tensors and plain values") from None  # fmt: skip
    with explained(f"PyTorch cannot load {path.name}", hint=archive.AGAIN):
        program = torch.export.load(checked.archive)
    if _is_call(samples):
        program.example_inputs = samples
    return program


def _is_call(samples: Any) -> bool:
    """True for (args, kwargs)."""
    pair = isinstance(samples, tuple) and len(samples) == 2
    return pair and isinstance(samples[0], tuple) and isinstance(samples[1], dict)


def from_program(program: Any, pins: Pins) -> Source:
    """Check the signature; dynamic extents that `pins` names are fixed by a new export."""
    dynamic = [n for n, value in _arguments(program) if not _fixed(value)]
    if dynamic and all(name in pins for name in dynamic):
        args, kwargs = _example_for(program, pins)
        what = "the model cannot be exported with the shapes of --inputs"
        program = _torch_export(program.module(), args, kwargs, what)
        program.example_inputs = None
    return _source(program, program.module(), pins)


def from_module(module: Any, example_inputs: Any, pins: Pins) -> Source:
    """Export a module; `example_inputs` is a tensor, a tuple of arguments, or a dict by name."""
    if not isinstance(module, torch.nn.Module):
        raise EmxError(
            f"expected a torch.nn.Module, got {type(module).__name__}",
            hint="a model is an nn.Module, an ExportedProgram, or a path",
        )
    args, kwargs = _call_arguments(module, example_inputs, pins)
    what = "torch.export cannot export this model"
    try:
        pristine, traced = copy.deepcopy(module), copy.deepcopy(module)
    except Exception:  # some modules hold tensors that cannot be copied (weight_norm)
        pristine, traced = None, module
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        program = _torch_export(traced, args, kwargs, what)
    _refuse_kept_tensors(pristine, args, kwargs, [str(w.message) for w in said])
    if pins:
        program.example_inputs = None  # made up from the pins
    return _source(program, pristine or program.module(), pins)


def _refuse_kept_tensors(module: Any, args: Any, kwargs: Any, said: list[str]) -> None:
    """Refuse a model that assigns tensors to attributes and computes with them in the next call.

    torch.export warns of each such attribute, but most models only put them there to be looked at.
    """
    kept = [
        name for text in said if "assigned during export" in text for name in _SELF.findall(text)
    ]
    if not kept or module is None:
        return
    model = copy.deepcopy(module)
    with torch.no_grad():
        first, second = (pytree.tree_leaves(model(*args, **kwargs)) for _ in range(2))
    same = all(
        torch.equal(a, b) for a, b in zip(first, second, strict=True) if isinstance(a, torch.Tensor)
    )
    if not same:
        raise EmxError(
            f"the model computes with a tensor of its last call: {', '.join(kept)}",
            hint=KEEPS_STATE,
        )


def _torch_export(module: Any, args: Any, kwargs: Any, what: str) -> Any:
    register_dataclasses((args, kwargs))
    # One tensor given for two arguments would be traced as one argument.
    args, kwargs = pytree.tree_map_only(torch.Tensor, torch.clone, (args, kwargs))
    # PyTorch prints whole graphs when it fails.
    with explained(what, hints=_EXPORT_HINTS), contextlib.redirect_stdout(io.StringIO()):
        try:
            return torch.export.export(module, args, kwargs)
        except RuntimeError as error:
            if _UNKNOWN_TYPE not in str(error) or not _returns_dataclasses(module, args, kwargs):
                raise
        return torch.export.export(module, args, kwargs)


def _returns_dataclasses(module: Any, args: Any, kwargs: Any) -> bool:
    """Make known to PyTorch the dataclasses that a copy of the module returns."""
    model, args, kwargs = copy.deepcopy((module, args, kwargs))
    with torch.no_grad():
        return register_dataclasses(model(*args, **kwargs))


def _source(program: Any, module: Any, pins: Pins) -> Source:
    inputs = _signature(program)
    _check_pins(inputs, pins)
    return Source(program, module, inputs, _samples(program, inputs))


def _arguments(program: Any) -> list[tuple[str, Any]]:
    """(name, fake tensor) of the inputs, named like the arguments of forward()."""
    placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    return [(s.arg.name, placeholders[s.arg.name].meta["val"]) for s in user_inputs(program)]


def _fixed(value: Any) -> bool:
    return all(isinstance(d, int) for d in value.shape)


def _signature(program: Any) -> tuple[tuple[str, TensorType], ...]:
    inputs, problems = [], []
    for name, value in _arguments(program):
        try:
            if not _fixed(value):
                raise Unconvertible("its shape is not fixed", _pin_hint(name, value))
            inputs.append((name, tensor_type(value)))
        except Unconvertible as error:
            what, hint = error.args
            problems.append(Problem(f"the input {name}: {what}", hint=hint))
    if problems:
        raise EmxError.of(problems, "inputs are not supported")
    if not inputs:
        raise EmxError("the model has no input tensor", hint="forward() must take a tensor")
    return tuple(inputs)


def _pin_hint(name: str, value: Any) -> str:
    """How to fix the shape; with the extents that the model was exported with."""
    static = torch.empty([d if isinstance(d, int) else d.node.hint or 1 for d in value.shape],
                         dtype=value.dtype, device="meta")  # fmt: skip
    return f"fix it: --inputs {name}={tensor_type(static)}"


def _check_pins(inputs: tuple[tuple[str, TensorType], ...], pins: Pins) -> None:
    types = dict(inputs)
    for name, pin in pins.items():
        if name not in types:
            raise EmxError(
                f"the model has no input {name}", hint=f"its inputs are {', '.join(types)}"
            )
        if types[name] != pin:
            raise EmxError(
                f"the input {name} is {types[name]}, not {pin}",
                hint="the shape was fixed when the model was exported: export it again",
            )


def _samples(program: Any, inputs: tuple[tuple[str, TensorType], ...]) -> dict[str, Array]:
    """The inputs that the model was exported with."""
    if program.example_inputs is None:
        return {}
    leaves = pytree.tree_leaves(program.example_inputs)
    specs = [s for s in program.graph_signature.input_specs if s.kind == InputKind.USER_INPUT]
    if len(leaves) != len(specs):
        return {}
    tensors = [v for v, s in zip(leaves, specs, strict=True) if isinstance(s.arg, TensorArgument)]
    if not all(isinstance(v, torch.Tensor) for v in tensors):
        return {}
    samples = {name: to_numpy(v) for (name, _), v in zip(inputs, tensors, strict=True)}
    if any(a.shape != t.dims for a, (_, t) in zip(samples.values(), inputs, strict=True)):
        return {}
    return samples


def _example_for(program: Any, pins: Pins) -> tuple[Any, Any]:
    """Arguments of a call with the shapes of `pins`."""
    user = iter(_arguments(program))
    flat = []
    for spec in program.graph_signature.input_specs:
        if spec.kind != InputKind.USER_INPUT:
            continue
        if not isinstance(spec.arg, TensorArgument):
            flat.append(spec.arg.value)
            continue
        name, value = next(user)
        flat.append(_random(len(flat), pins[name] if name in pins else tensor_type(value)))
    return pytree.tree_unflatten(flat, program.call_spec.in_spec)  # type: ignore[no-any-return]


def _call_arguments(module: Any, example_inputs: Any, pins: Pins) -> tuple[Any, Any]:
    """Positional and keyword arguments of one call of `module`."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example_inputs, Mapping):
        kwargs = dict(example_inputs)
    elif isinstance(example_inputs, tuple | list):
        args = tuple(example_inputs)
    elif example_inputs is not None:
        args = (example_inputs,)
    if not args and not kwargs and not pins:
        raise EmxError(
            "a module needs example inputs to be exported",
            hint="give their types: --inputs x=f32[1x3x32x32] (in Python: example_inputs=(x,))",
        )
    try:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs)
    except TypeError as error:
        raise EmxError(f"the example inputs do not fit forward(): {error}") from None
    for index, (name, pin) in enumerate(pins.items()):
        if name not in bound.signature.parameters:
            known = ", ".join(bound.signature.parameters)
            raise EmxError(f"forward() has no argument {name}", hint=f"its arguments are {known}")
        bound.arguments[name] = _random(index, pin)
    return bound.args, bound.kwargs


def _random(index: int, t: TensorType) -> Any:
    return torch.from_numpy(generate(index, t, 1, 0)[0]).to(torch_dtype(t.dtype))
