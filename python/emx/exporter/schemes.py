# SPDX-License-Identifier: Apache-2.0
"""What is quantised to what: the words of `--quantize`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from emx.errors import EmxError


@dataclass(frozen=True)
class Scheme:
    """activations  fields of a QuantizationSpec; None: they stay float
    weights      the least and the largest of their integers
    whole        what emx computes with integers is quantised; else layers with weights alone, and
                 what moves data between them
    """

    activations: Mapping[str, Any] | None
    weights: tuple[int, int]
    whole: bool = True


_INT8 = {
    "dtype": torch.int8,
    "quant_min": -128,
    "quant_max": 127,
    "qscheme": torch.per_tensor_affine,
}
_INT16 = {
    "dtype": torch.int16,
    "quant_min": -32768,
    "quant_max": 32767,
    "qscheme": torch.per_tensor_symmetric,
}
SCHEMES: Mapping[str, Scheme] = {
    "int8": Scheme(_INT8, (-127, 127)),
    "int16x8": Scheme(_INT16, (-127, 127), whole=False),
    "int4": Scheme(_INT8, (-8, 7)),
    "weights-int8": Scheme(None, (-127, 127), whole=False),
    "weights-int4": Scheme(None, (-8, 7), whole=False),
}


def scheme_of(name: str) -> Scheme:
    if name not in SCHEMES:
        raise EmxError(
            f"a model cannot be quantised to {name}", hint=f"there are {', '.join(SCHEMES)}"
        )
    return SCHEMES[name]
