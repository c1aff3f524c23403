# SPDX-License-Identifier: Apache-2.0
"""What a program computes without its inputs: masks, positions, weights made of parameters.

PyTorch computes it at the export, whatever the operators are; the bundle has the results. What is
dequantised stays as it is, and with it what is made of that: its integers are what counts.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch

from emx.exporter.decompose import RECURRENT, packet
from emx.exporter.torchtools import explained

# In inference the value of the first argument, whatever the others are.
COPIES = """alias clone detach detach_ lift lift_fresh lift_fresh_copy contiguous dropout
    feature_dropout alpha_dropout feature_alpha_dropout"""
# What these give depends on the type of their first argument, which is known, not on its value.
_LIKE = ("full_like", "zeros_like", "ones_like", "empty_like")
_UNWRITTEN = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


def placeholders(program: Any) -> dict[str, Any]:
    """Placeholder -> the parameter, buffer, constant or plain value that it stands for; tensors
    that the user passes are left out."""
    state = {**program.state_dict, **program.constants}
    values = {}
    for spec in program.graph_signature.input_specs:
        if spec.target in state:
            values[spec.arg.name] = state[spec.target]
        elif hasattr(spec.arg, "value"):
            values[spec.arg.name] = spec.arg.value
    return values


def fold(program: Any) -> dict[str, Any]:
    """Node -> its value (a tensor, a number, a list of them), if it depends on no input.

    Copies are left out: they are the parameter, under its own name.
    """
    values = placeholders(program)
    folded: dict[str, Any] = {}
    for node in program.graph.nodes:
        operands = {n.name: values[n.name] for n in node.all_input_nodes if n.name in values}
        if packet(node.target) in _LIKE:
            operands.setdefault(node.args[0].name, _of_type(node.args[0]))
        if len(operands) < len(node.all_input_nodes) or not is_pure(node):
            continue
        args, kwargs = _arguments(node, operands)
        with torch.no_grad(), explained("a constant of this model cannot be computed"):
            values[node.name] = _call(node, args, kwargs)
        if packet(node.target) not in COPIES.split():
            folded[node.name] = values[node.name]
    return folded


def _arguments(node: Any, operands: Mapping[str, Any]) -> Any:
    return torch.fx.node.map_arg((node.args, node.kwargs), lambda n: operands[n.name])


def _of_type(node: Any) -> Any:
    """A tensor of the node's type, one element of memory large."""
    t = node.meta["val"]
    return torch.zeros((), dtype=t.dtype).expand([d if isinstance(d, int) else 1 for d in t.shape])


def _call(node: Any, args: Any, kwargs: Any) -> Any:
    value = node.target(*args, **kwargs)
    # Memory that nobody wrote holds anything; each export must give the same bytes.
    return torch.zeros_like(value) if packet(node.target) in _UNWRITTEN else value


def is_pure(node: Any) -> bool:
    """True for a call that gives the same each time and changes nothing."""
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return True
    if packet(node.target).startswith("dequantize"):
        return False
    if not isinstance(node.target, torch._ops.OpOverload) or node.target._schema.is_mutable:
        return False
    return not is_random(node.target)


def is_random(target: Any) -> bool:
    """True for random operators; some are random only in training, which is refused earlier."""
    op = packet(target)
    harmless = op in RECURRENT or op == "rrelu" or "attention" in op or "dropout" in op
    return torch.Tag.nondeterministic_seeded in target.tags and not harmless
