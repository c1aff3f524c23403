# SPDX-License-Identifier: Apache-2.0
"""Names for the outputs of a program, as a person would choose them, and the containers around.

The rules stand in docs/output-format.md. They read the program alone, so that an archive and the
script that wrote it give the same names.
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch.export.graph_signature import OutputKind, TensorArgument

from emx.errors import EmxError
from emx.exporter.origin import user_frames

_ASSIGNMENT = re.compile(r"([^=:]*?)(?::[^=]*)?[-+*/@]?=(?!=)")
_NUMBERED = re.compile(r"getitem|.*_\d+")


def register_dataclasses(values: Any) -> bool:
    """Make known to PyTorch the dataclasses among `values`; False if there is no new one."""
    leaves = (leaf for leaf in pytree.tree_leaves(values) if not isinstance(leaf, type))
    found = {type(leaf) for leaf in leaves if dataclasses.is_dataclass(leaf)}
    for cls in found:
        torch.export.register_dataclass(
            cls, serialized_type_name=f"{cls.__module__}.{cls.__qualname__}"
        )
    if found:
        register_dataclasses(values)  # dataclasses in their fields
    return bool(found)


def output_names(program: Any, wanted: tuple[str, ...], inputs: Iterable[str]) -> tuple[str, ...]:
    """A name for each tensor that the program returns."""
    spec = program.call_spec.out_spec
    numbered = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths = [path for path, _ in pytree.tree_flatten_with_path(numbered)[0]]
    results = [s for s in program.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    nodes = {n.name: n for n in program.graph.nodes}
    tensors = [
        (path, _before_quantising(nodes[result.arg.name]))
        for path, result in zip(paths, results, strict=True)
        if isinstance(result.arg, TensorArgument)
    ]
    names = _fill(
        [_path_name(path) or _variable(node) or _argument(program, node) for path, node in tensors],
        [_call_name(node) for _, node in tensors],
    )
    if wanted and len(wanted) != len(names):
        raise EmxError(
            f"{len(wanted)} names for {len(names)} outputs", hint=f"they are {', '.join(names)}"
        )
    if not names:
        raise EmxError("the model returns no tensor", hint="forward() must return a tensor")
    return _unique(wanted or names, frozenset(inputs))


def _before_quantising(node: Any) -> Any:
    """The call that computes a value which is quantised, and perhaps dequantised, at last."""
    while "quantize_per_" in str(node.target) and node.op == "call_function":
        node = node.args[0]
    return node


def _path_name(path: Any) -> str:
    """ "scores_0" for out[1]["scores"][0]; empty if no key of the path is a name."""
    keys = [getattr(k, "key", getattr(k, "name", getattr(k, "idx", ""))) for k in path]
    named = itertools.dropwhile(lambda key: not isinstance(key, str), keys)
    return re.sub(r"\W+", "_", "_".join(map(str, named)))


def _variable(node: Any) -> str:
    """The variable that forward() assigns the value to, as far as the line says so."""
    frames = user_frames(node)
    match = _ASSIGNMENT.match(frames[0].text) if frames else None
    if not match:
        return ""
    try:
        target = ast.parse(match[1].strip(), mode="eval").body
    except SyntaxError:
        return ""
    if isinstance(target, ast.Name):
        return target.id
    return _unpacked(target, node)


def _unpacked(target: ast.expr, node: Any) -> str:
    """The variable in "y, (h, c) = ..." of one result of an operator that has three."""
    names = [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]
    line = user_frames(node)[0]
    while node.target is not operator.getitem and len(node.all_input_nodes) == 1:
        (node,) = node.all_input_nodes  # a layer may reshape the operator's results
    if node.target is not operator.getitem or line not in user_frames(node):
        return ""
    source, index = node.args
    return names[index] if len(names) == len(source.meta["val"]) else ""


def _argument(program: Any, node: Any) -> str:
    """The name of an input or parameter that is returned as it is."""
    if node.op != "placeholder":
        return ""
    specs = {s.arg.name: s.target for s in program.graph_signature.input_specs}
    return str(specs[node.name] or node.name).rpartition(".")[2]


def _call_name(node: Any) -> str:
    """The call's name; of an operator with several results what its schema calls this one."""
    if node.target is operator.getitem:
        source, index = node.args
        results = source.target._schema.returns if hasattr(source.target, "_schema") else []
        if index < len(results):  # a list of tensors counts as one result
            return str(results[index].name or node.name)
    return str(node.name)


def _fill(names: Sequence[str], calls: Sequence[str]) -> tuple[str, ...]:
    """`names`; what has none is named after its call, or by its place if there are several such
    calls: a number that counts layers would change with the model."""
    rest = [call for name, call in zip(names, calls, strict=True) if not name]
    if any(map(_NUMBERED.fullmatch, rest)):
        calls = [f"output_{i}" for i in range(len(calls))] if len(calls) > 1 else ["output"]
    return tuple(name or call for name, call in zip(names, calls, strict=True))


def _unique(names: Sequence[str], inputs: frozenset[str]) -> tuple[str, ...]:
    """What is named like an input gets "_out", what is named like another output a number."""
    found: list[str] = []
    for name in names:
        base = f"{name}_out" if name in inputs else name
        candidates = [base, *(f"{base}_{i}" for i in range(1, len(names) + len(inputs) + 1))]
        found.append(next(c for c in candidates if c not in inputs and c not in found))
    return tuple(found)
