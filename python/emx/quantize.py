# SPDX-License-Identifier: Apache-2.0
"""Quantisation by hand: what emx quantises with, for flows of your own.

    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from emx.quantize import EmxQuantizer

    model = prepare_pt2e(torch.export.export(net, (x,)).module(), EmxQuantizer())
    for x in typical_inputs:
        model(x)
    program = torch.export.export(convert_pt2e(model), (x,))
    emx.export(program)

It needs PyTorch and torchao (pip install "emx[quantize]"); importing this module does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emx.exporter.quantizer import EmxQuantizer

__all__ = ["EmxQuantizer"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'emx.quantize' has no attribute {name!r}")
    from emx.exporter.cache import torchao_version

    torchao_version()  # says what to do where it is missing
    from emx.exporter import quantizer

    return getattr(quantizer, name)
