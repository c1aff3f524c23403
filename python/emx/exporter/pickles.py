# SPDX-License-Identifier: Apache-2.0
"""Objects saved by torch.save: told apart without loading them, loaded only on request."""

from __future__ import annotations

import io
import pickletools
import re
from pathlib import Path
from typing import Any

from emx.errors import EmxError
from emx.exporter.archive import EXPORT_LINES, member

# What the pickle of a state_dict refers to.
_TENSORS = re.compile(
    r"collections (OrderedDict|defaultdict)|torch(\.storage)? \w*Storage|torch\._utils _rebuild_\w+"
    r"|torch\._tensor _rebuild_\w+|torch\.nn\.parameter (Parameter|Buffer)|torch (Size|device)"
    r"|torch\.serialization _get_layout|torch (u?int|float|bfloat|complex|bool)\w*|_codecs encode"
    r"|builtins \w+|__builtin__ \w+|numpy[\w.]* \w+"
)


def refuse(data: bytes, path: Path) -> EmxError:
    """The error for an object that was saved by torch.save."""
    found = [name for name in _globals(_pickle(data, path)) if not _TENSORS.fullmatch(name)]
    if not found:
        return EmxError(
            f"{path.name} holds tensors (a state_dict), but no model",
            at=str(path),
            hint="build the module, give it these tensors with load_state_dict(), and\n"
            + EXPORT_LINES,
        )
    return EmxError(
        f"{path.name} is a pickled Python object ({found[0].replace(' ', '.')[:80]}); "
        "loading it would run the code in it",
        at=str(path),
        hint=f"{EXPORT_LINES}\nor, if you trust the file: --allow-pickle",
    )


def load(data: bytes, path: Path) -> Any:
    """Unpickle a module, which runs whatever code the file holds."""
    import torch

    from emx.exporter.torchtools import explained

    with explained(f"cannot load {path.name}", hint=EXPORT_LINES):
        module = torch.load(io.BytesIO(data), weights_only=False, map_location="cpu")
    if not isinstance(module, torch.nn.Module):
        raise refuse(data, path)
    return module


def _pickle(data: bytes, path: Path) -> bytes:
    if not data.startswith(b"PK"):
        return data
    return member(data, "/data.pkl", path)


def _globals(data: bytes) -> list[str]:
    """ "module name" of all classes and functions that a stream of pickles refers to."""
    found: list[str] = []
    stream = io.BytesIO(data)
    try:
        for _ in range(4):  # older files: magic number, version, system, object
            recent: list[str] = []
            for op, argument, _ in pickletools.genops(stream):
                if op.name == "GLOBAL":
                    found.append(str(argument))
                elif op.name == "STACK_GLOBAL":
                    found.append(" ".join(recent[-2:]))
                elif isinstance(argument, str):
                    recent.append(argument)
            if stream.tell() >= len(data):
                break
    except (ValueError, IndexError, EOFError, OverflowError):
        pass  # what follows the pickles is raw data
    return found
