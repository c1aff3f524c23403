# SPDX-License-Identifier: Apache-2.0
"""Tensors as one run of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emx.kernel import Array
from emx.program import ALIGN


@dataclass(frozen=True)
class Blob:
    """Tensors one after the other, each at a multiple of ALIGN bytes."""

    data: bytes
    offsets: Mapping[str, int]


def pack(tensors: Mapping[str, Array]) -> Blob:
    data, offsets = bytearray(), {}
    for name, tensor in tensors.items():
        offsets[name] = len(data)
        data += tensor.astype(tensor.dtype.newbyteorder("<")).tobytes()
        data += bytes(-len(data) % ALIGN)
    return Blob(bytes(data), offsets)
