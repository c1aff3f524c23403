# SPDX-License-Identifier: Apache-2.0
"""The scalar functions of <emx/scalar.h> against float64, over a dense sweep of all floats."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from math import erf
from pathlib import Path

import numpy as np
import pytest

from board_sets import QUICK
from emx.build import board_names, find_machine, find_tool, run
from emx.ir import Array
from emx.paths import root

DRIVER = """
#include <emx/scalar.h>
#include <stdio.h>
#include <stdlib.h>

// Replace every float of the file argv[1] by f of it.
int main(int argc, char **argv)
{
    FILE *const file = argc == 2 ? fopen(argv[1], "r+b") : NULL;
    static float x[1 << 16];
    if (!file) {
        return 1;
    }
    for (size_t n; (n = fread(x, 4, 1 << 16, file)) > 0;) {
        for (size_t i = 0; i < n; i++) {
            x[i] = FUNCTION(x[i]);
        }
        fseek(file, -4L * (long)n, SEEK_CUR);
        fwrite(x, 4, n, file);
        fflush(file);
        fseek(file, 0, SEEK_CUR);
    }
    return fclose(file);
}
"""
CONTRACTIONS = (
    ("-ffp-contract=off",),
    ("-ffp-contract=fast", "-march=native"),
)
SPECIAL = np.array(
    [0, -0.0, 1, -1, 1e-45, -1e-45, 1e-38, -1e-38, 88.72284, 88.8, -87.33655, -103.97, -104, -104.1,
     3.4e38, -3.4e38, np.inf, -np.inf, np.nan],
    np.float32,
)  # fmt: skip


def sweep(step: int) -> Array:
    """Every `step`-th float by its bits, subnormal ones, infinities and NaN included."""
    bits = np.arange(0, 1 << 32, step, np.uint64).astype(np.uint32)
    return np.concatenate([bits.view(np.float32), SPECIAL])


def build(machine_name: str, source: Path, *flags: str) -> Path:
    """Compile with these flags last, for they contradict the usual ones."""
    machine = find_machine(machine_name)
    tree = root()
    include = (tree / "runtime" / "include", tree / "runtime" / "testing", tree / "boards/common")
    command = [
        *(find_tool(machine.compiler), *machine.flags, "-O2", "-std=gnu11", *flags),
        *(f"-I{path}" for path in include),
        *map(str, (source, *(machine.sources if machine.emulator else ()))),
        *(*machine.link_flags, "-lm", "-o", str(source.with_suffix(""))),
    ]
    subprocess.run(command, check=True)
    return source.with_suffix("")


def compute(directory: Path, function: str, flags: tuple[str, ...], x: Array) -> Array:
    """The C function of every element of x."""
    source, data = directory / "f.c", directory / "x.bin"
    source.write_text(DRIVER)
    x.tofile(data)
    program = build("host", source, f"-DFUNCTION={function}", *flags)
    subprocess.run([str(program), str(data)], check=True)
    return np.fromfile(data, np.float32)


def ulps(y: Array, want: Array) -> Array:
    """Distance to the exact value in units of float32's last place there."""
    unit = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
    return np.abs(y.astype(np.float64) - want) / unit


@pytest.mark.parametrize("flags", CONTRACTIONS, ids=["off", "fast"])
def test_exp_is_within_one_ulp(tmp_path: Path, flags: tuple[str, ...]) -> None:
    x = sweep(997)
    y = compute(tmp_path, "emx_exp_f32", flags, x)
    with np.errstate(all="ignore"):  # signalling NaN too
        want = np.exp(x.astype(np.float64))
    limits = np.finfo(np.float32)
    overflow = want > limits.max
    assert np.all(y[overflow] == np.inf) and np.array_equal(np.isnan(y), np.isnan(x))
    finite = ~overflow & ~np.isnan(x)
    error = ulps(y[finite], want[finite])
    assert error.max() <= 1.0, f"exp({x[finite][error.argmax()]!r})"
    assert np.all(y[x == 0] == 1) and np.all(y[x < -104] == 0)
    subnormal = (want > 0) & (want < limits.tiny) & (y > 0)
    assert subnormal.sum() > 10 and (np.abs(x[finite]) < limits.tiny).sum() > 10000


@pytest.mark.parametrize("flags", CONTRACTIONS, ids=["off", "fast"])
def test_exp_of_negative_numbers_is_within_one_ulp(tmp_path: Path, flags: tuple[str, ...]) -> None:
    x = sweep(997)
    x = x[(x <= 0) | np.isnan(x)]
    y = compute(tmp_path, "emx_exp_negative_f32", flags, x)
    with np.errstate(all="ignore"):
        want = np.exp(x.astype(np.float64))
    assert np.array_equal(np.isnan(y), np.isnan(x)) and np.all(y[x <= -87.4] == 0)
    normal = x > -87.2
    error = ulps(y[normal], want[normal])
    assert error.max() <= 1.0, f"exp({x[normal][error.argmax()]!r})"
    assert np.all(y[x == 0] == 1)


@pytest.mark.parametrize("flags", CONTRACTIONS, ids=["off", "fast"])
def test_tanh_is_within_two_ulp(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """The sweep by bits, and every few floats from 1/16 to 16."""
    low, high = np.array([1 / 16, 16], np.float32).view(np.uint32)
    dense = np.arange(low, high, 29, np.uint32).view(np.float32)
    x = np.concatenate([sweep(9973), dense, -dense])
    y = compute(tmp_path, "emx_tanh_f32", flags, x)
    with np.errstate(invalid="ignore"):
        want = np.tanh(x.astype(np.float64))
    assert np.array_equal(np.isnan(y), np.isnan(x))
    known = ~np.isnan(x)
    error = ulps(y[known], want[known])
    assert error.max() <= 2.0, f"tanh({x[known][error.argmax()]!r})"
    assert (
        np.array_equal(np.signbit(y[known]), np.signbit(x[known])) and np.abs(y[known]).max() == 1
    )


@pytest.mark.slow
def test_exp_in_the_middle_of_its_range(tmp_path: Path) -> None:
    """Every float from 1 to 88.8 in steps of 3, and their negatives."""
    low, high = np.array([1, 88.7], np.float32).view(np.uint32)
    x = np.arange(low, high, 3, np.uint32).view(np.float32)
    x = np.concatenate([x, -x])
    y = compute(tmp_path, "emx_exp_f32", CONTRACTIONS[0], x)
    assert ulps(y, np.exp(x.astype(np.float64))).max() <= 1.0


# name -> (float64 reference, largest error relative to the larger of |f(x)| and `floor`, floor)
FUNCTIONS: Mapping[str, tuple[Callable[[Array], Array], float, float]] = {
    "emx_sigmoid_f32": (lambda x: 1 / (1 + np.exp(-x)), 2e-7, 0),
    "emx_silu_f32": (lambda x: x / (1 + np.exp(-x)), 3e-7, 0),
    "emx_gelu_f32": (lambda x: 0.5 * x * (1 + ERF(x / np.sqrt(2))), 2e-6, 0.5),
    "emx_gelu_tanh_f32": (
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), 2e-6, 0.5,
    ),
}  # fmt: skip
ERF = np.vectorize(erf, otypes=[np.float64])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations(tmp_path: Path, name: str) -> None:
    reference, bound, floor = FUNCTIONS[name]
    x = sweep(100_003)
    x = x[np.abs(x) < 80]  # beyond, the functions are 0, 1 or x to a float's precision
    y = compute(tmp_path, name, CONTRACTIONS[0], x)
    want = reference(x.astype(np.float64))
    error = np.abs(y - want) / np.maximum(np.maximum(np.abs(want), floor), 1e-37)
    assert error.max() <= bound, f"{name}({x[error.argmax()]!r})"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_at_their_ends(tmp_path: Path, name: str) -> None:
    x = np.array([np.inf, 1e30, 200, -200, -1e30, np.nan], np.float32)
    y = compute(tmp_path, name, CONTRACTIONS[0], x)
    above = [1, 1, 1] if name == "emx_sigmoid_f32" else x[:3].tolist()
    assert y[:3].tolist() == above and np.isnan(y[5])
    assert np.all(np.abs(y[3:5]) < 1e-7)


CHECKSUM = """
#include <emx/scalar.h>
#include <stdio.h>
int main(void)
{
    uint32_t sum = 2166136261u;
    for (uint64_t i = 0; i >> 32 == 0; i += 99991) {
        const uint32_t bits = (uint32_t)i;
        float x;
        memcpy(&x, &bits, 4);
        if (x == x) {
            const float y = emx_exp_f32(x);
            uint32_t out;
            memcpy(&out, &y, 4);
            sum = (sum ^ out) * 16777619u;
        }
    }
    printf("%08x\\n", (unsigned)sum);
    return 0;
}
"""


@pytest.mark.parametrize("boards", [QUICK, pytest.param(board_names(), marks=pytest.mark.slow)])
def test_exp_has_the_same_bits_everywhere(tmp_path: Path, boards: tuple[str, ...]) -> None:
    """Without fused multiply-add, as <emx/scalar.h> promises."""
    source = tmp_path / "sum.c"
    source.write_text(CHECKSUM)
    sums = {}
    for name in ("host", *boards):
        program = build(name, source, "-ffp-contract=off")
        done = run(find_machine(name), program, cwd=tmp_path)
        assert done.code == 0
        sums[name] = done.output
    assert len(sums) >= 3 and len(set(sums.values())) == 1, sums
