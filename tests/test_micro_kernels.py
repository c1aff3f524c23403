# SPDX-License-Identifier: Apache-2.0
"""Every micro-kernel of an instruction set against its portable default, on the board."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from board_sets import KINDS
from emx.build import Program, build, find_machine, run
from emx.paths import root
from emx.target import Tile, find_target
from many import hosts

ARCH = root() / "runtime" / "include" / "emx" / "arch"
GENERIC = re.findall(r"^#ifndef EMX_HAVE_(\w+)$", (ARCH / "generic.h").read_text(), re.MULTILINE)

# Both at once: the portable ones are read first, under the names generic_NAME.
DRIVER = """
#include <emx/emx.h>
%(rename)s
#include <emx/arch/generic.h>
%(restore)s
#undef EMX_ARCH_GENERIC_H
#include <emx/arch.h>
#include <stdio.h>

enum { N = 40 * EMX_LANES * EMX_TILE_VECTORS, SUMS = (EMX_TILE_VECTORS + 2) * EMX_LANES };
static float EMX_ALIGNED(64) x[N], w[N], ours[SUMS], theirs[SUMS];
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
    for (int i = 0; i < SUMS; i++) {
        ours[i] = theirs[i] = uniform();
    }
}

// Sums of n products of numbers below 1 may differ by the rounding of each; 0: the same values.
static void check(const char *name, int n)
{
    const float bound = 2.4e-7f * (float)n;
    for (int i = 0; i < SUMS; i++) {
        const bool same = isnan(ours[i]) ? isnan(theirs[i]) : ours[i] == theirs[i];
        if (!same && !(fabsf(ours[i] - theirs[i]) <= bound)) {
            printf("%%s n %%d [%%d]: %%d, generic %%d, in millionths\\n", name, n, i,
                   (int)(ours[i] * 1e6f), (int)(theirs[i] * 1e6f));
            return;
        }
    }
    printf("%%s same\\n", name);
}

static void start_f32(int n)
{
    const int lanes = n %% EMX_LANES + 1;
    start();
    emx_start_f32(ours, w + 1, lanes);
    generic_start_f32(theirs, w + 1, lanes);
    for (int i = lanes; i < EMX_LANES; i++) {
        ours[i] = theirs[i]; // which get anything
    }
    check("start_f32", 0);
}

// MAC(pixels, columns): both must be constants.
#define MAC(pixels, columns) \\
    if ((pixels) <= EMX_TILE_PIXELS && (pixels) * (columns) <= EMX_TILE_VECTORS) { \\
        for (int i = 0; i < (pixels); i++) { \\
            at[i] = x + 1 + (i * 7) %% 20; \\
        } \\
        start(); \\
        emx_mac_f32(ours + EMX_LANES, pixels, columns, at, step, w, column, n); \\
        generic_mac_f32(theirs + EMX_LANES, pixels, columns, at, step, w, column, n); \\
        check("mac_f32", n); \\
    }

static void mac_step(int step, int n)
{
    const float *at[EMX_TILE_PIXELS];
    const int32_t column = n * EMX_LANES + EMX_LANES;
    MAC(1, 1)
    MAC(1, 2)
    MAC(1, 4)
    MAC(1, 16)
    MAC(4, 1)
    MAC(4, 2)
    MAC(8, 1)
    MAC(8, 2)
}

static void mac_f32(int n)
{
    mac_step(1, n); // constants too: there are paths of their own for adjacent elements
    mac_step(3, n);
}

#define LANES(lanes) \\
    if ((lanes) > 0 && (lanes) <= EMX_LANES) { \\
        start(); \\
        for (int i = (lanes); i < EMX_LANES; i++) { \\
            x[3 + i] = NAN; /* beyond the channels lies whatever */ \\
            w[4 + i] = 0; \\
            ours[4 + i] = theirs[4 + i] = 0; \\
        } \\
        emx_mac_lanes_f32(ours + 4, x + 3, w + 4, lanes); \\
        generic_mac_lanes_f32(theirs + 4, x + 3, w + 4, lanes); \\
        check("mac_lanes_f32", 1); \\
    }

static void mac_lanes_f32(int n)
{
    (void)n;
    LANES(1)
    LANES(EMX_LANES / 2)
    LANES(EMX_LANES / 2 + 1)
    LANES(EMX_LANES - 1)
    LANES(EMX_LANES)
}

#define STORE(lanes) \\
    for (int i = 0; i < 6; i++) { \\
        const float lo = bounds[i / 2][0], hi = bounds[i / 2][1]; \\
        const float *const skip = i %% 2 ? w + 1 : NULL; \\
        start(); \\
        x[(n + i) %% EMX_LANES] = NAN; \\
        emx_store_f32(ours + 5, x, skip, lo, hi, lanes); \\
        generic_store_f32(theirs + 5, x, skip, lo, hi, lanes); \\
        check("store_f32", 0); \\
    }

static void store_f32(int n)
{
    static const float bounds[][2] = {{-INFINITY, INFINITY}, {0, INFINITY}, {-0.5f, 0.25f}};
    STORE(1)
    STORE(EMX_LANES / 2)
    STORE(EMX_LANES - 1)
    STORE(EMX_LANES)
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


def program_of(source: Path, machine: str, *flags: str) -> Program:
    """The driver, for the tile of the machine's target."""
    tile = find_target(find_machine(machine).target).tile
    return Program(
        (source,),
        include=(source.parent,),
        defines=(
            f"EMX_LANES={tile.lanes}",
            f"EMX_TILE_PIXELS={tile.pixels}",
            f"EMX_TILE_VECTORS={tile.vectors}",
        ),
        flags=("-std=gnu11", *flags),
    )


def results(directory: Path, name: str, level: str) -> dict[str, set[str]]:
    """Micro-kernel -> what the program said about it."""
    source = directory / "micro.c"
    source.write_text(driver())
    machine = find_machine(name)
    program = program_of(source, name, level, "-Wall", "-Wextra", "-Werror")
    done = run(machine, build(machine, program, directory / "micro"), cwd=directory)
    assert done.code == 0, done.output
    said: dict[str, set[str]] = {}
    for line in done.output.splitlines():
        name, _, rest = line.partition(" ")
        said.setdefault(name, set()).add(rest)
    return said


@pytest.mark.parametrize("level", ["-O0", "-O3"])
@pytest.mark.parametrize("machine", [*hosts(), *KINDS])
def test_overrides_agree_with_generic(tmp_path: Path, machine: str, level: str) -> None:
    said = results(tmp_path, machine, level)
    assert set(said) == set(GENERIC)
    assert all(words <= {"same", "overridden"} and "same" in words for words in said.values()), said


@pytest.mark.parametrize(
    ("header", "machine"),
    [("mve", "mps3-an547"), ("vfp", "mps2-an386"), *(("vector", m) for m in hosts())],
)
def test_headers_override_what_they_say(tmp_path: Path, header: str, machine: str) -> None:
    text = (ARCH / f"{header}.h").read_text()
    wanted = set(re.findall(r"^#define EMX_HAVE_(\w+)$", text, re.MULTILINE))
    said = results(tmp_path, machine, "-O2")
    assert wanted and {name for name, words in said.items() if "overridden" in words} == wanted


def test_portable_tile_is_the_default(tmp_path: Path) -> None:
    """arch.h has the tile of targets that do not say one."""
    tile = Tile()
    source = tmp_path / "default.c"
    source.write_text(
        "#include <emx/arch.h>\n"
        f"int main(void) {{ return EMX_LANES != {tile.lanes} || EMX_TILE_PIXELS != {tile.pixels}"
        f" || EMX_TILE_VECTORS != {tile.vectors}; }}\n"
    )
    host = find_machine("host")
    assert run(host, build(host, Program((source,)), tmp_path / "default"), cwd=tmp_path).code == 0


def test_a_wrong_override_is_noticed(tmp_path: Path) -> None:
    """An error of one lane in the header under test."""
    text = driver().replace("#include <emx/arch.h>", '#include "wrong.h"\n#include <emx/arch.h>')
    text = text.replace("emx_start_f32(ours, w + 1, lanes)", "emx_wrong_start(ours, w + 1, lanes)")
    (tmp_path / "wrong.h").write_text(
        "#include <emx/arch.h>\n"
        "static void emx_wrong_start(float *acc, const float *b, int lanes)\n"
        "{ emx_start_f32(acc, b, lanes); acc[0] += lanes == 3 ? 1e-4f : 0; }\n"
    )
    source = tmp_path / "micro.c"
    source.write_text(text)
    machine = find_machine("host")
    program = program_of(source, "host")
    done = run(machine, build(machine, program, tmp_path / "micro"), cwd=tmp_path)
    assert done.code == 0 and "start_f32 n 0 [0]: " in done.output
