# SPDX-License-Identifier: Apache-2.0
"""Every micro-kernel of an instruction set against its portable default, on the board."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from board_sets import KINDS
from emx.build import Program, build, find_machine, run
from emx.paths import root

ARCH = root() / "runtime" / "include" / "emx" / "arch"
GENERIC = re.findall(r"^#ifndef EMX_HAVE_(\w+)$", (ARCH / "generic.h").read_text(), re.MULTILINE)

# Both at once: the portable ones are read first, under the names generic_NAME. MEASURE(name, n,
# lanes, call, close) calls both with the same random operands.
DRIVER = """
#include <emx/emx.h>
%(rename)s
#include <emx/arch/generic.h>
%(restore)s
#undef EMX_ARCH_GENERIC_H
#include <emx/arch.h>
#include <stdio.h>

enum { N = 600 };
static float x[N + 4], w[N + 4], ours[24], theirs[24];
static uint32_t state = 1;

static float uniform(void) // in [-1, 1)
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static void start(void)
{
    for (int i = 0; i < N; i++) {
        x[i] = uniform();
        w[i] = uniform();
    }
    for (int i = 0; i < 24; i++) {
        ours[i] = theirs[i] = uniform();
    }
}

// Sums of n products of numbers below 1 may differ by the rounding of each; 0: the same values.
static void check(const char *name, int n)
{
    const float bound = 2.4e-7f * (float)n;
    for (int i = 0; i < 24; i++) {
        const bool same = isnan(ours[i]) ? isnan(theirs[i]) : ours[i] == theirs[i];
        if (!same && !(fabsf(ours[i] - theirs[i]) <= bound)) {
            printf("%%s n %%d [%%d]: %%d, generic %%d, in millionths\\n", name, n, i,
                   (int)(ours[i] * 1e6f), (int)(theirs[i] * 1e6f));
            return;
        }
    }
    printf("%%s same\\n", name);
}

static void mac_1x4_f32(int n)
{
    for (int step = 1; step <= 5; step += 2) {
        start();
        emx_mac_1x4_f32(ours + 4, x, step, w, n);
        generic_mac_1x4_f32(theirs + 4, x, step, w, n);
        check("mac_1x4_f32", n);
    }
}

static void mac_4x4_f32(int n)
{
    for (int pixel = 0; pixel <= 60; pixel += 20) {
        start();
        emx_mac_4x4_f32(ours + 4, x + 1, pixel, 3, w, n);
        generic_mac_4x4_f32(theirs + 4, x + 1, pixel, 3, w, n);
        check("mac_4x4_f32", n);
    }
}

static void mac_channels_f32(int n)
{
    const int lanes = n %% 4 + 1;
    start();
    for (int i = lanes; i < 4; i++) {
        x[3 + i] = NAN; // beyond the channels lies whatever
        w[4 + i] = 0;
    }
    emx_mac_channels_f32(ours + 4, x + 3, w + 4, lanes);
    generic_mac_channels_f32(theirs + 4, x + 3, w + 4, lanes);
    check("mac_channels_f32", 1);
}

static void store_4_f32(int n)
{
    static const float bounds[][2] = {{-INFINITY, INFINITY}, {0, INFINITY}, {-0.5f, 0.25f}};
    for (int i = 0; i < 6; i++) {
        const float lo = bounds[i / 2][0], hi = bounds[i / 2][1];
        const float *const skip = i %% 2 ? w + 1 : NULL;
        start();
        x[(n + i) %% 4] = NAN;
        emx_store_4_f32(ours + 5, x, skip, lo, hi, n %% 4 + 1);
        generic_store_4_f32(theirs + 5, x, skip, lo, hi, n %% 4 + 1);
        check("store_4_f32", 0);
    }
}

int main(void)
{
%(have)s
    for (int n = 0; n <= 33; n++) {
%(calls)s
    }
    return 0;
}
"""


def driver() -> str:
    def lines(text: str) -> str:
        return "\n".join(text.replace("NAME", name) for name in GENERIC)

    return DRIVER % {
        "rename": lines("#define emx_NAME generic_NAME"),
        "restore": lines("#undef emx_NAME"),
        "have": lines('#ifdef EMX_HAVE_NAME\n    printf("NAME overridden\\n");\n#endif'),
        "calls": lines("        NAME(n);"),
    }


def results(directory: Path, board: str, level: str) -> dict[str, set[str]]:
    """Micro-kernel -> what the program said about it."""
    source = directory / "micro.c"
    source.write_text(driver())
    machine = find_machine(board)
    program = Program((source,), flags=(level, "-std=gnu11", "-Wall", "-Wextra", "-Werror"))
    done = run(machine, build(machine, program, directory / "micro"), cwd=directory)
    assert done.code == 0, done.output
    said: dict[str, set[str]] = {}
    for line in done.output.splitlines():
        name, _, rest = line.partition(" ")
        said.setdefault(name, set()).add(rest)
    return said


@pytest.mark.parametrize("level", ["-O0", "-O3"])
@pytest.mark.parametrize("board", KINDS)
def test_overrides_agree_with_generic(tmp_path: Path, board: str, level: str) -> None:
    said = results(tmp_path, board, level)
    assert set(said) == set(GENERIC)
    assert all(words <= {"same", "overridden"} and "same" in words for words in said.values()), said


def test_helium_overrides_what_its_header_says(tmp_path: Path) -> None:
    header = (ARCH / "mve.h").read_text()
    wanted = set(re.findall(r"^#define EMX_HAVE_(\w+)$", header, re.MULTILINE))
    said = results(tmp_path, "mps3-an547", "-O2")
    assert wanted and {name for name, words in said.items() if "overridden" in words} == wanted
    assert not [
        w for words in results(tmp_path, "mps2-an386", "-O2").values() for w in words - {"same"}
    ]


def test_a_wrong_override_is_noticed(tmp_path: Path) -> None:
    """An error of one lane in the header under test."""
    text = driver().replace("#include <emx/arch.h>", '#include "wrong.h"\n#include <emx/arch.h>')
    text = text.replace(
        "mac_1x4_f32(ours + 4, x, step, w, n)", "wrong_mac(ours + 4, x, step, w, n)"
    )
    (tmp_path / "wrong.h").write_text(
        "#include <emx/arch.h>\n"
        "static void emx_wrong_mac(float *acc, const float *x, int step, const float *w, int n)\n"
        "{ emx_mac_1x4_f32(acc, x, step, w, n); acc[3] += n > 8 ? 1e-4f : 0; }\n"
    )
    source = tmp_path / "micro.c"
    source.write_text(text)
    machine = find_machine("host")
    program = Program((source,), include=(tmp_path,))
    done = run(machine, build(machine, program, tmp_path / "micro"), cwd=tmp_path)
    assert done.code == 0 and "mac_1x4_f32 n 9 [7]: " in done.output
