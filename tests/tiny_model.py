# SPDX-License-Identifier: Apache-2.0
"""A model written by hand, in the shape of generated code: y = w * x, then y = y + b.

It lets the boards, the test programs, verify and bench be tested without the compiler.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emx.bundle import Bundle, Ref, Vectors
from emx.ir import Array, TensorType
from emx.twin import PYTORCH, Expected, Tolerance

N, VECTORS = 8, 3
W = np.linspace(-1, 2, N, dtype=np.float32)
B = np.linspace(0.5, 0.25, N, dtype=np.float32)
X = np.arange(N * VECTORS, dtype=np.float32).reshape(VECTORS, N) / 4
SCALED = X * W
Y = SCALED + B

MODEL = """
#include "emx_test.h"
#include <math.h>
#include <string.h>
{globals}
extern const unsigned char tiny_weights[];
__attribute__((section(".bss.emx_arena.tiny"))) static float arena[{n}];
__attribute__((noinline)) static void scale(const float *x, const float *w, float *y) {{
    for (int i = 0; i < {n}; i++)
        y[i] = {scale};
}}
__attribute__((noinline)) static void shift(const float *x, const float *b, float *y) {{
    for (int i = 0; i < {n}; i++)
        y[i] = {shift};
}}
void tiny_run(const float x[{n}], float y[{n}]);
void tiny_run(const float x[{n}], float y[{n}]) {{
    const float *w = (const float *)(const void *)tiny_weights;
    {extra}
    scale(x, w, arena);
    {tap0}
    shift(arena, w + {n}, y);
    {tap1}
}}
"""
EMPTY = """
void tiny_run(const float x[{n}], float y[{n}]);
void tiny_run(const float x[{n}], float y[{n}]) {{ (void)x; (void)y; }}
"""
TEST = """
#include "emx_test.h"
extern const unsigned char tiny_weights[], tiny_vectors[];
void tiny_run(const float *x, float *y);
static void run(const void *const x[], void *const y[]) {{ tiny_run(x[0], y[0]); }}
static float y0[{n}];
static void *const y[] = {{y0}};
static const emx_test_tensor_t inputs[] = {{{{"x", EMX_TEST_F32, {row}, 0, {{0, 0}}}}}};
static const emx_test_tensor_t outputs[] = {{
    {{"y", EMX_TEST_F32, {row}, {y_at}, {{1e-4f, 1e-6f}}}}}};
static const emx_test_step_t steps[] = {{
    {{"scale", "scale_f32_0", "net.py:7: x = self.scale(x)  (module scale)", EMX_TEST_F32,
     {row}, {scaled_at}, {{1e-4f, 1e-6f}}}},
    {{"shift", "shift_f32_0", "net.py:8: x = self.shift(x)  (module shift)", EMX_TEST_F32,
     {row}, {y_at}, {{1e-4f, 1e-6f}}}}}};
static const emx_test_weight_t weights[] = {{
    {{"scale.w", 0, {row}, 0, {w_crc}u}}, {{"shift.b", 1, {row}, {row}, {b_crc}u}}}};
const emx_test_model_t tiny_test_model = {{
    .name = "tiny", .inputs = inputs, .outputs = outputs, .steps = steps, .weight_table = weights,
    .n_inputs = 1, .n_outputs = 1, .n_steps = 2, .n_weights = 2, .n_vectors = {vectors},
    .tapped = {tapped}, .weights = tiny_weights, .vectors = tiny_vectors,
    .vectors_bytes = {vectors_bytes}, .vectors_crc32 = {vectors_crc}u,
    .source = "PyTorch", .y = y, .run = run}};
"""


@dataclass(frozen=True)
class Tiny:
    """The model, with C fragments that tests replace to break it.

    scale, shift   C expressions of x[i] and w[i], or x[i] and b[i]
    extra          statements at the start of the run; globals: declarations before it
    flip_weight, flip_vector   byte of the blob to change after its checksum was taken, or -1
    """

    scale: str = "x[i] * w[i]"
    shift: str = "x[i] + b[i]"
    extra: str = ""
    globals: str = ""
    flip_weight: int = -1
    flip_vector: int = -1
    bundle: Bundle = field(default_factory=lambda: tiny_bundle())

    def __call__(self, directory: Path, *, taps: bool = False, empty_run: bool = False) -> Expected:
        weights, vectors = _raw(W, B), _raw(X, SCALED[:1], Y)
        row = 4 * N
        facts = {"n": N, "row": row, "vectors": VECTORS, "tapped": str(taps).lower()}
        facts |= {"scaled_at": X.nbytes, "y_at": X.nbytes + row, "vectors_bytes": len(vectors)}
        facts |= {"w_crc": zlib.crc32(_raw(W)), "b_crc": zlib.crc32(_raw(B))}
        facts |= {"vectors_crc": zlib.crc32(vectors), "globals": self.globals, "extra": self.extra}
        facts |= {"scale": self.scale, "shift": self.shift}
        facts |= {"tap0": "emx_test_tap(0, arena);" if taps else ""}
        facts |= {"tap1": "emx_test_tap(1, y);" if taps else ""}
        (directory / "tiny.c").write_text((EMPTY if empty_run else MODEL).format(**facts))
        (directory / "tiny_test.c").write_text(TEST.format(**facts))
        for blob, data, flip in (
            ("weights", weights, self.flip_weight),
            ("vectors", vectors, self.flip_vector),
        ):
            (directory / f"tiny_{blob}.c").write_text(_blob(blob, data, flip))
        (directory / "tiny.json").write_text(json.dumps(MANIFEST))
        layers = {"scale": SCALED[0], "shift": Y[0]}
        tolerance = Tolerance(1e-4, 1e-6)
        bounds = dict.fromkeys(layers, tolerance)
        return Expected(PYTORCH, {"x": X}, {"y": Y}, layers, {"y": tolerance}, bounds)


MANIFEST = {
    "name": "tiny",
    "arena_bytes": 4 * N,
    "arena_lower_bound": 4 * N,
    "io_arena": False,
    "weights_bytes": 8 * N,
    "macs": N,
    "inputs": [{"name": "x", "dtype": "f32", "shape": [N], "bytes": 4 * N}],
    "outputs": [{"name": "y", "dtype": "f32", "shape": [N], "bytes": 4 * N}],
    "layers": [
        {
            "step": i,
            "name": name,
            "kernel": f"{name}_f32_0",
            "macs": N * (1 - i),
            "source": f"net.py:{7 + i}",
            "module": name,
        }
        for i, name in enumerate(("scale", "shift"))
    ],
}


def tiny_bundle() -> Bundle:
    t = TensorType((N,))
    vectors = Vectors({"x": X}, {"y": Y})
    return Bundle("tiny", (("x", t),), (("y", Ref("shift")),), (), {}, vectors)


def _raw(*arrays: Array) -> bytes:
    return b"".join(a.astype("<f4").tobytes() for a in arrays)


def _blob(kind: str, data: bytes, flip: int) -> str:
    values = bytearray(data)
    if flip >= 0:
        values[flip] ^= 0x10
    section = f'__attribute__((aligned(16), section(".rodata.emx_{kind}.tiny")))'
    return (
        f"extern const unsigned char tiny_{kind}[];\n"
        f"{section} const unsigned char tiny_{kind}[] = {{{', '.join(map(str, values))}}};\n"
    )
