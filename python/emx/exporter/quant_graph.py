# SPDX-License-Identifier: Apache-2.0
"""A graph made ready for quantisation: the same function of fewer kinds of operators.

What depends on no input becomes a constant, batch norms go into the layer before them or become
depthwise convolutions, products with constant matrices become linear, attention is spelled out.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch

from emx.exporter.constants import is_pure
from emx.exporter.quant_kinds import NORMS, is_constant, name_of

aten = torch.ops.aten
_CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)


def ready(model: Any, *, fold_norms: bool = True) -> Any:
    """`model`, a torch.fx.GraphModule, changed in place."""
    graph = model.graph
    _name_values(model)
    fold_constants(model)
    for node in list(graph.nodes):
        if name_of(node) in NORMS and fold_norms:
            _replace_batch_norm(model, node)
        elif name_of(node) in ("mm", "matmul", "addmm"):
            _replace_product(model, node)
        elif name_of(node) in _SPELT:
            _SPELT[name_of(node)](model, node)
        elif name_of(node) in ("view", "_unsafe_view"):
            node.target = aten.reshape.default  # of what is replaced the strides may change
    graph.eliminate_dead_code()
    model.recompile()
    return model


def tensor_of(model: Any, node: Any) -> Any:
    """The tensor of a get_attr."""
    return tensor_at(model, node.target)


def tensor_at(model: Any, path: str) -> Any:
    value = model
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _name_values(model: Any) -> None:
    """Types of constants, which exported modules leave out."""
    for node in model.graph.nodes:
        if is_constant(node) and isinstance(tensor_of(model, node), torch.Tensor):
            node.meta.setdefault("val", tensor_of(model, node).detach().to("meta"))


def fold_constants(model: Any) -> None:
    """Compute what depends on no input."""
    parts: dict[Any, Any] = {}  # of results that are lists

    def value(node: Any) -> Any:
        return parts[node] if node in parts else tensor_of(model, node).detach()

    for node in model.graph.nodes:
        if not is_pure(node) or not all(is_constant(n) or n in parts for n in node.all_input_nodes):
            continue
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), value)
        with torch.no_grad():
            result = node.target(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            node.replace_all_uses_with(_constant(model, node, node.name, result))
        else:
            parts[node] = result
    model.graph.eliminate_dead_code()


def _constant(model: Any, before: Any, path: str, value: Any) -> Any:
    """A get_attr of a new buffer."""
    taken = {n.target for n in model.graph.nodes if is_constant(n)}
    taken |= {name for name, _ in model.named_modules()}
    while path in taken:
        path += "_"
    place_tensor(model, path, value)
    with model.graph.inserting_before(before):
        node = model.graph.get_attr(path)
    node.meta["val"] = value.detach().to("meta")
    return node


def place_tensor(model: Any, path: str, value: Any) -> None:
    """Make `value` the buffer at `path`, whatever is there."""
    *parents, name = path.split(".")
    for parent in parents:
        if not isinstance(getattr(model, parent, None), torch.nn.Module):
            model.add_module(parent, torch.nn.Module())
        model = getattr(model, parent)
    if hasattr(model, name):
        delattr(model, name)
    model.register_buffer(name, value.detach().clone().contiguous())


def _call(model: Any, place: Any, target: Any, *args: Any) -> Any:
    """A call before the node `place`, of the same origin, with its type."""
    with model.graph.inserting_before(place):
        node = model.graph.call_function(target, args)
    keys = ("stack_trace", "nn_module_stack")
    node.meta |= {k: place.meta[k] for k in keys if k in place.meta}
    mode = next(_fake_modes(model))
    values = torch.fx.node.map_arg(args, lambda n: _fake(mode, n.meta["val"]))
    with mode:
        node.meta["val"] = target(*values)
    return node


def _fake_modes(model: Any) -> Iterator[Any]:
    for node in model.graph.nodes:
        if hasattr(value := node.meta.get("val"), "fake_mode"):
            yield value.fake_mode


def _fake(mode: Any, value: Any) -> Any:
    if hasattr(value, "fake_mode"):
        return value
    with mode:
        return torch.empty(value.shape, dtype=value.dtype)


# ---- Batch norms ----


def _replace_batch_norm(model: Any, node: Any) -> None:
    x, *statistics = node.args[:5]
    eps = node.args[7 if name_of(node) == "batch_norm" else 6]
    if any(s is not None and not is_constant(s) for s in statistics) or None in statistics[2:]:
        return
    values = [None if s is None else tensor_of(model, s).double() for s in statistics]
    weight, bias, mean, variance = values
    factor = (variance + eps).rsqrt() * (1.0 if weight is None else weight)
    shift = (0.0 if bias is None else bias) - mean * factor
    result = _folded(model, x, factor, shift) or _depthwise(model, node, factor, shift)
    if name_of(node) == "batch_norm":
        node.replace_all_uses_with(result)
        return
    for user in list(node.users):
        if user.target is operator.getitem and user.args[1] == 0:
            user.replace_all_uses_with(result)


def _folded(model: Any, layer: Any, factor: Any, shift: Any) -> Any:
    """The layer before a batch norm with both in its weights; None if it cannot be."""
    name = name_of(layer)
    if len(layer.users) > 1 or not (name.startswith("conv") or name == "linear"):
        return None
    _, weight, bias, *more = (*layer.args, None)[: max(3, len(layer.args))]
    if not is_constant(weight) or (bias is not None and not is_constant(bias)):
        return None
    if name == "linear" and len(layer.meta["val"].shape) != 2:
        return None  # its channels are not those of the batch norm
    w = tensor_of(model, weight).double()
    b = 0.0 if bias is None else tensor_of(model, bias).double()
    if "transpose" in name:
        groups = more[3] if len(more) > 3 else 1
        rows = w.reshape(groups, w.shape[0] // groups, w.shape[1], -1)
        w = (rows * factor.reshape(groups, 1, -1, 1)).reshape(w.shape)
    else:
        w = w * factor.reshape(-1, *[1] * (w.dim() - 1))
    layer.args = (layer.args[0], None, None, *more)
    for node in (weight, bias):
        if node is not None and not node.users:
            model.graph.erase_node(node)  # its name is free
    paths = weight.target, bias.target if bias else _sibling(weight, "bias")
    values = w, b * factor + shift
    made = (_constant(model, layer, p, v.float()) for p, v in zip(paths, values, strict=True))
    layer.args = (layer.args[0], *made, *more)
    return layer


def _sibling(node: Any, name: str) -> str:
    """The path of a tensor in the same module."""
    parent, dot, _ = node.target.rpartition(".")
    return f"{parent}{dot}{name}"


def _depthwise(model: Any, node: Any, factor: Any, shift: Any) -> Any:
    """A batch norm as a convolution with windows of one pixel, each channel for itself."""
    x = node.args[0]
    flat = len(x.meta["val"].shape) == 2
    rank = 1 if flat else len(x.meta["val"].shape) - 2
    mean, shape = node.args[3], (-1, 1, *[1] * rank)
    w = _constant(model, node, _sibling(mean, "weight"), factor.float().reshape(shape))
    b = _constant(model, node, _sibling(mean, "bias"), shift.float())
    if flat:
        x = _call(model, node, aten.unsqueeze.default, x, -1)
    ones = [1] * rank
    call = (_CONVOLUTIONS[rank - 1], x, w, b, ones, [0] * rank, ones, len(factor))
    y = _call(model, node, *call)
    return _call(model, node, aten.squeeze.dim, y, -1) if flat else y


# ---- Products ----


def _replace_product(model: Any, node: Any) -> None:
    """x @ constant => linear."""
    bias, x, matrix = node.args if name_of(node) == "addmm" else (None, *node.args)
    if not is_constant(matrix) or is_constant(x) or node.kwargs:
        return
    if len(matrix.meta["val"].shape) != 2 or len(x.meta["val"].shape) < 2:
        return
    if bias is not None and (not is_constant(bias) or len(bias.meta["val"].shape) != 1):
        return
    w = _constant(model, node, matrix.target, tensor_of(model, matrix).t())
    node.replace_all_uses_with(_call(model, node, aten.linear.default, x, w, bias))


# ---- What is made of several operators ----


def _spell_attention(model: Any, node: Any) -> None:
    """softmax(q @ k^T * scale + mask) @ v."""
    schema = node.target._schema.arguments
    given = dict(zip((a.name for a in schema), node.args, strict=False)) | dict(node.kwargs)
    q, k, v = given["query"], given["key"], given["value"]

    def call(target: Callable[..., Any], *args: Any) -> Any:
        return _call(model, node, target, *args)

    if given.get("enable_gqa"):
        times = q.meta["val"].shape[-3] // k.meta["val"].shape[-3]
        k, v = (call(aten.repeat_interleave.self_int, x, times, -3) for x in (k, v))
    scale = given.get("scale") or q.meta["val"].shape[-1] ** -0.5
    scores = call(aten.matmul.default, q, call(aten.transpose.int, k, -2, -1))
    scores = call(aten.mul.Tensor, scores, scale)
    mask = given.get("attn_mask")
    if mask is not None and _hides_nothing(model, mask):
        mask = None
    if given.get("is_causal"):
        lower = torch.ones(scores.meta["val"].shape[-2:], dtype=torch.bool).tril()
        mask = _constant(model, node, f"{node.name}_mask", lower)
    if mask is not None and mask.meta["val"].dtype == torch.bool:
        infinity = _constant(model, node, f"{node.name}_never", torch.tensor(-math.inf))
        scores = call(aten.where.self, mask, scores, infinity)
    elif mask is not None:
        scores = call(aten.add.Tensor, scores, mask)
    weights = call(aten.softmax.int, scores, -1)
    node.replace_all_uses_with(call(aten.matmul.default, weights, v))


def _hides_nothing(model: Any, mask: Any) -> bool:
    """True for a constant mask of True, or of zeros to add."""
    if not is_constant(mask):
        return False
    data = tensor_of(model, mask)
    return bool(data.all() if data.dtype == torch.bool else not data.any())


def _spell_glu(model: Any, node: Any) -> None:
    """a * sigmoid(b), where a and b are the halves of x."""
    x, dim = (*node.args, -1)[:2]
    half = x.meta["val"].shape[dim] // 2
    a, b = (_call(model, node, aten.slice.Tensor, x, dim, i, i + half) for i in (0, half))
    gate = _call(model, node, aten.sigmoid.default, b)
    node.replace_all_uses_with(_call(model, node, aten.mul.Tensor, a, gate))


def _spell_prelu(model: Any, node: Any) -> None:
    """max(x, 0) + w * min(x, 0) if there is a w for each channel; one w makes a function of x."""
    x, weight = node.args
    count = weight.meta["val"].numel()
    if not is_constant(weight) or count == 1:
        return
    shape = (count, *[1] * (len(x.meta["val"].shape) - 2))
    w = _constant(model, node, weight.target, tensor_of(model, weight).reshape(shape))
    positive = _call(model, node, aten.clamp_min.default, x, 0.0)
    negative = _call(model, node, aten.clamp_max.default, x, 0.0)
    scaled = _call(model, node, aten.mul.Tensor, negative, w)
    node.replace_all_uses_with(_call(model, node, aten.add.Tensor, positive, scaled))


_SPELT: dict[str, Callable[[Any, Any], None]] = {
    "glu": _spell_glu,
    "prelu": _spell_prelu,
    "scaled_dot_product_attention": _spell_attention,
}
