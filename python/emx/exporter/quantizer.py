# SPDX-License-Identifier: Apache-2.0
"""EmxQuantizer: tells torchao's PT2E where a model is quantised, and how, for emx."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torchao.quantization.pt2e import FakeQuantize, MovingAverageMinMaxObserver
from torchao.quantization.pt2e.quantizer import (
    DerivedQuantizationSpec,
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

from emx.errors import EmxError
from emx.exporter import quant_graph
from emx.exporter.observers import (
    ActivationObserver,
    WideObserver,
    derived_bias,
    derived_product,
    observer_of,
    weight_spec,
)
from emx.exporter.origin import module_paths
from emx.exporter.quant_kinds import PLAIN, WEIGHTED, Kinds, is_constant, is_float, name_of
from emx.exporter.schemes import Scheme, scheme_of

_ANNOTATION = "quantization_annotation"
_INT32 = {"dtype": torch.int32, "quant_min": -(2**31), "quant_max": 2**31 - 1}
# Results whose range is known: (scale, zero point).
_FIXED = {
    "softmax": (1 / 256, -128),
    "_softmax": (1 / 256, -128),
    "sigmoid": (1 / 256, -128),
    "tanh": (1 / 128, 0),
}


class EmxQuantizer(Quantizer):  # type: ignore[misc]
    """Quantises what emx can compute with integers, for torchao's prepare_pt2e and convert_pt2e.

    scheme       "int8": weights are symmetric with a scale for each output, activations affine with
                 a scale for each tensor, biases int32 in steps of the products. What only moves
                 data shares the scales of its input, a clamp belongs to the layer before it, and
                 functions of one value are one
                 "int4": the same, with weights of 4 bits
                 "int16x8": activations of layers with weights are int16, symmetric; the rest, and
                 biases, stay float
                 "weights-int8", "weights-int4": everything but weights stays float
    group        of linear layers with weights of 4 bits: as many inputs of an output share a scale,
                 where their number is a multiple of it; 0: all
    keep_float   paths of modules that stay in float, as in named_modules(); one stands for all
                 below it
    training     for prepare_qat_pt2e
    """

    def __init__(
        self,
        scheme: str = "int8",
        *,
        group: int = 0,
        keep_float: Iterable[str] = (),
        training: bool = False,
    ) -> None:
        super().__init__()
        self.scheme = scheme_of(scheme)
        if group and (training or self.scheme.weights != (-8, 7)):
            raise EmxError(
                "groups are for weights of 4 bits, quantised after training",
                hint="leave out group, or quantise to int4 or weights-int4",
            )
        self.group = group
        self.keep_float = tuple(keep_float)
        self.training = training

    def transform_for_annotation(self, model: Any) -> Any:
        return quant_graph.ready(model, fold_norms=not self.training)

    def annotate(self, model: Any) -> Any:
        _check_paths(model, self.keep_float)
        kinds = Kinds(
            model.graph,
            constant=lambda n: quant_graph.tensor_of(model, n),
            keeps_float=self._keeps_float,
        )
        _Annotator(kinds, self.scheme, self.group, training=self.training).run(model.graph.nodes)
        return model

    def _keeps_float(self, node: Any) -> bool:
        plain = name_of(node) in PLAIN or node.target is operator.getitem
        return _is_below(module_paths(node), self.keep_float) or not (self.scheme.whole or plain)

    def validate(self, model: Any) -> None:
        """Nothing is asked of a model."""

    def prepare_obs_or_fq_callback(self, model: Any, observers: dict[Any, Any]) -> None:
        """Tell the observers of weights which bias has to fit, in which steps."""
        for node in model.graph.nodes:
            if name_of(node) not in WEIGHTED:
                continue
            x, weight, bias = (*node.args, None)[:3]
            known = {(weight, node), (x, node)} <= observers.keys()
            if known and self.scheme.whole and bias is not None and is_constant(bias):
                beside = quant_graph.tensor_of(model, bias), observer_of(observers[x, node])
                observer_of(observers[weight, node]).beside = beside


def _check_paths(model: Any, paths: Sequence[str]) -> None:
    known = {path for node in model.graph.nodes for path in module_paths(node) if path}
    for path in paths:
        if path not in known:
            close = get_close_matches(path, known, n=3) or sorted(known)[:8]
            raise EmxError(
                f"the model has no module {path} to keep in float",
                hint=f"there are {', '.join(close)}; a batch norm belongs to the layer before it"
                if close
                else "its layers have no names",
            )


def _is_below(paths: Sequence[str], kept: Sequence[str]) -> bool:
    """True if a node, which `paths` lead to, lies in one of the modules `kept`."""
    return not set(paths).isdisjoint(kept)


class _Annotator:
    """Writes annotations. The first place of values that share a scale says what it is, the others
    refer to it: a place is a node, for its result, or (operand, node)."""

    def __init__(self, kinds: Kinds, scheme: Scheme, group: int, *, training: bool) -> None:
        self.kinds = kinds
        self.scheme = scheme
        self.group = group
        self.training = training
        self._group: dict[Any, Any] = {}  # value -> another one of its group, up to the first
        self._first: dict[Any, Any] = {}  # group -> place
        self._fixed: dict[Any, Any] = {}  # group -> (scale, zero), or the node that scales
        self._apart: set[tuple[Any, Any]] = set()  # (operand, node) of two groups

    def run(self, nodes: Iterable[Any]) -> None:
        if self.scheme.activations is None:
            for node in self.kinds.operands:
                if name_of(node) in WEIGHTED:
                    self._write(node, self._weights(node), None)
            return
        for node in self.kinds.operands:
            if is_float(node) and node not in self.kinds.steps:
                self._join(node)
        inputs = {i for operands in self.kinds.operands.values() for i in operands}
        for node in nodes:
            if node.op == "placeholder" and node in inputs:
                self._write(node, {}, self._spec(node, node))
            elif node in self.kinds.operands:
                self._annotate(node)

    # ---- Groups ----

    def _join(self, node: Any) -> None:
        """Give `node` the group of what it moves. Values whose scale is fixed do not join others:
        they are quantised again."""
        moved = self.kinds.moves.get(node, ())
        groups = {i: self._of(i) for i in moved}
        fixed = {i: self._fixed.get(g) for i, g in groups.items()}
        constants = any(map(is_constant, self.kinds.operands[node]))
        alike = len({*fixed.values(), *([None] if constants else [])}) == 1
        for i in moved:
            if alike or fixed[i] is None:
                self._unite(node, i)
            else:
                self._apart.add((i, node))
        name = name_of(node)
        if not moved and name in _FIXED:
            self._fixed[node] = _FIXED[name]
        elif pixels := self.kinds.pixels.get(node):
            self._fixed[node] = pixels
        elif node in self.kinds.scaled:
            self._fixed[node] = node

    def _of(self, value: Any) -> Any:
        while value in self._group:
            value = self._group[value]
        return value

    def _unite(self, a: Any, b: Any) -> None:
        first, second = self._of(a), self._of(b)
        if first is not second:
            self._group[first] = second

    # ---- Annotations ----

    def _annotate(self, node: Any) -> None:
        inputs = {i: self._input_spec(i, node) for i in self.kinds.operands[node]}
        if name_of(node) in WEIGHTED and inputs:
            inputs |= self._weights(node)
        quantised = is_float(node) and node not in self.kinds.steps
        self._write(node, inputs, self._spec(node, node) if quantised else None)

    def _input_spec(self, operand: Any, node: Any) -> Any:
        joined = is_constant(operand) and node in self.kinds.moves
        if is_constant(operand) and not joined:
            return self._activation()
        value = node if joined or (operand, node) in self._apart else operand
        return self._spec(value, (operand, node))

    def _write(self, node: Any, inputs: dict[Any, Any], output: Any) -> None:
        node.meta[_ANNOTATION] = QuantizationAnnotation(
            inputs, output, allow_implicit_sharing=False, _annotated=True
        )

    def _spec(self, value: Any, place: Any) -> Any:
        group = self._of(value)
        if group in self._first:
            return SharedQuantizationSpec(self._first[group])
        self._first[group] = place
        fixed = self._fixed.get(group)
        if isinstance(fixed, tuple):
            scale, zero = fixed
            return FixedQParamsQuantizationSpec(**self._activations, scale=scale, zero_point=zero)
        if fixed is not None:
            (operand,), factor = self.kinds.operands[fixed], self.kinds.scaled[fixed]
            return DerivedQuantizationSpec(
                [(operand, fixed)], derived_product(factor), **self._activations
            )
        return self._activation()

    @property
    def _activations(self) -> Mapping[str, Any]:
        """Fields of their specifications."""
        return self.scheme.activations or {}

    def _activation(self) -> Any:
        observer: Any = ActivationObserver if self.scheme.whole else WideObserver
        if self.training:
            observer = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver)
        return QuantizationSpec(**self._activations, observer_or_fake_quant_ctr=observer)

    def _weights(self, node: Any) -> dict[Any, Any]:
        """Specifications of weight and bias. A transposed convolution has the outputs of a group on
        axis 1; a depthwise one has them on axis 0."""
        x, weight, bias = (*node.args, None)[:3]
        axis, groups = 0, 1
        if "transpose" in name_of(node):
            groups = node.args[6] if len(node.args) > 6 else 1
            depthwise = tuple(weight.meta["val"].shape[:2]) == (groups, 1)
            axis, groups = (0, 1) if depthwise else (1, groups)
        inner = weight.meta["val"].shape[-1]
        grouped = self.group and name_of(node) == "linear" and inner % self.group == 0
        spec = weight_spec(
            axis, self.scheme.weights, training=self.training, group=self.group if grouped else 0
        )
        specs = {weight: QuantizationSpec(**spec)}
        if bias is not None and is_constant(bias) and self.scheme.whole and not grouped:
            specs[bias] = DerivedQuantizationSpec(
                [(x, node), (weight, node)], derived_bias(groups), **_INT32,
                qscheme=torch.per_channel_symmetric, ch_axis=0,
            )  # fmt: skip
        return specs
