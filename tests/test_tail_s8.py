# SPDX-License-Identifier: Apache-2.0
"""Integer operators beside convolutions: their C equals their twins, which are at most one step
from what PyTorch computes in float32 and quantises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from emx.axis import Axis
from emx.fixed import log2, reciprocal, rsqrt
from emx.ir import Array, Unsupported
from emx.ops.concat import Concat
from emx.ops.conv3d import Conv3d
from emx.ops.conv3d_s8 import Conv3dS8
from emx.ops.gather import Gather
from emx.ops.layer_norm_s8 import LayerNormS8, norm_parameters
from emx.ops.matmul import MatMul
from emx.ops.matmul_s8 import MatMulS8
from emx.ops.movement import Expand, Pad, Permute, Slice
from emx.ops.reduce_s8 import ReduceS8
from emx.ops.resample import Resample
from emx.ops.softmax_s8 import SoftmaxS8, powers_of
from emx.ops.table_s8 import TableS8, table_of
from emx.quant import Quant, multipliers
from emx.target import find_target
from emx.view import View
from twins import MACHINES, Case, overlap_cases, run_cases, s8

R = np.random.default_rng(4)
FIXED = Quant(1 / 256, -128)
FLOATS: dict[str, tuple[Array, Array]] = {}  # case -> the real parameters behind its constants


def t(x: Array, q: Quant) -> torch.Tensor:
    """Dequantised, as PyTorch sees it."""
    return (torch.tensor(x.astype(np.float32)) - q.zero) * q.scale


def q8(x: torch.Tensor, q: Quant) -> Array:
    inverse = 1 / torch.tensor(q.scale)
    return np.asarray(torch.clamp(torch.round(x * inverse) + q.zero, q.lo, q.hi).numpy())


def assert_near(case: Case, want: torch.Tensor, y: Quant) -> None:
    """At most a step from PyTorch's reals, and seldom."""
    steps = np.abs(case.outputs().astype(int) - q8(want, y))
    assert steps.max(initial=0) <= 1 and (steps > 0).sum() <= max(1, 2e-3 * steps.size)


FUNCTIONS: dict[str, list[Callable[[Array], Array]]] = {
    "tanh": [np.tanh],
    "half": [lambda v: v * 0.5, np.abs],
    "same": [],
}


def table_case(name: str, x: Quant, y: Quant, f: str, *shape: int) -> Case:
    return Case(name, TableS8(x, y), (s8(R, 2, *shape),), (table_of(x, y, *FUNCTIONS[f]),))


TABLES = [
    table_case("table_0", Quant(0.02, 3), Quant(1 / 128), "tanh", 1),
    table_case("table_1", Quant(0.05, -128), Quant(0.05, -128), "half", 3, 5),
    table_case("table_2", Quant(0.05, 0), Quant(0.07, 11, lo=-20, hi=100), "same", 2, 3, 37),
    table_case("table_3", Quant(0.05, 0), Quant(0.07, 11), "same", 0, 3),
]


INDEX = np.array([[0], [0], [1], [4]], np.int32)
MOVED = [
    Case("permute", Permute((2, 0, 1)), (s8(R, 2, 3, 4, 5),)),
    Case("pad", Pad((1, 0, -1), (2, 3, 0), -77.0), (s8(R, 2, 3, 4, 5),)),
    Case("slice", Slice(1, 3, 2, -2), (s8(R, 2, 3, 4, 5),)),
    Case("expand", Expand((3, 4, 5)), (s8(R, 2, 3, 1, 5),)),
    Case("concat", Concat(1), (s8(R, 2, 3, 4), s8(R, 2, 3, 1), s8(R, 2, 3, 9))),
    Case("gather", Gather(1), (s8(R, 2, 3, 4, 5),), (np.array([3, 0], np.int64),)),
    Case("nearest", Resample(1), (s8(R, 2, 3, 5, 4),), (INDEX,)),
    Case("nearest_last", Resample(0), (s8(R, 2, 5),), (INDEX,)),
]


def softmax_case(
    name: str,
    x: float,
    axis: int,
    *shape: int,
    y: Quant = FIXED,
    log: bool = False,
    low: int = -128,
) -> Case:
    q = Quant(x, 5)
    return Case(name, SoftmaxS8(axis, q, y, log), (s8(R, 3, *shape, low=low),), (powers_of(q),))


WIDE = Quant(0.1, 100)
SOFTMAXES = [
    softmax_case("softmax_0", 0.1, 0, 1),
    softmax_case("softmax_1", 0.1, 1, 5, 12),
    softmax_case("softmax_2", 0.02, 1, 2, 10, 3),
    softmax_case("softmax_3", 1.5, 0, 7, 5),
    softmax_case("softmax_4", 1e-6, 0, 1000),
    softmax_case("softmax_5", 0.3, 0, 4000, low=120, y=Quant(1e-5, -100)),
    softmax_case("softmax_6", 0.05, 1, 40, 33, y=Quant(0.003, -7, lo=-60, hi=110)),
    softmax_case("softmax_7", 0.1, -1),
    softmax_case("softmax_8", 0.1, 0, 0, 3),
    softmax_case("log_softmax_0", 0.1, 0, 1, y=WIDE, log=True),
    softmax_case("log_softmax_1", 0.1, 1, 5, 12, y=WIDE, log=True),
    softmax_case("log_softmax_2", 0.02, 1, 2, 10, 3, y=Quant(0.04, 127), log=True),
    softmax_case("log_softmax_3", 0.5, 0, 1000, y=Quant(0.5, 120, lo=-100), log=True),
]


def reduce_case(
    name: str, row: str, axes: tuple[int, ...], *shape: int, y: Quant = WIDE, keep: bool = False
) -> Case:
    return Case(name, ReduceS8(row, axes, keep, Quant(0.05, -7), y), (s8(R, 3, *shape),))


REDUCTIONS = [
    reduce_case("mean_0", "mean", (0,), 1),
    reduce_case("mean_1", "mean", (0, 1), 4, 4, 9, y=Quant(0.05, -7), keep=True),
    reduce_case("mean_2", "mean", (1, 3), 2, 3, 4, 5, y=Quant(0.003, 4, lo=4, hi=90)),
    reduce_case("sum_0", "sum", (2,), 2, 3, 40, y=Quant(0.41, 5)),
    reduce_case("sum_1", "sum", (0, 1, 2), 9, 3, 40, y=Quant(3.2, 5)),
    reduce_case("sum_2", "sum", (), 9, 3, y=Quant(1e-9, 5)),
    reduce_case("amax_0", "amax", (1,), 5, 9, y=Quant(0.05, -7)),
    reduce_case("amax_1", "amax", (0,), 5, 9, y=Quant(0.02, 90)),
    reduce_case("amin_0", "amin", (0, 2), 2, 5, 9, y=Quant(0.11, 3)),
]


@pytest.mark.parametrize("case", REDUCTIONS, ids=lambda c: c.name)
def test_reductions_are_pytorch(case: Case) -> None:
    op = case.op
    assert isinstance(op, ReduceS8)
    x, axes = t(case.inputs[0], op.x).double(), tuple(a + 1 for a in op.axes)
    want = getattr(torch, op.row)(x, axes, keepdim=op.keepdim) if axes else x
    assert_near(case, want.float(), op.y)


def conv_case(
    name: str, x: tuple[int, ...], w: tuple[int, ...], *axes: Axis, groups: int = 1,
    y: Quant = WIDE, large: bool = False,
) -> Case:  # fmt: skip
    """x [n][d][h][w][c], w [o][c][kd][kh][kw], the last axes as given."""
    all_axes = (*(Axis(1),) * (3 - len(axes)), *axes)
    scale = R.uniform(1e-3, 4e-3, w[0]) * (300.0 if large else 1.0)
    m, c = multipliers(scale * 0.05 / y.scale), R.integers(-255, 256, w[0]).astype(np.int32)
    op = Conv3dS8(all_axes, groups, Quant(0.05, -11), y, y.lo, y.hi)  # type: ignore[arg-type]
    bias = R.integers(-1000, 1000, w[0]).astype(np.int32)
    FLOATS[name] = (scale, bias)
    return Case(name, op, (s8(R, 2, *x),), (s8(R, *w, low=-127), bias, m, c))


CONVOLUTIONS = [
    conv_case("conv_0", (1, 1, 1, 1, 1), (1, 1, 1, 1, 1), Axis(1), Axis(1)),
    conv_case("conv_1", (1, 1, 4, 7, 5), (6, 5, 1, 2, 2), Axis(2, 1, 1, 2, (1, 1)),
              Axis(2, 1, 1, 2, (1, 1))),
    conv_case("conv_2", (2, 1, 3, 4, 8), (9, 8, 1, 4, 4), Axis(4, 1, 1, 2, (2, 2)),
              Axis(4, 1, 1, 2, (2, 2)), y=Quant(0.02, 5, lo=5)),
    conv_case("conv_3", (1, 1, 3, 5, 6), (4, 3, 1, 3, 3), Axis(3, 1, 1, 3, (2, 2)),
              Axis(3, 1, 2, 2, (1, 4)), groups=2),
    conv_case("conv_4", (1, 3, 5, 6, 3), (5, 3, 2, 3, 3), Axis(2, 1, 1, 1, (1, 0)),
              Axis(3, 2, 1, 1, (1, 1)), Axis(3, 2, 2, 1, (2, 2))),
    conv_case("conv_5", (1, 1, 2, 3, 4), (4, 4, 1, 1, 2), Axis(1, 1, 1, 2, (0, 0)),
              Axis(2, 1, 1, 4, (1, 3)), large=True, y=Quant(1e-3, 0)),
]  # fmt: skip


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda c: c.name)
def test_convolutions_are_pytorch(case: Case) -> None:
    """PyTorch's by the operator for floats, which other tests compare with it."""
    op, (scale, bias) = case.op, FLOATS[case.name]
    assert isinstance(op, Conv3dS8)
    w = case.constants[0] * scale.reshape(-1, 1, 1, 1, 1)
    exact = Conv3d(op.axes, op.groups)
    x = t(case.inputs[0], op.x).double().numpy()
    b = bias * scale * op.x.scale + case.constants[3] / 512 * op.y.scale
    want = np.stack([exact.reference(v, w, b) for v in x])
    assert_near(case, torch.tensor(want).float(), op.y)


def matmul_case(
    name: str, a: tuple[int, ...], b: tuple[int, ...], y: Quant, *, zero: int = 17,
    views: tuple[View | None, ...] = (), out: tuple[tuple[int, ...], View] | None = None,
) -> Case:  # fmt: skip
    op = MatMulS8(views, out, a=Quant(0.02, -5), b=Quant(0.05, zero), y=y)
    return Case(name, op, (s8(R, 2, *a), s8(R, 2, *b)))


def view_of(dims: tuple[int, ...], *perm: int) -> View:
    found = View.of(dims, lambda x: x.transpose(perm))
    assert found
    return found


PRODUCT = Quant(0.21, 9)
PRODUCTS = [
    matmul_case("matmul_0", (1, 1), (1, 1), Quant(0.01, 3)),
    matmul_case("matmul_1", (5, 7), (7, 9), PRODUCT),
    matmul_case("matmul_2", (2, 16, 16), (2, 16, 16), PRODUCT, zero=0),
    matmul_case("matmul_3", (2, 1, 4, 100), (3, 100, 37), Quant(0.5, -20, lo=-20)),
    matmul_case("matmul_4", (3, 33), (33, 4), Quant(1e-9)),
    matmul_case(
        "matmul_5", (9, 2, 8), (6, 2, 8), PRODUCT,
        views=(view_of((9, 2, 8), 1, 0, 2), view_of((6, 2, 8), 1, 2, 0)),
    ),
    matmul_case(
        "matmul_6", (2, 9, 6), (6, 2, 5), PRODUCT, views=(None, view_of((6, 2, 5), 1, 0, 2)),
        out=((9, 2, 5), view_of((9, 2, 5), 1, 0, 2)),
    ),
    matmul_case("matmul_7", (0, 3), (3, 4), PRODUCT),
]  # fmt: skip


@pytest.mark.parametrize("case", PRODUCTS, ids=lambda c: c.name)
def test_products_are_pytorch(case: Case) -> None:
    op = case.op
    assert isinstance(op, MatMulS8)
    exact = MatMul(op.views, op.out)
    a, b = (t(x, q).double().numpy() for x, q in zip(case.inputs, (op.a, op.b), strict=True))
    want = torch.tensor(np.stack([exact.reference(*x) for x in zip(a, b, strict=True)]))
    assert_near(case, want.float(), op.y)


def norm_case(
    name: str,
    x: Quant,
    y: Quant,
    *shape: int,
    eps: float = 1e-5,
    rms: bool = False,
    spread: int = 128,
) -> Case:
    """Rows that are wide, narrow around any centre, and constant."""
    w, b = R.normal(1, 0.5, shape[-1]), R.normal(0, 0.5, shape[-1]) * (not rms)
    m, c, s = norm_parameters(w.astype(np.float32), b.astype(np.float32), y)
    wide = R.integers(-spread, spread, (3, *shape)) >> R.integers(0, 8, (3, *shape[:-1], 1))
    centre = R.integers(-128, 128, (3, *shape[:-1], 1))
    rows = np.clip(wide + np.where(wide.any(-1, keepdims=True), centre, 9), -128, 127)
    case = Case(name, LayerNormS8(eps, s, x, y, not rms), (rows.astype(np.int8),), (m, c))
    FLOATS[name] = (w.astype(np.float32), b.astype(np.float32))
    return case


NORM = Quant(0.05, 13)
NORMS = [
    norm_case("norm_0", NORM, Quant(0.03, -4), 1),
    norm_case("norm_1", NORM, Quant(0.03, -4), 5, 7, 32),
    norm_case("norm_2", NORM, Quant(0.03, -4), 40, 100, eps=1e-2),
    norm_case("norm_3", Quant(3e-4, -128), Quant(0.02, -4), 40, 33, eps=1e-5),
    norm_case("norm_4", Quant(2.0, 0), Quant(0.1, -4, lo=-90, hi=90), 9, 384, eps=1e-12),
    norm_case("norm_5", Quant(2.0, 0), Quant(0.2, -4), 2, 5000),
    norm_case("norm_6", NORM, Quant(0.03, -4), 200, 16, spread=2),
    norm_case("norm_7", Quant(1.4e-4), Quant(0.02, -4), 1, 20000, eps=1e-2),  # eps is nearly all
    norm_case("rms_0", NORM, Quant(0.03, -4), 1, rms=True),
    norm_case("rms_1", NORM, Quant(0.03, -4), 50, 32, rms=True),
    norm_case("rms_2", Quant(0.01, -128), Quant(0.03, -4), 9, 384, eps=1e-2, rms=True),
]


@pytest.mark.parametrize("case", NORMS, ids=lambda c: c.name)
def test_norms_are_pytorch(case: Case) -> None:
    op = case.op
    assert isinstance(op, LayerNormS8)
    x = t(case.inputs[0], op.x).double()
    w, b = (torch.tensor(v).double() for v in FLOATS[case.name])
    n = (w.numel(),)
    layer_norm, rms_norm = torch.nn.functional.layer_norm, torch.nn.functional.rms_norm
    want = layer_norm(x, n, w, b, op.eps) if op.centred else rms_norm(x, n, w, op.eps)
    assert_near(case, want.float(), op.y)


@pytest.mark.parametrize("case", SOFTMAXES, ids=lambda c: c.name)
def test_softmax_is_pytorch(case: Case) -> None:
    op = case.op
    assert isinstance(op, SoftmaxS8)
    f = torch.log_softmax if op.log else torch.softmax
    axis = op.axis + 1 if case.inputs[0].ndim > 1 else 0
    x = t(case.inputs[0], op.x)
    want = f(x, axis) if case.inputs[0].ndim > 1 else torch.stack([f(v, 0) for v in x])
    assert_near(case, want, op.y)


def test_fixed_point_functions() -> None:
    n = np.concatenate([2**31 + np.arange(1000), 2**32 - 1 - np.arange(1000),
                        R.integers(2**31, 2**32, 100000)])  # fmt: skip
    r = reciprocal(n)
    error = 2.0**63 / n - r
    assert r.max() < 2**32 and error.min() >= 0 and (error * n).max() < 2**34
    off = np.log2(n / 2**31) * 2**20 - log2(n)
    assert off.min() >= -1e-6 and off.max() < 1.1
    n = n >> R.integers(0, 2, n.shape)
    assert np.abs(rsqrt(n) * np.sqrt(n) / 2**46 - 1).max() < 2**-24


REFUSED = [
    (softmax_case("fine", 0.1, 0, 5, y=Quant(1e-9)), "a softmax in steps of 1e-09"),
    (softmax_case("log_fine", 9.0, 0, 5, y=Quant(1e-9), log=True), "a softmax in steps of 1e-09"),
    (
        reduce_case("scattered", "sum", (0, 2, 4, 6, 8), 2, 2, 2, 2, 2, 2, 2, 2, 2),
        "a reduction over scattered axes",
    ),
    (reduce_case("empty", "mean", (0,), 0, 3), "a reduction of 0 int8 elements"),
    (norm_case("norm_fine", NORM, Quant(1e-9), 3, 8), "a norm over 8 elements from steps of 0.05"),
    (norm_case("norm_eps", Quant(1e-9), WIDE, 3, 8, eps=1.0), "a norm over 8 elements"),
    (norm_case("norm_long", NORM, WIDE, 1, 1 << 17), "a norm over 131072 elements"),
    (matmul_case("deep", (1, 40000), (40000, 1), WIDE), "sums of 40000 products may overflow"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "words"), REFUSED, ids=[c.name for c, _ in REFUSED])
def test_what_might_overflow_is_refused(case: Case, words: str) -> None:
    graph = case.graph()
    with pytest.raises(Unsupported, match=words):
        case.op.kernel_for(graph.nodes[0], graph.constants, find_target("generic"))


def test_matrices_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Unsupported, match="have no product"):
        matmul_case("odd", (2, 3), (4, 5), WIDE).graph()


COMPUTED = [*SOFTMAXES, *REDUCTIONS, *NORMS, *PRODUCTS, *CONVOLUTIONS]


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_c_is_the_twin(tmp_path: Path, machine: str) -> None:
    run_cases([*TABLES, *MOVED, *COMPUTED], tmp_path, machine)


@pytest.mark.parametrize("machine", ["host", pytest.param("mps3-an547", marks=pytest.mark.slow)])
def test_kernels_work_in_place(tmp_path: Path, machine: str) -> None:
    varied = [c for c in COMPUTED if c.name != "conv_5"]  # whose outputs are all alike
    overlap_cases([*TABLES, *varied], tmp_path, machine)
