# SPDX-License-Identifier: Apache-2.0
"""Calling PyTorch on a user's model: quiet, on one thread, with errors a user understands."""

from __future__ import annotations

import contextlib
import logging
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from emx.errors import EmxError
from emx.exporter.origin import is_library, is_torch, shorten

HINTS = {
    "data-dependent": "what a model computes must not depend on the values of its inputs",
}


@contextmanager
def calm() -> Iterator[None]:
    """Keep PyTorch's warnings and log lines off the user's terminal; run on one thread.

    What a model prints goes to stderr: stdout belongs to the results of emx. One thread, because
    sums split over threads differ in the last bit from machine to machine; without NNPACK, which
    writes to the terminal where it does not know the processor.
    """
    disabled, threads = logging.root.manager.disable, torch.get_num_threads()
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    try:
        nnpack = torch.backends.nnpack.flags(enabled=False)
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr), nnpack:
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        logging.disable(disabled)


@contextmanager
def explained(
    what: str, *, hint: str | None = None, hints: Mapping[str, str] = HINTS
) -> Iterator[None]:
    """Turn an exception inside PyTorch or the user's model into an EmxError that names the line.

    hints   part of the message -> hint, for where there is no `hint`
    """
    try:
        yield
    except EmxError:
        raise
    except (Exception, SystemExit) as error:
        advice = [text for part, text in hints.items() if part in str(error)]
        hint = hint or next(iter(advice), None)
        raise EmxError(f"{what}: {_summary(error)}", at=_user_line(error), hint=hint) from None


def _summary(error: BaseException) -> str:
    """The first line of a message; PyTorch appends pages of advice to its own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _user_line(error: BaseException) -> str | None:
    """The deepest frame in the user's own code: not of PyTorch, a library, Python or emx."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shorten(error.filename)}:{error.lineno}: {(error.text or '').strip()}"
    others = (sysconfig.get_path("stdlib"), str(Path(__file__).parents[1]))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = frame.filename
        if not (is_torch(path) or is_library(path) or path.startswith(others)):
            return f"{shorten(path)}:{frame.lineno}: {frame.line}"
    return None
