# SPDX-License-Identifier: Apache-2.0
"""emx check: for a target, and for a board, whose memory the model has to fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from emx import cli
from emx.api import check
from emx.errors import EmxError
from emx.sample import P, Sample, X
from golden_models import golden_bundle
from sampled import bundle_of

MODEL = Path(__file__).parent / "golden" / "residual.emx"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["check", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ((), "generic"),
        (("--target", "cortex-m7"), "cortex-m7"),
        (("--target", "host"), "host"),
        pytest.param(("--target", "microbit"), "cortex-m0", marks=pytest.mark.slow),
        pytest.param(("--target", "aarch64-linux"), "aarch64", marks=pytest.mark.slow),
    ],
)
def test_check_on_the_command_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    target: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, MODEL, *arguments)
    assert (code, err) == (0, "")
    assert out.startswith(f"no problems: residual for {target}: ")
    assert not list(tmp_path.iterdir())


def test_unknown_target(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, MODEL, "--target", "toaster")
    assert (code, out) == (2, "")
    assert err.startswith("emx: error: there is no target or board 'toaster'\n  hint  ")
    assert "cortex-m33" in err and "rv32-virt" in err


@pytest.mark.slow
def test_too_large_for_a_board() -> None:
    """Weights in flash, the arena and what the test program has in RAM."""
    bundle = bundle_of("wide", Sample("aten.linear.default", X(4, 520), P(270, 520), P(270)))
    weights = 4 * (272 * 520 + 272)
    with pytest.raises(EmxError) as caught:
        check(bundle, target="microbit")
    what, flash, sizes = str(caught.value).splitlines()
    assert what == "wide is too large for microbit"
    needed = int(flash.split()[2].replace(",", ""))
    assert flash == f"  hint  FLASH: {needed:,} bytes needed, 262,144 there"
    assert weights < needed < weights + 50_000
    assert f"the model has {weights:,} bytes of weights and an arena of " in sizes

    check(bundle, target="mps2-an385")  # which has room for it


@pytest.mark.slow
def test_ram_of_a_board() -> None:
    bundle = bundle_of("tall", Sample("aten.relu.default", X(5000)))
    with pytest.raises(EmxError) as caught:
        check(bundle, target="microbit")
    assert "  hint  RAM: " in str(caught.value) and " bytes needed, 16,384 there" in str(
        caught.value
    )


def test_vectors_can_be_fewer() -> None:
    bundle = golden_bundle("residual")
    one = bundle.with_vectors(1)
    assert one.vectors.count == 1 < bundle.vectors.count
    assert one.model_hash == bundle.model_hash
