# SPDX-License-Identifier: Apache-2.0
"""The documents say what is: links lead somewhere, options exist, commands run as printed."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from emx import cli
from emx.bencher import BenchReport
from emx.operators_page import page

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", document.read_text())):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def options_of(parser: argparse.ArgumentParser) -> dict[str, set[str]]:
    """Command -> its long options; "" for those of emx itself."""
    table = {"": {o for a in parser._actions for o in a.option_strings}}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                table[name] = {o for a in command._actions for o in a.option_strings}
    return {k: {o for o in v if o.startswith("--") and o != "--help"} for k, v in table.items()}


def test_manual_has_every_option_and_no_other() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    table = options_of(cli._parser())
    real = set().union(*table.values())
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--help"}
    assert real == named
    for command in table:
        assert f"emx {command}" in text


def test_manual_has_every_figure_of_a_bench() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    for field in fields(BenchReport):
        assert f'"{field.name}"' in text, field.name


def tutorial_script(work: Path) -> str:
    """The tutorial's commands, with its project in `work` instead of beside the clone."""
    text = (ROOT / "docs" / "tutorial.md").read_text().partition("For the integers of section 5")[0]
    lines, code = [], False
    for line in text.splitlines():
        code = line.startswith("    ") or (code and not line)
        if code:
            lines.append(line[4:])
    own = {"make demo", ". .venv/bin/activate"}  # the demo is tested, the environment is there
    script = "\n".join(line for line in lines if line not in own)
    script = script.replace("../my-firmware", f"'{work}'").replace("../emx/", f"'{ROOT}'/")
    assert script.count("cmake --build") == 2
    return "set -eu\n" + script


@pytest.mark.slow
def test_tutorial_runs_as_printed(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "emx").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m emx "$@"\n')
    (tools / "emx").chmod(0o755)
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tools / "python").chmod(0o755)
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "python"),
        "emx_DIR": str(ROOT / "cmake"),
        "VIRTUAL_ENV": sys.prefix,
    }
    done = subprocess.run(
        ["bash", "-c", tutorial_script(tmp_path / "my firmware")],
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("100% tests passed") == 2
    assert "gesture 3: " in done.stdout


def test_page_of_operators_is_current() -> None:
    assert (ROOT / "docs" / "operators.md").read_text() == page(), (
        "docs/operators.md is stale: emx ops --markdown > docs/operators.md"
    )
