# SPDX-License-Identifier: Apache-2.0
"""Which operators of a program stay whole, and which models emx refuses before it converts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.export.graph_signature import OutputKind

from emx.errors import EmxError, Problem
from emx.exporter import decompositions
from emx.exporter.origin import ORIGIN_KEYS, common_root, origin_of, user_frames
from emx.exporter.torchtools import explained

# Operators that emx has kernels for, or will have; PyTorch decomposes all others.
_WHOLE = """
    scaled_dot_product_attention
    lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    layer_norm group_norm rms_norm instance_norm
    softmax log_softmax gelu silu mish hardswish hardsigmoid hardtanh relu6 elu selu celu
    leaky_relu softplus log_sigmoid prelu rrelu glu hardshrink softshrink threshold
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    linear matmul mv dot
    avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    pad reflection_pad1d reflection_pad2d reflection_pad3d
    replication_pad1d replication_pad2d replication_pad3d
    pixel_shuffle pixel_unshuffle channel_shuffle im2col roll logsumexp
    upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d
"""

# Operators that behave differently in training: name -> index of the argument that says so.
_TRAINING = {"dropout": 2, "feature_dropout": 2, "alpha_dropout": 2, "feature_alpha_dropout": 2,
             "native_dropout": 2, "rrelu": 3, "batch_norm": 5}  # fmt: skip
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
KEEPS_STATE = """if this is a training statistic, call model.eval() before the export;
state that a model keeps from call to call is not supported yet: pass it as an input and
return it as an output"""
_STATIC = """quantise statically, with calibration: without is_dynamic in the quantizer's
configuration, or a float model with --quantize int8"""
_EVAL = "call model.eval() before torch.export.export (or before emx.export)"


def decompose(program: Any) -> Any:
    """A functional program of whole operators; a model that emx cannot run is an EmxError."""
    _refuse(_training_problems(program), "operators are in training mode")
    table = torch.export.default_decompositions()
    whole = frozenset(_WHOLE.split())
    for op in [op for op in table if packet(op) in whole]:
        del table[op]
    table.update(decompositions.table())
    with explained("PyTorch cannot lower this model", hints={"is mutated": KEEPS_STATE}):
        functional = program.run_decompositions(table)
    _restore_origins(program, functional)
    _refuse(_mutation_problems(functional), "tensors are changed by the model")
    _refuse(_dynamic_problems(functional), "tensors are quantised dynamically")
    _shorten_names(functional)
    return functional


def _shorten_names(functional: Any) -> None:
    """Names of nodes become names in C: batch_norm_3 says what one can know of it, and relu_q what
    is quantised."""
    outputs = {spec.arg.name for spec in functional.graph_signature.output_specs}
    for node in functional.graph.nodes:
        call = packet(node.target) if node.name not in outputs else ""
        if call.startswith(("quantize_per_", "dequantize_per_")):
            source, end = node.args[0].name, "_dq" if call.startswith("de") else "_q"
            node._rename(source.removesuffix("_q") + end)
        if node.name.startswith("_native_batch_norm_legit_no_training"):
            node._rename(node.name.replace("_native_batch_norm_legit_no_training", "batch_norm"))


def _restore_origins(program: Any, functional: Any) -> None:
    """Give calls inside `with torch.no_grad()` their origin back: inlining loses it."""
    graphs = [
        m.graph for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)
    ]
    originals = {n.name: n for graph in graphs for n in graph.nodes}
    for node in functional.graph.nodes:
        original = originals.get(node.name)
        if original is not None and not user_frames(node):
            node.meta |= {k: original.meta[k] for k in ORIGIN_KEYS if k in original.meta}


def packet(op: Any) -> str:
    """The operator's name without namespace and overload: "conv2d"."""
    parts = str(op).split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _refuse(problems: Iterator[Problem], summary: str) -> None:
    found = tuple(problems)
    if found:
        raise EmxError.of(found, summary)


def _training_problems(program: Any) -> Iterator[Problem]:
    root = common_root(program.graph.nodes)
    for node in program.graph.nodes:
        if node.op == "call_function" and _in_training(node):
            what = f"{packet(node.target)} is in training mode"
            if packet(node.target) == "batch_norm":
                what += f": it changes its buffer {_buffer(program, node.args[3])}"
            yield Problem(what, str(origin_of(node, root)), str(node.target), _EVAL)


def _buffer(program: Any, node: Any) -> str:
    return str(program.graph_signature.inputs_to_buffers.get(node.name, node.name))


def _in_training(node: Any) -> bool:
    name, args = packet(node.target), _arguments(node)
    if name == "batch_norm" and args[3] is None:
        return False  # it has no running statistics, in inference neither
    if name in _TRAINING:
        index = _TRAINING[name]
        return bool(args[index]) if index < len(args) else False
    if name in RECURRENT:
        return any(isinstance(a, float) and a > 0 for a in args) and _flag(node, "train")
    if name == "scaled_dot_product_attention":
        return any(isinstance(a, float) and a > 0 for a in args[4:5])
    return False


def _arguments(node: Any) -> list[Any]:
    """The arguments in the order of the operator's schema, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return list(node.args)
    given = dict(zip((a.name for a in schema.arguments), node.args, strict=False))
    given.update(node.kwargs)
    return [given.get(a.name, a.default_value) for a in schema.arguments]


def _flag(node: Any, name: str) -> bool:
    names = [a.name for a in node.target._schema.arguments]
    return name in names and bool(_arguments(node)[names.index(name)])


def _dynamic_problems(program: Any) -> Iterator[Problem]:
    """Tensors whose scale is chosen in each run."""
    root = common_root(program.graph.nodes)
    for node in program.graph.nodes:
        if packet(node.target).startswith("choose_qparams"):
            what = f"{node.args[0].name} gets its scale in each run, by dynamic quantisation"
            yield Problem(what, str(origin_of(_layer(node), root)), str(node.target), _STATIC)


def _layer(node: Any) -> Any:
    """The first of a node and its users, near ones first, that has a line of the model."""
    nodes = [node]
    for n in nodes:
        if user_frames(n):
            return n
        nodes += [u for u in n.users if u not in nodes]
    return node


def _mutation_problems(program: Any) -> Iterator[Problem]:
    """Buffers, parameters and inputs that the model writes to."""
    kinds = {
        OutputKind.BUFFER_MUTATION: "buffer",
        OutputKind.PARAMETER_MUTATION: "parameter",
        OutputKind.USER_INPUT_MUTATION: "input",
    }
    nodes = {n.name: n for n in program.graph.nodes}
    root = common_root(program.graph.nodes)
    for spec in program.graph_signature.output_specs:
        if spec.kind not in kinds:
            continue
        kind = kinds[spec.kind]
        hint = "let the model write to a copy: x = x.clone()" if kind == "input" else KEEPS_STATE
        where = str(origin_of(nodes[spec.arg.name], root))
        yield Problem(f"the model changes its {kind} {spec.target}", where, None, hint)
