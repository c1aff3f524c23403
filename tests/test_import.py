# SPDX-License-Identifier: Apache-2.0
"""`import emx` as users see it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from emx.paths import root

ORDERS = (
    "emx.compile, emx.export, emx.verify, emx.bench",
    "emx.VerifyReport, emx.verify",
    "__import__('emx.verifier'), __import__('emx.bencher'), __import__('emx.exporter'), emx.bench",
    "__import__('emx.api'), emx.export, emx.verify",
)


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root() / "python",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("order", ORDERS)
def test_functions_are_functions_after_any_import(order: str) -> None:
    """No module of emx may take the place of a public function."""
    code = f"import emx; {order}; print([callable(f) for f in (emx.export, emx.verify, emx.bench)])"
    assert python(code) == "[True, True, True]"


def test_every_public_name_is_there() -> None:
    assert python("import emx; print(all(hasattr(emx, name) for name in emx.__all__))") == "True"


def test_import_is_light() -> None:
    heavy = "{'torch', 'jinja2'} & sys.modules.keys()"
    assert python(f"import emx, sys; print({heavy})") == "set()"


def test_unknown_name() -> None:
    assert python("import emx; print(hasattr(emx, 'nonsense'))") == "False"
