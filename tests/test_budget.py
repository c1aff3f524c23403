# SPDX-License-Identifier: Apache-2.0
"""Budgets of memory: the pages that they end with. tests/cmake has those of code and stack."""

from __future__ import annotations

from pathlib import Path

import pytest

import emx
from golden_models import golden_bundle

# The table at the top of tests/golden/residual.c has the arena of each layer. Most of it is in use
# while relu_1 reads relu6 and writes over it, and relu waits for the sum that comes later.
ARENA = """the arena takes 2,400 bytes, the budget is MAX_ARENA_BYTES 2,399
  at    models.py:28: y = F.relu(self.expand(y))  (layer relu_1)
  hint  most of it:
        1,440  relu_1  f32[1x6x6x10]  models.py:28
          864  relu  f32[1x6x6x6]  models.py:26
          864  relu6  f32[1x6x6x6]  models.py:27"""
WEIGHTS = """the weights take 2,704 bytes, the budget is MAX_WEIGHTS_BYTES 2,703
  hint  most of it:
        864  stem_weight  f32[1x2x3x3x3x4]  models.py:26
        768  head_weight  f32[2x24x4]  models.py:31
        320  project_weight  f32[1x2x1x1x10x4]  models.py:29"""


@pytest.mark.parametrize(
    ("fits", "too_small", "page"),
    [
        (emx.Options(max_arena_bytes=2400), emx.Options(max_arena_bytes=2399), ARENA),
        (emx.Options(max_weights_bytes=2704), emx.Options(max_weights_bytes=2703), WEIGHTS),
    ],
)
def test_page(tmp_path: Path, fits: emx.Options, too_small: emx.Options, page: str) -> None:
    """To the byte; and nothing is written when there is an error."""
    with pytest.raises(emx.EmxError) as error:
        emx.compile(golden_bundle("residual"), out_dir=tmp_path, options=too_small)
    assert str(error.value) == page
    assert not list(tmp_path.iterdir())
    emx.compile(golden_bundle("residual"), out_dir=tmp_path, options=fits)


def test_inputs_in_the_arena_count(tmp_path: Path) -> None:
    options = emx.Options(io_arena=True, max_arena_bytes=0)
    with pytest.raises(emx.EmxError, match="an input"):
        emx.compile(golden_bundle("dense"), out_dir=tmp_path, options=options)
