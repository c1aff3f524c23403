# SPDX-License-Identifier: Apache-2.0
"""The test program and verify: right models pass, each way of being wrong is found and named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from board_sets import KINDS
from emx.build import Program as CProgram
from emx.build import build, find_machine, run
from emx.compare import compare
from emx.errors import EmxError
from emx.testrun import build_test
from emx.verifier import verify
from tiny_model import SCALED, Tiny, X, Y

MACHINES = ("host", *KINDS)


def run_test(
    tmp_path: Path, model: Tiny, machine_name: str, *, taps: bool = False
) -> tuple[int, str]:
    """Exit code and text of the test program, as ctest would run it."""
    model(tmp_path, taps=taps)
    machine = find_machine(machine_name)
    program = build_test(machine, tmp_path, "tiny", ("emx_test.c", "emx_print.c"))
    done = run(machine, program, cwd=tmp_path)
    return done.code, done.output


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("taps", [False, True])
def test_right_model_passes(tmp_path: Path, machine: str, taps: bool) -> None:
    code, text = run_test(tmp_path, Tiny(), machine, taps=taps)
    assert code == 0
    assert text.startswith("emx: pass tiny: output y agrees with PyTorch (max abs ")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("byte", "layer", "tensor"), [(1, "scale", "w"), (35, "shift", "b")])
def test_changed_weight_byte_names_the_layer(
    tmp_path: Path, machine: str, byte: int, layer: str, tensor: str
) -> None:
    code, text = run_test(tmp_path, Tiny(flip_weight=byte), machine)
    assert code == 2
    assert f"emx: FAIL tiny: the weights of layer {layer} are not those of the model" in text
    assert f"  kernel  {layer}_f32_0\n  tensor  {layer}.{tensor}: CRC-32 is 0x" in text


@pytest.mark.parametrize("byte", [0, 95, 96, 223])
def test_changed_vector_byte(tmp_path: Path, byte: int) -> None:
    code, text = run_test(tmp_path, Tiny(flip_vector=byte), "host")
    assert code == 2
    assert text == "emx: FAIL tiny: the test vectors are not those that were exported"


@pytest.mark.parametrize("machine", MACHINES)
def test_wrong_output_page(tmp_path: Path, machine: str) -> None:
    """Element 2 is wrong in vector 1 only."""
    assert SCALED[0, 2] > -0.1 and -0.5 < SCALED[1, 2] < -0.1 and SCALED[2, 2] < -0.5
    model = Tiny(shift="x[i] + b[i] + (i == 2 && x[i] > -0.5f && x[i] < -0.1f ? 0.125f : 0)")
    code, text = run_test(tmp_path, model, machine)
    got, want = Y[1, 2] + np.float32(0.125), Y[1, 2]
    assert code == 1
    head, where, worst = text.splitlines()
    assert head == "emx: FAIL tiny: output y differs from PyTorch"
    assert where == "  vector  1"
    assert worst.startswith(f"  worst   [2] is {got:g}, PyTorch gave {want:g} (max abs 0.125")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("layer", ["scale", "shift"])
def test_first_diverging_layer(tmp_path: Path, machine: str, layer: str) -> None:
    wrong = {"scale": "x[i] * w[i] + (i == 5)", "shift": "x[i] + b[i] + (i == 5)"}
    code, text = run_test(tmp_path, Tiny(**{layer: wrong[layer]}), machine, taps=True)
    want = (SCALED if layer == "scale" else Y)[0, 5]
    line = 7 if layer == "scale" else 8
    assert code == 1
    head, at, kernel, worst = text.splitlines()
    assert head == f"emx: FAIL tiny: layer {layer} diverges from PyTorch"
    assert at == f"  at      net.py:{line}: x = self.{layer}(x)  (module {layer})"
    assert kernel == f"  kernel  {layer}_f32_0"
    assert worst.startswith(f"  worst   [5] is {want + 1:g}, PyTorch gave {want:g} (max abs 1, ")


def test_output_that_is_not_written_fails(tmp_path: Path) -> None:
    """Vector 1 would look right if the memory still held what vector 0 left there."""
    code, text = run_test(tmp_path, Tiny(extra="(void)w; return;"), "host")
    assert code == 1
    assert "[0] is nan, PyTorch gave 0.5 (max abs inf" in text.replace("-nan", "nan")


def test_model_that_writes_its_input(tmp_path: Path) -> None:
    """Too little to spoil an output, so only the vectors' checksum can tell."""
    model = Tiny(extra="((float *)(uintptr_t)x)[7] += 1e-7f * x[7];")
    code, text = run_test(tmp_path, model, "mps2-an386")
    assert code == 2
    assert "emx: FAIL tiny: the test vectors were overwritten by the model" in text


@pytest.mark.parametrize("machine", MACHINES)
def test_verify_right(machine: str, tmp_path: Path) -> None:
    model = Tiny()
    report = verify(model.bundle, model, target=machine, layers=True, dump=tmp_path)
    (out,) = report.outputs
    assert report.ok and out.ok and out.rel <= 1e-6 and out.max_ulp <= 1
    assert [layer.name for layer in report.layers] == ["scale", "shift"]
    assert report.diverging is None
    for group, values in (("inputs/x", X), ("eager/y", Y)):
        np.testing.assert_array_equal(np.load(tmp_path / f"{group}.npy"), values)
    np.testing.assert_allclose(np.load(tmp_path / "device/y.npy"), Y, rtol=1e-6)
    assert f"{machine} agrees with PyTorch" in str(report)


@pytest.mark.parametrize("machine", MACHINES)
def test_verify_wrong(machine: str) -> None:
    model = Tiny(shift="x[i] + b[i] + (i == 5)")
    report = verify(model.bundle, model, target=machine, layers=True)
    assert not report.ok and report.diverging is not None
    bad = report.diverging
    assert (bad.name, bad.module, bad.source, bad.kernel) == (
        "shift",
        "shift",
        "net.py:8",
        "shift_f32_0",
    )
    assert (bad.worst, bad.device, bad.eager) == (5, Y[0, 5] + 1, Y[0, 5])
    text = str(report)
    assert "layer shift is the first that diverges" in text and "DIFFERS" in text


def test_verify_json_is_strict_and_has_the_documented_keys() -> None:
    model = Tiny(shift="i == 3 ? 0.0f / zero : x[i] + b[i]", globals="static volatile float zero;")
    data = verify(model.bundle, model, layers=True).to_dict()
    parsed = json.loads(json.dumps(data, allow_nan=False))
    assert list(parsed) == ["ok", "target", "outputs", "layers"]
    assert list(parsed["outputs"][0]) == ["name", "max_abs", "rel", "max_ulp", "sqnr_db"]
    assert parsed["outputs"][0]["rel"] is None and parsed["ok"] is False
    assert parsed["layers"][1]["ok"] is False and parsed["layers"][0]["ok"] is True


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (Tiny(flip_weight=0), "the test program refused the model on host"),
        (Tiny(extra="*(volatile int *)16 = 1;"), "the program ended early on host: exit code -"),
        (Tiny(scale="undeclared"), "cc cannot build the program for host"),
    ],
)
def test_verify_errors(model: Tiny, what: str) -> None:
    with pytest.raises(EmxError) as caught:
        verify(model.bundle, model)
    assert str(caught.value).startswith(what)


def test_compare_against_the_definitions() -> None:
    eager = np.array([1, -2, 4, 0], np.float32)
    device = np.array([1, -2.5, 4, np.nextafter(np.float32(0), np.float32(-1))], np.float32)
    d = compare(device, eager, rtol=0.125, atol=0)
    assert (d.max_abs, d.rel, d.ok, d.worst, d.device, d.eager) == (0.5, 0.125, True, 1, -2.5, -2)
    assert d.max_ulp == 2**21  # floats near -2 are 2^-22 apart
    assert math.isclose(d.sqnr_db, 10 * math.log10(21 / 0.25), rel_tol=1e-6)
    assert not compare(device, eager, rtol=0.12, atol=0).ok


def test_compare_values_that_are_not_finite() -> None:
    inf, nan = np.inf, np.nan
    same = np.array([nan, inf, -inf, 1], np.float32)
    d = compare(same, same, 0, 0)
    assert (d.ok, d.max_abs, d.max_ulp, d.sqnr_db) == (True, 0, 0, inf)
    for other in ([nan, inf, inf, 1], [0, inf, -inf, 1], [nan, inf, -inf, nan], [nan, 1, -inf, 1]):
        d = compare(np.array(other, np.float32), same, 1, 1)
        assert (d.ok, d.max_abs) == (False, inf)


def test_formatter_agrees_with_printf(tmp_path: Path) -> None:
    """emx_print_f32 on powers of ten, halves, limits and random bits, against C's %g."""
    source = tmp_path / "main.c"
    source.write_text(FORMATTER)
    testing = find_machine("host").sources[0].parent
    program = CProgram((source, testing / "emx_print.c"))
    out = run(
        find_machine("host"), build(find_machine("host"), program, tmp_path / "f"), cwd=tmp_path
    )
    assert out.code == 0, out.output
    rows = [line.split() for line in out.output.splitlines()]
    assert len(rows) == 2000
    for ours, c in rows:
        if ours != c:  # one unit of the sixth digit
            assert math.isclose(float(ours), float(c), rel_tol=1.1e-5)
            assert len(ours) <= 13
    assert sum(ours == c for ours, c in rows) > 1900


FORMATTER = r"""
#include "emx_print.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
static void show(float x) {
    emx_print_f32(x);
    fflush(stdout);
    printf(" %g\n", (double)x);
}
int main(void) {
    const float special[] = {0, 1, -1, 10, 123456, 999999, 999999.5f, 1e6f, 1234567, 0.0001f,
        0.00012345f, 0.00009f, 1e-5f, 0.125f, 100, 1e-30f, 3.4028235e38f, 1e-38f,
        INFINITY, -INFINITY};
    for (int i = 0; i < 20; i++)
        show(special[i]);
    uint32_t state = 1;
    for (int i = 0; i < 1980;) {
        state = state * 1664525u + 1013904223u;
        float x;
        memcpy(&x, &state, sizeof x);
        if (isnormal(x))
            show(x), i++;
    }
    return 0;
}
"""
