# SPDX-License-Identifier: Apache-2.0
"""Tensors as one run of bytes: its header, where a program binds it at run time; as C text."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from emx.kernel import Array
from emx.program import ALIGN

ROW = 20  # bytes of a blob in a line of C
_HEADER = struct.Struct("<4s3I32s32s")  # emx_weights_header_t in runtime/include/emx/weights.h
_FORMAT = 1
HEADER_BYTES = _HEADER.size


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


def header(data: bytes, *, code_hash: str, model_hash: str) -> bytes:
    """What stands before weights that are bound at run time."""
    numbers = (_FORMAT, len(data), zlib.crc32(data))
    return _HEADER.pack(b"EMXW", *numbers, bytes.fromhex(code_hash), bytes.fromhex(model_hash))


def code_hash(source: str) -> str:
    """SHA-256 of C without its comments: of what decides which weights fit."""
    return hashlib.sha256(re.sub(r" *//.*", "", source).encode()).hexdigest()


def byte_rows(data: bytes) -> list[str]:
    """Few bytes as numbers in C, eight a line."""
    return [", ".join(f"0x{c:02x}" for c in data[i : i + 8]) for i in range(0, len(data), 8)]


def literals(data: bytes) -> list[str]:
    """`data` as C string literals, a line each."""
    return [
        '"' + "".join(map(_ESCAPED.__getitem__, data[i : i + ROW])) + '"'
        for i in range(0, len(data), ROW)
    ]


# Three digits, so that no digit that follows is taken for one more.
_ESCAPED = tuple(chr(c) if chr(c).isalnum() and c < 128 else f"\\{c:03o}" for c in range(256))
