# SPDX-License-Identifier: Apache-2.0
"""What a function in a Python script gives: models ("net.py:factory"), calibration data."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from emx.errors import EmxError
from emx.exporter.origin import is_library

_RETURNS = "it must return (module, example_inputs), the inputs as a tuple of tensors"


def split(path: str) -> tuple[Path, str] | None:
    """The script and the function's name, if `path` is of the form "net.py:factory"."""
    script, colon, factory = path.rpartition(":")
    return (Path(script), factory) if colon and script.endswith(".py") else None


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let a script import its neighbours; afterwards nothing of them stays behind."""
    place = str(folder.resolve())
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if Path(file).is_relative_to(place) and not is_library(file):
                del sys.modules[name]


def run(script: Path, factory: str) -> tuple[Any, Any]:
    """(module, example_inputs) as the factory returns them."""
    result = call(script, factory, _RETURNS)
    if not isinstance(result, tuple) or len(result) != 2:
        raise EmxError(
            f"{factory}() of {script.name} returns {_describe(result)}",
            at=str(script),
            hint=_RETURNS,
        )
    return result


def call(script: Path, factory: str, returns: str) -> Any:
    """What the function of a script returns; `returns` tells the user what that must be."""
    from emx.exporter.torchtools import explained

    if not script.is_file():
        raise EmxError(f"there is no file {script}")
    with explained(f"{script.name} fails"):
        module = _load(script)
    function = getattr(module, factory, None)
    if not callable(function):
        names = [
            k for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        ]
        raise EmxError(
            f"{script.name} has no function {factory}",
            at=str(script),
            hint=f"it defines {', '.join(names) or 'none'}; {returns}",
        )
    with explained(f"{factory}() of {script.name} fails"):
        return function()


def _load(script: Path) -> ModuleType:
    name = f"emx_script_{script.stem}"
    spec = importlib.util.spec_from_file_location(name, script.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _describe(result: Any) -> str:
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}"
    return f"a {type(result).__name__}"
