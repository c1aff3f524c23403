# SPDX-License-Identifier: Apache-2.0
"""Calling PyTorch on a user's model: quiet, on one thread, with errors a user understands."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from emx.errors import EmxError
from emx.export.origin import Frame, is_torch, shorten


@contextmanager
def calm() -> Iterator[None]:
    """Keep PyTorch's warnings and log lines off the user's terminal; run on one thread.

    One thread, because sums split over threads differ in the last bit from machine to machine.
    """
    disabled, threads = logging.root.manager.disable, torch.get_num_threads()
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        logging.disable(disabled)


@contextmanager
def explained(what: str, *, hint: str | None = None) -> Iterator[None]:
    """Turn an exception inside PyTorch or the user's model into an EmxError that names the line."""
    try:
        yield
    except EmxError:
        raise
    except Exception as error:
        raise EmxError(
            f"{what}: {_summary(error)}", at=_user_line(error), hint=hint or _advice(error)
        ) from None


def _summary(error: Exception) -> str:
    """The first meaningful lines of a message; PyTorch appends pages of advice to its own."""
    lines = [line.strip() for line in str(error).splitlines()]
    meaningful = [line for line in lines if line][:2]
    return "\n".join([f"{type(error).__name__}: {meaningful[0]}" if meaningful else
                      type(error).__name__, *meaningful[1:]])  # fmt: skip


def _advice(error: Exception) -> str | None:
    if "DataDependent" in type(error).__name__ or "data-dependent" in str(error):
        return "the path through the model must not depend on the values of its inputs"
    return None


def _user_line(error: Exception) -> str | None:
    """The deepest frame that is neither PyTorch's nor ours."""
    frames = [
        Frame(f.filename, f.lineno or 0, f.line or "")
        for f in traceback.extract_tb(error.__traceback__)
    ]
    user = [f for f in frames if not is_torch(f.path) and not f.path.startswith(("<", __file__))]
    mine = [f for f in user if "/emx/export/" not in f.path and "/contextlib" not in f.path]
    return f"{shorten(mine[-1].path)}:{mine[-1].line}: {mine[-1].text}" if mine else None
