# SPDX-License-Identifier: Apache-2.0
"""Tensors as one run of bytes, which is never in memory as a whole: its header, where a program
binds it at run time; as C text."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from emx.ir import Array, raw
from emx.program import padded

ROW = 20  # bytes of a blob in a line of C
_HEADER = struct.Struct("<4s3I32s32s")  # emx_weights_header_t in runtime/include/emx/weights.h
_FORMAT = 1
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True, eq=False)
class Blob:
    """`head`, then `tensors` one after the other, little-endian, each padded to ALIGN bytes."""

    tensors: Mapping[str, Array]
    head: bytes = b""

    @cached_property
    def offsets(self) -> Mapping[str, int]:
        """Tensor -> where it starts, from the end of the head."""
        offsets, end = {}, 0
        for name, tensor in self.tensors.items():
            offsets[name] = end
            end += _padded(tensor)
        return offsets

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bytes):
            return other == bytes(self)
        return isinstance(other, Blob) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __len__(self) -> int:
        return len(self.head) + sum(map(_padded, self.tensors.values()))

    def __bytes__(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes | memoryview]:
        """All bytes, those of a tensor at a time."""
        yield self.head
        for name in self.tensors:
            yield from self.tensor_chunks(name)

    def tensor_chunks(self, name: str) -> Iterator[bytes | memoryview]:
        """The bytes of a tensor, then its padding."""
        tensor = self.tensors[name]
        yield raw(tensor)
        yield bytes(_padded(tensor) - tensor.nbytes)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def crc32(self) -> int:
        return crc32(self.chunks())


def crc32(chunks: Iterable[bytes | memoryview]) -> int:
    value = 0
    for chunk in chunks:
        value = zlib.crc32(chunk, value)
    return value


def header(blob: Blob, *, code_hash: str, model_hash: str) -> bytes:
    """What stands before weights that are bound at run time."""
    numbers = (_FORMAT, len(blob), blob.crc32)
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


def _padded(tensor: Array) -> int:
    return padded(tensor.nbytes)


# Three digits, so that no digit that follows is taken for one more.
_ESCAPED = tuple(chr(c) if chr(c).isalnum() and c < 128 else f"\\{c:03o}" for c in range(256))
