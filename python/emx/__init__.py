# SPDX-License-Identifier: Apache-2.0
"""emx: a PyTorch model becomes a tested C library.

    bundle = emx.export(model, example_inputs)           # the only step that needs PyTorch
    emx.compile(bundle, target="cortex-m4", out_dir="generated")
    report = emx.verify(bundle, target="mps2-an386")     # C on an emulated board against PyTorch

`import emx` imports neither torch nor jinja2; the functions import what they need.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from emx.errors import EmxError
from emx.version import VERSION as __version__

if TYPE_CHECKING:
    from emx.api import bench, compile, evaluate, export, verify
    from emx.bundle import Bundle
    from emx.emit import Artifacts
    from emx.options import Options
    from emx.verifier import VerifyReport

__all__ = [
    "Artifacts",
    "Bundle",
    "EmxError",
    "Options",
    "VerifyReport",
    "__version__",
    "bench",
    "cmake_dir",
    "compile",
    "evaluate",
    "export",
    "verify",
]

_HOME = {
    "Artifacts": "emx.emit",
    "Bundle": "emx.bundle",
    "Options": "emx.options",
    "VerifyReport": "emx.verifier",
    "bench": "emx.api",
    "compile": "emx.api",
    "evaluate": "emx.api",
    "export": "emx.api",
    "verify": "emx.api",
}


def cmake_dir() -> Path:
    """The directory to pass to CMake as emx_DIR."""
    from emx.paths import root

    return root() / "cmake"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'emx' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
