# SPDX-License-Identifier: Apache-2.0
"""No model may cost more than budgets.csv says; the README's table is made of the same figures."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from emx.build import board_names, find_machine
from emx.paths import root


def load_script() -> Any:
    """scripts/bench-table as a module: its name has no suffix, so that it cannot be imported."""
    loader = SourceFileLoader("bench_table", str(root() / "scripts" / "bench-table"))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = sys.modules[loader.name] = module_from_spec(spec)
    loader.exec_module(module)
    return module


table = load_script()
BOARDS = tuple(b for b in board_names() if find_machine(b).count_args)
BUDGETS = table.read()
QUICK = ("mps2-an386", "mps3-an547")  # networks on other boards take a minute each


def marks(model: str, board: str) -> list[pytest.MarkDecorator]:
    network = model in table.NETWORKS
    missing = pytest.mark.skipif(
        network and not table.SHARED.is_dir(), reason="needs ../shared/models"
    )
    return [missing, pytest.mark.soak if network and board not in QUICK else pytest.mark.slow]


@pytest.mark.parametrize(
    ("model", "board"), [pytest.param(*key, marks=marks(*key)) for key in BUDGETS]
)
def test_model_keeps_to_its_budget(model: str, board: str) -> None:
    now, budget = table.measure(model, board), BUDGETS[model, board]
    assert now.stack <= now.stack_bound <= 1.25 * now.stack + 32
    assert not table.grown(budget, now), (
        f"{table.delta_table(budget, now)}\nIf that is the price of something: make bench"
    )


def test_every_board_has_budgets() -> None:
    pairs = {(m, b) for m in table.SMALL for b in BOARDS}
    pairs |= {(m, b) for m in table.NETWORKS for b in QUICK}
    assert pairs <= BUDGETS.keys()


def test_readme_has_the_budgets_figures() -> None:
    assert table.README.read_text() == table.readme(BUDGETS), "make bench writes the table"
    assert table.BOARDS_PAGE.read_text() == table.boards_page(BUDGETS), "make bench writes it too"


def test_one_percent_more_is_noticed_and_shown() -> None:
    budget = BUDGETS["residual", "mps2-an386"]
    assert not table.grown(budget, budget)
    for figure in ("instructions", "code", "weights", "arena", "stack", "stack_bound"):
        old = getattr(budget, figure)
        more = replace(budget, **{figure: old + old // 50 + 1})
        assert table.grown(budget, more) == [figure]
        assert table.grown(more, budget) == []
        (line,) = [s for s in table.delta_table(budget, more).splitlines() if "%" in s]
        assert f"{old:,}" in line and "+2." in line and figure in line


def test_budgets_survive_the_file(tmp_path: Path) -> None:
    table.write(BUDGETS.values(), tmp_path / "budgets.csv")
    assert table.read(tmp_path / "budgets.csv") == BUDGETS
    assert (tmp_path / "budgets.csv").read_text() == table.BUDGETS.read_text()
