# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can act on: what, where in the user's model, which operator, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. Only `what` is always there; `hint` may span several lines."""

    what: str
    at: str | None = None
    op: str | None = None
    hint: str | None = None

    def page(self) -> str:
        rows = [("at", self.at), ("op", self.op), ("hint", self.hint)]
        text = [f"  {key:<5} {_indent(value)}" for key, value in rows if value]
        return "\n".join([self.what, *text])

    def as_dict(self) -> dict[str, str | None]:
        return {"what": self.what, "at": self.at, "op": self.op, "hint": self.hint}


class EmxError(Exception):
    """A user error. `str(error)` is the page that the command line and CMake show."""

    def __init__(
        self,
        what: str,
        *,
        at: str | None = None,
        op: str | None = None,
        hint: str | None = None,
        problems: Iterable[Problem] = (),
    ) -> None:
        self.head = Problem(what, at, op, hint)
        self.problems = tuple(problems)
        super().__init__(what)

    @staticmethod
    def of(problems: Iterable[Problem], summary: str) -> EmxError:
        """One error for all `problems` of a model; a single one speaks for itself."""
        found = tuple(problems)
        if len(found) == 1:
            (p,) = found
            return EmxError(p.what, at=p.at, op=p.op, hint=p.hint)
        return EmxError(f"{len(found)} {summary}", problems=found)

    def __str__(self) -> str:
        if not self.problems:
            return self.head.page()
        return self.head.what + "\n" + _table(self.problems)

    def as_dict(self) -> dict[str, object]:
        """The error as JSON: {"error": {"what", "at", "op", "hint"[, "problems"]}}."""
        error: dict[str, object] = dict(self.head.as_dict())
        if self.problems:
            error["problems"] = [p.as_dict() for p in self.problems]
        return {"error": error}


def _indent(value: str) -> str:
    return value.replace("\n", "\n" + " " * 8)


def _table(problems: tuple[Problem, ...]) -> str:
    """The same complaint about the same kind of operator stands once, with every place."""
    groups: dict[tuple[str, str | None], list[Problem]] = {}
    for p in problems:
        groups.setdefault((p.what, p.hint), []).append(p)
    lines = []
    for (what, hint), members in groups.items():
        lines.append(f"  {what}" + (f"  ({len(members)} times)" if len(members) > 1 else ""))
        for p in members:
            lines += [f"    {key:<5} {v}" for key, v in (("at", p.at), ("op", p.op)) if v]
        if hint:
            lines.append(f"    hint  {hint}".replace("\n", "\n" + " " * 10))
    return "\n".join(lines)
