# SPDX-License-Identifier: Apache-2.0
"""Names of the user's model as C identifiers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from emx.errors import EmxError

# Keywords of C99 and C++, and what the generated code uses itself.
_RESERVED_TEXT = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t
class compl const const_cast constexpr continue decltype default delete do double dynamic_cast
else enum explicit export extern false float for friend goto if inline int long mutable
namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
reinterpret_cast restrict return short signed sizeof static static_assert static_cast struct
switch template this thread_local throw true try typedef typeid typename union unsigned using
virtual void volatile wchar_t while xor xor_eq NULL NAN INFINITY main run arena
base row_index w weights vectors
"""
_RESERVED = frozenset(_RESERVED_TEXT.split())


def c_identifier(text: str) -> str:
    """`text` with everything else than letters, digits and _ replaced; never reserved."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    name = re.sub(r"_{2,}", "_", name).strip("_") or "value"
    if name[0].isdigit() or name in _RESERVED or re.match(r"(emx|EMX)_", name):
        name = f"m_{name}"
    return name


# What the generated code makes of the name of a step.
_DERIVED = ("", "_at", "_scratch", "_feed", "_lines", "_order", "_row", "_rows", "_state_t")


def require_identifier(name: str) -> str:
    """`name`, or an EmxError if it cannot be the prefix of a model's names in C."""
    if c_identifier(name) != name:
        raise EmxError(
            f"{name!r} cannot be the name of C functions",
            hint=f"choose another name: --name {c_identifier(name)}",
        )
    return name


class Names:
    """Hands out identifiers that differ from each other, also when case is ignored, and from each
    other's accessors, NAME_in."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.lower() for name in taken}

    def unique(self, text: str) -> str:
        name = c_identifier(text)
        k = 1
        while not self._taken.isdisjoint(derived := {(name + d).lower() for d in _DERIVED}):
            k += 1
            name = f"{c_identifier(text)}_{k}"
        self._taken |= derived
        return name
