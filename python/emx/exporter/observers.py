# SPDX-License-Identifier: Apache-2.0
"""How scales follow from what calibration sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torchao.quantization.pt2e import (
    FakeQuantize,
    MinMaxObserver,
    PerChannelMinMaxObserver,
    PerGroup,
)
from torchao.quantization.pt2e.observer import (
    AffineQuantizedObserverBase,
    MappingType,
    UniformQuantizationObserverBase,
)
from torchao.quantization.pt2e.utils import create_getattr_from_value

# No weight in a filter is larger than 127 times this: it is zero.
_LEAST = 2.0**-64
_MOST_BIAS = 2.0**30  # steps; sums have as much room again


class ActivationObserver(UniformQuantizationObserverBase):  # type: ignore[misc]
    """A histogram of all values seen, and the range with zero in it that rounds and clips them with
    the least sum of |error|^2.4: the mean square would clip more than is good. What is always zero
    gets the range of -1 to 1.
    """

    _BINS = 1 << 14
    _POWER = 2.4
    # Parts of the whole range that may be the best.
    _PARTS = torch.cat([torch.arange(1.0, 0.5, -0.02), 0.5 * 0.85 ** torch.arange(12)]).double()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.least = self.most = 0.0
        self.bound = 0.0  # of the histogram, a power of two
        self.counts = torch.zeros(self._BINS, dtype=torch.float64)

    def forward(self, x: Any) -> Any:
        data = x.detach().float()
        if data.numel():
            self._widen(float(data.abs().max()))
        if self.bound > 0:
            self.least = min(self.least, float(data.min()))
            self.most = max(self.most, float(data.max()))
            if self.bound > torch.finfo(data.dtype).max:
                data = data.double()
            self.counts += torch.histc(data, self._BINS, -self.bound, self.bound).double()
        return x

    def _widen(self, needed: float) -> None:
        """Let the histogram hold all values: two bins become one until it does."""
        if not needed < math.inf:
            self.bound = math.nan
        elif self.bound == 0 and needed > 0:
            self.bound = 2.0 ** math.frexp(needed)[1]
        while 0 < self.bound < needed:
            middle = self.counts.reshape(-1, 2).sum(1)
            quarter = torch.zeros(self._BINS // 4, dtype=torch.float64)
            self.counts = torch.cat([quarter, middle, quarter])
            self.bound *= 2

    @property
    def is_finite(self) -> bool:
        return not math.isnan(self.bound)

    def calculate_qparams(self) -> tuple[Any, Any]:
        if not self.bound > 0:
            return torch.tensor([1 / 128]), torch.tensor([0])
        low, high = torch.tensor(self.least).double(), torch.tensor(self.most).double()
        for _ in range(2):
            high = self._best(low, self.most * self._PARTS, 1)
            low = self._best(self.least * self._PARTS, high, 0)
        scale, zero = self._grid(low, high)
        return scale.float().reshape(1), zero.long().reshape(1)

    def _best(self, low: Any, high: Any, which: int) -> Any:
        """The bound, of several lower or upper ones, with the least error."""
        scale, zero = (v[:, None] for v in self._grid(low, high))
        kept = self.counts > 0
        width = 2 * self.bound / self._BINS
        values = ((torch.arange(self._BINS) + 0.5) * width - self.bound)[kept]
        steps = (torch.round(values / scale) + zero).clamp(self.quant_min, self.quant_max)
        errors = ((steps - zero) * scale - values).abs() ** self._POWER @ self.counts[kept]
        return (low, high)[which][int(errors.argmin())]

    def _grid(self, low: Any, high: Any) -> tuple[Any, Any]:
        scale = (high - low) / (self.quant_max - self.quant_min)
        zero = self.quant_min - torch.round(low / scale)
        return scale, zero.clamp(self.quant_min, self.quant_max)


class WideObserver(MinMaxObserver):  # type: ignore[misc]
    """Twice the largest value seen, with the zero point 0: 16 bits have steps enough."""

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.min_val) and math.isfinite(self.max_val)

    def calculate_qparams(self) -> tuple[Any, Any]:
        most = torch.maximum(-self.min_val, self.max_val).reshape(1)
        scale = 2 * torch.where(most > 0, most, 1.0) / self.quant_max
        return scale, torch.zeros(1, dtype=torch.int64)


class PerChannelWeightObserver(PerChannelMinMaxObserver):  # type: ignore[misc]
    """A scale for each output, so coarse that its bias fits 32 bits in steps of x.scale * scale.
    (That a class has PerChannel in its name means something to torchao.)

    A filter that is nothing beside its bias becomes zero, and the bias stays what it is.
    `beside` is that bias and the observer of x, set when all observers are there.
    """

    beside: tuple[Any, Any] | None = None

    def calculate_qparams(self) -> tuple[Any, Any]:
        scale, zero = super().calculate_qparams()
        if self.beside is not None:
            bias, x = self.beside
            least = bias.detach().abs().double() / (x.calculate_qparams()[0].double() * _MOST_BIAS)
            if self.ch_axis == 1:  # of a transposed convolution, whose groups share scales
                least = least.reshape(-1, len(scale)).amax(0)
            scale = torch.maximum(scale, least.float())
        return scale, zero


class GroupObserver(AffineQuantizedObserverBase):  # type: ignore[misc]
    """A scale for each `group` inputs of each output of a linear layer."""

    def __init__(self, group: int, least: int, most: int, **settings: Any) -> None:
        super().__init__(MappingType.SYMMETRIC, torch.int8, PerGroup(group), least, most)
        self.group = group

    def forward(self, x: Any) -> Any:
        self.weight = x.detach()
        return x

    def calculate_qparams(self) -> tuple[Any, Any]:
        most = self.weight.reshape(-1, self.group).abs().amax(1)
        scale = (most * 2 / (self.quant_max - self.quant_min)).clamp(min=_LEAST)
        return scale, torch.zeros(len(scale), dtype=torch.int32)

    def convert(self, model: Any, observer_node: Any) -> None:
        """Put the dequantised integers in the place of the observer."""
        calls = torch.ops.quantized_decomposed
        scale, zero = self.calculate_qparams()
        kind = (self.quant_min, self.quant_max, torch.int8, self.group)
        units = calls.quantize_per_channel_group(self.weight, scale, zero, *kind)
        tensors = {"_units": units, "_scale": scale, "_zero_point": zero}
        with model.graph.inserting_before(observer_node):
            nodes = [
                create_getattr_from_value(model, model.graph, name, data, data.device)
                for name, data in tensors.items()
            ]
            dequantised = model.graph.call_function(
                calls.dequantize_per_channel_group.default, (*nodes, *kind, torch.float32)
            )
        observer_node.replace_all_uses_with(dequantised)
        model.graph.erase_node(observer_node)


def observer_of(module: Any) -> Any:
    """The observer in a fake quantisation, which quantisation-aware training has around it."""
    return getattr(module, "activation_post_process", module)


def weight_spec(
    axis: int, bounds: tuple[int, int], *, training: bool, group: int = 0
) -> dict[str, Any]:
    """Fields of a QuantizationSpec: int8 within bounds, symmetric, a scale for each index of
    `axis`, or for each `group` inputs of it."""
    least, most = bounds
    observer = PerChannelWeightObserver.with_args(eps=_LEAST, ch_axis=axis)
    if group:
        observer = GroupObserver.with_args(group=group, least=least, most=most)
    if training:
        observer = FakeQuantize.with_args(observer=observer)
    return {
        "dtype": torch.int8,
        "observer_or_fake_quant_ctr": observer,
        "quant_min": least,
        "quant_max": most,
        "qscheme": torch.per_channel_symmetric,
        "ch_axis": axis,
    }


def derived_bias(groups: int) -> Callable[[Sequence[Any]], tuple[Any, Any]]:
    """The scales of a bias from those of input and weight, which `groups` share."""

    def derive(observers: Sequence[Any]) -> tuple[Any, Any]:
        (x, _), (w, _) = (o.calculate_qparams() for o in observers)
        scale = (x * w).repeat(groups)
        return scale, torch.zeros(len(scale), dtype=torch.int64)

    return derive


def derived_product(factor: float) -> Callable[[Sequence[Any]], tuple[Any, Any]]:
    """Scale and zero point of x * factor: the same integers mean other numbers."""

    def derive(observers: Sequence[Any]) -> tuple[Any, Any]:
        scale, zero = observers[0].calculate_qparams()
        return scale * factor, zero

    return derive
