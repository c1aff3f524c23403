# SPDX-License-Identifier: Apache-2.0
"""The micro-kernels of int8 sums (arch/dsp_s8.h, arch/mve_s8.h) against the portable ones: the same
bits, for ordinary and for extreme numbers, on the board."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from board_sets import each
from emx.build import Program, build, find_machine, run
from emx.paths import root
from emx.target import find_target

ARCH = root() / "runtime" / "include" / "emx" / "arch"
GENERIC = re.findall(r"^#ifndef EMX_HAVE_(\w+)$", (ARCH / "generic_s8.h").read_text(), re.MULTILINE)

# Both at once: the portable ones are read first, under the names generic_NAME. Weights are numbers
# w[k][o], which each packs in its own way. Kinds: 0 any, 1 the largest, 2 the least, 3 both, 4 any
# whose results fit int8.
DRIVER = """
#include <emx/emx.h>
#include <emx/quant.h>
%(rename)s
#include <emx/arch/generic_s8.h>
%(restore)s
#undef EMX_ARCH_GENERIC_S8_H
#undef EMX_DEPTH
#undef EMX_STAGED
#undef emx_blocks_1_twice_s8
#undef emx_blocks_2_twice_s8
#undef emx_short_1_twice_s8
#undef emx_short_2_twice_s8
#define EMX_DOT_%(dot)s
#include <emx/arch.h>
#include <stdio.h>

enum { DEPTH = 8 * 16, BLOCKS = 3, OUTPUTS = BLOCKS * EMX_BLOCK, PITCH = OUTPUTS + 5 };
static int8_t EMX_ALIGNED(16) x[2 * DEPTH + 4], w[OUTPUTS][DEPTH], packed[2][OUTPUTS * DEPTH],
    pairs[2][4 * DEPTH], y[2][2 * PITCH];
static int32_t EMX_ALIGNED(16) q[2][BLOCKS * EMX_BLOCK_PARAMS];
static int32_t sums[2][2 * EMX_BLOCK];
static uint32_t state = 1;
static int kind, twice;

static int32_t uniform(int32_t lo, int32_t hi)
{
    state = state * 1664525u + 1013904223u;
    return lo + (int32_t)((uint64_t)(state >> 8) * (uint32_t)(hi - lo + 1) >> 24);
}

static int8_t number(void)
{
    const int any = uniform(-128, 127);
    const int end = any < 0 ? -128 : 127;
    return (int8_t)(kind %% 4 == 0 ? any : kind == 1 ? 127 : kind == 2 ? -128 : end);
}

// Weights and parameters that are allowed: acc << k fits 32 bits; the second of two outputs that
// are summed as one has 24 bits and k <= 8, and is not -128.
static void start(int32_t depth)
{
    memset(y, 0x55, sizeof y);
    for (int i = 0; i < 2 * DEPTH + 4; i++) {
        x[i] = number();
    }
    for (int32_t o = 0; o < OUTPUTS; o++) {
        int8_t *const block = packed[0] + o / EMX_BLOCK * EMX_BLOCK * depth;
        int8_t *const other = packed[1] + o / EMX_BLOCK * EMX_BLOCK * depth;
        int32_t bound = 0;
        for (int32_t k = 0; k < depth; k++) {
            int32_t v = number();
            w[o][k] = (int8_t)(twice && v == -128 ? -127 : v);
            bound += 128 * (w[o][k] < 0 ? -w[o][k] : w[o][k]);
            const int borrow = twice && o %% 2 && w[o - 1][k] < 0;
            block[emx_weight_at_s8(k, o %% 4)] = (int8_t)(w[o][k] - borrow);
            other[4 * k + o %% 4] = w[o][k];
        }
        const int32_t least = kind == 4 ? 20000 : (1 << 23) - 1 - bound;
        const int32_t b = kind %% 4 ? least : uniform(-least, least);
        bound += b < 0 ? -b : b;
        int32_t room = 0;
        while (room < 31 && (int64_t)bound << (room + 1) < (int64_t)1 << 31) {
            room++;
        }
        const int32_t high = kind %% 4 ? (1 << 23) - 1 : uniform(1 << 22, (1 << 23) - 1);
        const int32_t most = twice && o %% 2 ? emx_min_s32(room, 8) : room;
        const int32_t m = high * 256 + (kind %% 4 ? most : uniform(0, kind ? 2 : most));
        const int32_t c = kind %% 4 ? (kind - 2) * (1 << 20) : uniform(-70000, 70000);
        int32_t *const theirs = q[1] + o / EMX_BLOCK * EMX_BLOCK_PARAMS;
        int32_t *const ours = q[0] + o / EMX_BLOCK * EMX_BLOCK_PARAMS;
        const int at = o %% 4;
        theirs[EMX_BLOCK_BIAS + at] = ours[EMX_BLOCK_BIAS + at] = b;
        theirs[EMX_BLOCK_M + 2 * at] = ours[EMX_BLOCK_M + 2 * at] = m;
        theirs[EMX_BLOCK_START + 2 * at] = ours[EMX_BLOCK_START + 2 * at] = c;
        if (twice && o %% 2) {
            const uint32_t first = (uint32_t)ours[EMX_BLOCK_BIAS + at - 1];
            ours[EMX_BLOCK_BIAS + at] = (int32_t)((uint32_t)b * 256 + first);
        }
    }
}

static void check(const char *name, const void *ours, const void *theirs, size_t bytes)
{
    printf("%%s %%s\\n", name, memcmp(ours, theirs, bytes) ? "differs" : "same");
}

static void stage(int32_t depth)
{
    emx_stage_2_s8(pairs[0], depth, 0, x + 1, x + 2, depth / 2 / EMX_DEPTH * EMX_DEPTH);
    emx_stage_2_s8(pairs[0], depth, depth / 2 / EMX_DEPTH * EMX_DEPTH,
                   x + 1 + depth / 2 / EMX_DEPTH * EMX_DEPTH,
                   x + 2 + depth / 2 / EMX_DEPTH * EMX_DEPTH,
                   depth - depth / 2 / EMX_DEPTH * EMX_DEPTH);
    generic_stage_2_s8(pairs[1], depth, 0, x + 1, x + 2, depth);
}

static void blocks(int32_t depth)
{
    const emx_blocks_s8_t p = {depth, BLOCKS, PITCH, 0};
    twice ? emx_blocks_1_twice_s8(&p, x + 1, packed[0], q[0], y[0])
          : emx_blocks_1_s8(&p, x + 1, packed[0], q[0], y[0]);
    generic_blocks_1_s8(&p, x + 1, packed[1], q[1], y[1]);
    check("blocks_1_s8", y[0], y[1], sizeof y[0]);
    twice ? emx_blocks_2_twice_s8(&p, pairs[0], packed[0], q[0], y[0])
          : emx_blocks_2_s8(&p, pairs[0], packed[0], q[0], y[0]);
    generic_blocks_2_s8(&p, pairs[1], packed[1], q[1], y[1]);
    check("blocks_2_s8", y[0], y[1], sizeof y[0]);
    check("stage_2_s8", y[0], y[1], sizeof y[0]); // whose pairs have an order of their own
    check("weight_at_s8", y[0], y[1], sizeof y[0]);
}

// The same of short parameters: biases have 24 bits as it is.
static void shorts(int32_t depth)
{
    const emx_blocks_s8_t p = {depth, BLOCKS, PITCH, uniform(-70000, 70000)};
    int32_t packed_q[BLOCKS * EMX_SHORT_PARAMS];
    for (int32_t o = 0; o < OUTPUTS; o++) {
        const int32_t *const block = q[1] + o / EMX_BLOCK * EMX_BLOCK_PARAMS;
        int32_t *const to = packed_q + o / EMX_BLOCK * EMX_SHORT_PARAMS;
        const int at = o %% EMX_BLOCK;
        const uint32_t b = (uint32_t)block[EMX_BLOCK_BIAS + at];
        const uint8_t bytes[] = {(uint8_t)b, (uint8_t)(b >> 8), (uint8_t)(b >> 16)};
        to[at] = block[EMX_BLOCK_M + 2 * at];
        memcpy((uint8_t *)(to + EMX_BLOCK) + 3 * at, bytes, sizeof bytes);
    }
    memset(y, 0x55, sizeof y);
    twice ? emx_short_1_twice_s8(&p, x + 1, packed[0], packed_q, y[0])
          : emx_short_1_s8(&p, x + 1, packed[0], packed_q, y[0]);
    generic_short_1_s8(&p, x + 1, packed[1], packed_q, y[1]);
    check("short_1_s8", y[0], y[1], sizeof y[0]);
    twice ? emx_short_2_twice_s8(&p, pairs[0], packed[0], packed_q, y[0])
          : emx_short_2_s8(&p, pairs[0], packed[0], packed_q, y[0]);
    generic_short_2_s8(&p, pairs[1], packed[1], packed_q, y[1]);
    check("short_2_s8", y[0], y[1], sizeof y[0]);
}

static void dots(int32_t depth)
{
    emx_dot_1x4_s8(sums[0], q[0], x + 3, packed[0], depth);
    generic_dot_1x4_s8(sums[1], q[1], x + 3, packed[1], depth);
    check("dot_1x4_s8", sums[0], sums[1], 16);
    emx_dot_2x4_s8(sums[0], q[0], pairs[0], packed[0], depth);
    generic_dot_2x4_s8(sums[1], q[1], pairs[1], packed[1], depth);
    check("dot_2x4_s8", sums[0], sums[1], 32);
    for (int32_t n = 1; n <= 4; n++) {
        const emx_bounds_s8_t in = {n - 128, 127 - 3 * n};
        emx_scale_4_s8(y[0] + n, sums[1], q[0], &in, n);
        generic_scale_4_s8(y[1] + n, sums[1], q[1], &in, n);
        check("scale_4_s8", y[0], y[1], sizeof y[0]);
    }
}

static void copy(int32_t n) // < 32
{
    emx_copy_s8(y[0] + n %% 4, x + n %% 3, n);
    generic_copy_s8(y[1] + n %% 4, x + n %% 3, n);
    check("copy_s8", y[0], y[1], sizeof y[0]);
    uint16_t offsets[32];
    for (int i = 0; i < 32; i++) {
        offsets[i] = (uint16_t)uniform(0, 2 * DEPTH);
    }
    emx_gather_s8(y[0], x + 1, offsets, n);
    generic_gather_s8(y[1], x + 1, offsets, n);
    check("gather_s8", y[0], y[1], (size_t)n);
}

static void look_up(int32_t n) // < 28; its result over what is looked up, or before it
{
    memcpy(y[0], x, sizeof y[0]);
    memcpy(y[1], x, sizeof y[1]);
    emx_look_up_s8(y[0] + 2, y[0] + 2 + n %% 5, x, n);
    generic_look_up_s8(y[1] + 2, y[1] + 2 + n %% 5, x, n);
    check("look_up_s8", y[0], y[1], sizeof y[0]);
}

int main(void)
{
%(have)s
    for (twice = 0; twice <= %(twice)d; twice++) {
        for (int32_t depth = EMX_DEPTH; depth <= DEPTH; depth += EMX_DEPTH) {
            for (int i = 0; i < 8; i++) {
                kind = i < 4 ? i : 4;
                start(depth);
                copy(depth %% 23 + i);
                look_up(depth %% 19 + i);
                stage(depth);
                blocks(depth);
                shorts(depth);
                if (!twice) {
                    dots(depth);
                }
            }
        }
    }
    return 0;
}
"""


def driver(dot: str) -> str:
    def lines(text: str) -> str:
        return "\n".join(text.replace("NAME", name) for name in GENERIC)

    return DRIVER % {
        "dot": dot.upper(),
        "twice": int(dot == "dsp"),
        "rename": lines("#define emx_NAME generic_NAME"),
        "restore": lines("#undef emx_NAME"),
        "have": lines('#ifdef EMX_HAVE_NAME\n    printf("NAME overridden\\n");\n#endif'),
    }


def results(directory: Path, name: str, level: str, text: str = "") -> dict[str, set[str]]:
    """Micro-kernel -> what the program said about it."""
    machine, source = find_machine(name), directory / "micro.c"
    source.write_text(text or driver(find_target(machine.target).dot))
    program = Program((source,), flags=("-std=gnu11", level, "-Wall", "-Wextra", "-Werror"))
    done = run(machine, build(machine, program, directory / "micro"), cwd=directory)
    assert done.code == 0, done.output
    said: dict[str, set[str]] = {}
    for line in done.output.splitlines():
        name, _, rest = line.partition(" ")
        said.setdefault(name, set()).add(rest)
    return said


@pytest.mark.parametrize("level", ["-O0", "-Os", "-O3"])
@pytest.mark.parametrize("machine", each(("mps2-an386", "mps3-an547", "mps2-an500", "mps2-an505")))
def test_overrides_agree_with_generic(tmp_path: Path, machine: str, level: str) -> None:
    said = results(tmp_path, machine, level)
    assert set(said) == set(GENERIC)
    assert all(words <= {"same", "overridden"} and "same" in words for words in said.values()), said


@pytest.mark.parametrize(
    ("header", "machine"), [("dsp_s8", "mps2-an386"), ("mve_s8", "mps3-an547")]
)
def test_headers_override_what_they_say(tmp_path: Path, header: str, machine: str) -> None:
    text = (ARCH / f"{header}.h").read_text()
    wanted = set(re.findall(r"^#define EMX_HAVE_(\w+)$", text, re.MULTILINE)) & set(GENERIC)
    said = results(tmp_path, machine, "-O2")
    assert wanted and {name for name, words in said.items() if "overridden" in words} >= wanted


@pytest.mark.parametrize("machine", ["mps2-an386", "mps3-an547"])
def test_a_wrong_override_is_noticed(tmp_path: Path, machine: str) -> None:
    """One weight of the second block."""
    text = driver(find_target(find_machine(machine).target).dot)
    text = text.replace(
        "stage(depth);\n                b", "packed[0][5 * depth] ^= 64; stage(depth); b"
    )
    said = results(tmp_path, machine, "-O2", text)
    assert all("differs" in said[f"{kind}_{n}_s8"] for kind in ("blocks", "short") for n in (1, 2))
