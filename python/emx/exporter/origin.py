# SPDX-License-Identifier: Apache-2.0
"""Where in the user's model a node came from, read from what torch.export recorded."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable
from pathlib import PurePath, PurePosixPath
from typing import Any, NamedTuple

from emx.ir import Origin

_FRAME = re.compile(r'\s*File "(.*)", line (\d+), in ')
ORIGIN_KEYS = ("stack_trace", "nn_module_stack")
_LIBRARY = re.compile(r"(?:^|/)(?:site|dist)-packages/")
_TORCH = re.compile(
    r"(?:(?:^|/)(?:site|dist)-packages/|^)torch/"
    r"|/torch/(?:nn|fx|ao|export|utils|autograd|_[a-z]\w*|functional\.py|overrides\.py)(?:/|$)"
)


class Frame(NamedTuple):
    path: str
    line: int
    text: str


def frames(stack_trace: str) -> list[Frame]:
    """The frames of a formatted stack, outermost first."""
    found: list[Frame] = []
    for line in stack_trace.splitlines():
        if start := _FRAME.match(line):
            found.append(Frame(start[1].replace("\\", "/"), int(start[2]), ""))
        elif found and not found[-1].text:
            found[-1] = found[-1]._replace(text=_printable(line))
    return found


def is_torch(path: str) -> bool:
    """True for PyTorch's own sources and for code it generated ("<eval_with_key>.0")."""
    return path.startswith("<") or bool(_TORCH.search(path.replace("\\", "/")))


def is_library(path: str) -> bool:
    """True for an installed Python package."""
    return bool(_LIBRARY.search(path.replace("\\", "/")))


def shorten(path: str, root: str = "") -> str:
    """`path` relative to `root`, to its Python library, or else its last part."""
    path = path.replace("\\", "/")
    library = _LIBRARY.split(path)
    if len(library) > 1:
        return library[-1]
    if not _absolute(path):
        return path
    pure = PurePosixPath(path)
    if root and pure.is_relative_to(root):
        return str(pure.relative_to(root))
    return pure.name


def common_root(nodes: Iterable[Any]) -> str:
    """The directory that holds the user's sources, as far as absolute paths tell.

    It follows from the program alone, so a bundle does not depend on where its model lies.
    """
    paths = {frame.path for node in nodes for frame in user_frames(node)}
    places = [p for p in paths if _absolute(p) and not is_library(p)]
    drives = {PurePath(p).anchor for p in places}
    folders = {str(PurePosixPath(p).parent) for p in places}
    return os.path.commonpath(folders) if folders and len(drives) == 1 else ""


def user_frames(node: Any) -> list[Frame]:
    """The frames outside PyTorch that led to a call, outermost first."""
    trace = node.meta.get("stack_trace") or ""
    return [frame for frame in frames(trace) if not is_torch(frame.path)]


def origin_of(node: Any, root: str) -> Origin:
    """The deepest frame outside PyTorch, and the module the call was in."""
    module = next(reversed(module_paths(node)), "")
    user = user_frames(node)
    if not user:
        return Origin(module)
    frame = user[-1]
    return Origin(module, f"{shorten(frame.path, root)}:{frame.line}", frame.text)


def module_paths(node: Any) -> list[str]:
    """Paths of the modules that a call is in, outermost first; torch appends "@1" when a module is
    called again."""
    stack = node.meta.get("nn_module_stack") or {}
    entries = [v[0] if isinstance(v, tuple) else str(v) for v in stack.values()]
    paths = [re.sub(r"^(?:L__self__|L\['self'\])[._]?", "", entry) for entry in entries]
    return [_printable(re.sub(r"@\d+", "", path)) for path in paths]


def _absolute(path: str) -> bool:
    return path.startswith("/") or path[1:3] in (":/", ":\\")


def _printable(text: str) -> str:
    return "".join(c for c in text.strip() if c.isprintable())
