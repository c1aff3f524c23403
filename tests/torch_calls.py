# SPDX-License-Identifier: Apache-2.0
"""Calls of PyTorch's functions as a user writes them: an expression a line, over the inputs below.

Whether emx supports a call or refuses it is not said here; test_torch_calls.py holds that it does
one of the two.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


INPUTS: dict[str, Tensor] = {
    "x": _noise(2, 3, 4),
    "y": _noise(2, 3, 4) * 2 - 0.5,
    "p": _noise(2, 3, 4).abs() + 0.25,
    "u": torch.linspace(-0.9, 0.9, 12).reshape(3, 4),
    "v": torch.tensor([0.5, -1.5, 2.5, -3.0]),
    "s": torch.tensor(1.75),
    "m": _noise(4, 4),
    "odd": torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-42, 3e38, -2.5, 0.5]),
    "seq": _noise(1, 3, 10),
    "image": _noise(1, 4, 6, 6),
    "volume": _noise(1, 2, 4, 4, 4),
    "b": torch.tensor([[True, False, True, True], [False, True, False, True], [True] * 4]),
    "i": torch.tensor([2, 0, 1]),
    "j": torch.tensor([[3, 0, 1, 2], [1, 1, 0, 3], [2, 3, 2, 0]]),
    "n": torch.tensor([-7, 3, 5, -2], dtype=torch.int32),
    "w": _noise(6, 4),
    "k1": _noise(5, 3, 3),
    "k2": _noise(8, 2, 3, 3),
}

_POINTWISE = """
abs acos acosh angle asin asinh atan atanh ceil cos cosh deg2rad digamma erf erfc erfinv exp exp2
expm1 floor frac i0 isfinite isinf isnan isneginf isposinf lgamma log log10 log1p log2 logit
nan_to_num neg positive rad2deg reciprocal relu round rsqrt sgn sigmoid sign signbit sin sinc sinh
sqrt square tan tanh trunc special.bessel_j0 special.entr special.ndtr special.log_ndtr
logical_not
"""
_ACTIVATIONS = """
celu elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu relu6 rrelu
selu sigmoid silu softplus softsign softshrink tanh tanhshrink
"""
_BINARY = """
add sub mul div true_divide floor_divide remainder fmod pow atan2 maximum minimum fmax fmin hypot
copysign nextafter ldexp logaddexp logaddexp2 xlogy heaviside eq ne lt le gt ge logical_and
logical_or logical_xor isclose float_power dist rsub
"""
_REDUCTIONS = """
sum mean prod amax amin max min argmax argmin all any std var median nanmean nansum norm
count_nonzero unique_consecutive std_mean var_mean aminmax mode nanmedian
"""
_ALONG = """
logsumexp cumsum cumprod logcumsumexp cummax cummin softmax log_softmax
"""

_OTHERS = """
torch.add(x, y, alpha=3)
torch.sub(x, 1.5, alpha=2)
x + 1
2 - x
x ** 2
x ** -1
x ** 0.5
2 ** x
x / 3
x // 0.7
x % 0.7
-x
x * s
s * v
x + n
n + 1
n * 2.5
n / 2
n // 2
n % 3
n ** 2
-n
n.float()
n.to(torch.int64)
x.to(torch.int32)
x.bool()
x.double()
x.half()
i + j[:, 0]
j * 2 - 1
j.float().mean()
b & ~b
b | (u > 0)
b ^ (u > 0)
~b
b.float()
b.int()
b.sum()
b.sum(1)
b.any(0)
b.all(1)
torch.bitwise_and(n, 3)
torch.bitwise_left_shift(n, 1)
torch.bitwise_not(n)
torch.where(b, u, -u)
torch.where(u > 0, u, 0.5)
torch.where(b, 1, 2)
u.masked_fill(b, -1e9)
torch.masked_select(u, b)
torch.clamp(x, -0.5, 0.5)
torch.clamp(x, min=0)
torch.clamp(x, p * 0, p)
torch.clamp(n, -1, 4)
torch.clip(x, max=0.25)
torch.div(x, y, rounding_mode="floor")
torch.div(x, y, rounding_mode="trunc")
torch.round(x, decimals=1)
torch.addcmul(x, y, p, value=0.5)
torch.addcdiv(x, y, p, value=-2)
torch.lerp(x, y, 0.3)
torch.lerp(x, y, p)
torch.polygamma(1, p)
torch.cross(seq, seq.flip(1), dim=1)
torch.dot(v, v)
torch.vdot(v, v)
torch.inner(x, v)
torch.outer(v, v)
torch.mv(m, v)
torch.mm(m, m)
torch.bmm(x, x.mT)
torch.matmul(x, v)
torch.matmul(v, m)
torch.matmul(v, v)
torch.matmul(x, m)
torch.matmul(x[:, None], m)
torch.addmm(m, m, m, beta=0.5, alpha=2)
torch.addmv(v, m, v)
torch.addbmm(m[:3, :3], x, x.mT)
torch.baddbmm(x[:, :, :3], x, x.mT, alpha=0.5)
torch.einsum("bij,jk->bik", x, m)
torch.einsum("bij,bij->b", x, y)
torch.einsum("ii", m)
torch.tensordot(x, m, dims=1)
torch.kron(m[:2, :2], m[:2, :3])
torch.linalg.norm(x)
torch.linalg.vector_norm(x, 3, dim=-1)
torch.linalg.matrix_norm(m)
torch.linalg.inv(m)
torch.linalg.det(m)
torch.linalg.svd(m)
torch.linalg.cross(seq, seq.roll(1, 1), dim=1)
torch.trace(m)
torch.tril(m)
torch.triu(m, 1)
torch.diag(v)
torch.diagonal(m, 1)
torch.diag_embed(v)
torch.cdist(x, y)
torch.fft.rfft(v)
torch.stft(seq[0], 4, return_complex=True)
torch.complex(x, y)
torch.cat([x, y], -1)
torch.cat([x, y, p], 0)
torch.stack([x, y], 1)
torch.hstack([u, u])
torch.vstack([u, u])
torch.dstack([u, u])
torch.chunk(x, 2, -1)
torch.split(x, [1, 2], 1)
torch.tensor_split(x, 3, 2)
torch.unbind(x, 1)
torch.squeeze(x[:, :1])
torch.unsqueeze(x, -1)
torch.reshape(x, (6, -1))
x.view(-1)
torch.flatten(x, 1)
torch.unflatten(x, 2, (2, 2))
torch.ravel(x)
torch.permute(x, (2, 0, 1))
torch.transpose(x, 0, 2)
torch.movedim(x, 0, -1)
m.T
torch.swapaxes(x, 1, 2)
torch.flip(x, (0, 2))
torch.fliplr(u)
torch.roll(x, 1)
torch.roll(x, (1, -2), (0, 2))
torch.rot90(m)
torch.tile(v, (2, 2))
v.repeat(3, 2)
torch.repeat_interleave(v, 2)
torch.repeat_interleave(x, 3, dim=1)
v.expand(3, 4)
torch.broadcast_to(v, (2, 4))
torch.meshgrid(v, v, indexing="ij")
torch.narrow(x, 2, 1, 2)
torch.select(x, 1, -1)
x[:, 1]
x[..., ::2]
x[:, -2:]
x[:, :, None, 1:3]
x[[0, 1], [2, 0]]
x[:, [2, 0]]
x[:, i]
u[b]
x[0, i]
torch.index_select(x, 1, i)
torch.gather(u, 1, j)
torch.take(v, j)
torch.take_along_dim(u, j, 1)
torch.scatter(u, 1, j, 0.5)
torch.scatter_add(u, 1, j, u)
torch.scatter_reduce(u, 1, j, u, "amax")
torch.index_add(u, 0, i, u)
torch.index_copy(u, 0, i, u)
torch.index_fill(u, 0, i, 2.0)
torch.index_put(v, (i,), u[:, 0])
torch.slice_scatter(u, u[:, :2], 1, 0, 2)
torch.select_scatter(u, v, 0, 1)
torch.masked_scatter(u, b, u)
torch.as_strided(m, (2, 2), (1, 5))
v.unfold(0, 2, 1)
torch.topk(x, 2)
torch.topk(x, 1, 1, largest=False)
torch.sort(x, dim=1)
torch.sort(v, descending=True)
torch.argsort(x, -1)
torch.kthvalue(x, 2)
torch.max(x, 1)
torch.max(x, y)
torch.min(x, 2, keepdim=True)
torch.amax(x, (0, 2))
torch.sum(x, (0, 1), keepdim=True)
torch.sum(n)
torch.sum(x, dtype=torch.float64)
torch.mean(x, (1, 2))
torch.var(x, 1, correction=0)
torch.std(x, dim=(0, 2), unbiased=True)
torch.prod(x, 1)
torch.norm(x, p=1, dim=1)
torch.norm(x, p=float("inf"))
torch.argmax(x, 1, keepdim=True)
torch.argmin(u, -1)
torch.cumsum(x, 1)
torch.cumsum(n, 0)
torch.diff(v)
torch.quantile(v, 0.5)
torch.histc(v, 4)
torch.bincount(i)
torch.bucketize(v, torch.tensor([-1.0, 0.0, 1.0]))
torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0]), v)
torch.unique(i)
torch.nonzero(u)
torch.isin(i, torch.tensor([0, 2]))
torch.allclose(x, y)
torch.equal(x, y)
torch.numel(x) * v
torch.zeros_like(x)
torch.ones_like(x) + x
torch.full_like(x, 3.0)
torch.empty_like(x) * 0
torch.rand_like(x)
torch.randn(2, 3) + x[0, 0, 0]
torch.bernoulli(torch.sigmoid(p))
torch.multinomial(p[0], 1)
torch.normal(x, p)
torch.arange(4) * v
torch.linspace(0, 1, 4) + v
torch.eye(4) @ m
torch.tensor([1.0, 2.0, 3.0, 4.0]) * v
torch.trapezoid(v)
torch.vander(v)
torch.nan_to_num(odd)
torch.relu(odd)
torch.clamp(odd, -1, 1)
torch.clamp(odd, min=0.0)
torch.maximum(odd, odd.flip(0))
torch.minimum(odd, odd.flip(0))
torch.fmax(odd, odd.flip(0))
torch.max(odd, 0)
torch.amax(odd, 0)
torch.argmax(odd)
torch.argmin(odd[1:])
torch.sort(odd)
torch.topk(odd, 3)
torch.cumsum(odd, 0)
torch.sum(odd)
torch.softmax(odd[2:5], 0)
torch.softmax(odd[1:5], 0)
torch.logsumexp(odd[2:5], 0)
torch.sign(odd)
torch.sigmoid(odd)
torch.tanh(odd)
torch.exp(odd)
torch.erf(odd)
torch.sqrt(odd)
torch.floor(odd)
torch.round(odd)
torch.remainder(odd, 0.7)
torch.fmod(odd, 0.7)
torch.pow(odd, 2)
torch.pow(odd, 3)
torch.pow(odd, 0.5)
torch.pow(odd, -2)
odd > odd.flip(0)
odd != odd
odd == odd.flip(0)
torch.isnan(odd)
odd.bool()
odd[6:].int()
F.gelu(odd[6:])
F.gelu(x, approximate="tanh")
F.silu(odd)
F.mish(odd)
F.softplus(odd)
F.softplus(x, beta=2.0, threshold=1.0)
F.elu(odd, 0.5)
F.hardtanh(odd, -2, 3)
F.hardswish(odd[:5])
F.leaky_relu(odd, 0.2)
F.relu6(odd)
F.logsigmoid(odd)
F.celu(x, 0.5)
F.prelu(x, torch.tensor([0.1, 0.2, 0.3]))
F.threshold(x, 0.1, 20.0)
F.glu(x, -1)
F.softmin(x, 1)
F.softmax(x, 0)
F.log_softmax(x, 1)
F.gumbel_softmax(x)
F.normalize(x, dim=1)
F.normalize(x, p=1.0, dim=(1, 2))
F.cosine_similarity(x, y, dim=1)
F.pairwise_distance(v, v * 2)
F.one_hot(i, 4)
F.embedding(i, w)
F.embedding(j, w, padding_idx=1)
F.embedding_bag(j, w)
F.linear(x, w)
F.linear(v, w, torch.ones(6))
F.bilinear(v[None], v[None], torch.ones(2, 4, 4))
F.conv1d(seq, k1)
F.conv1d(seq, k1, stride=2, padding=1, dilation=2)
F.conv1d(seq, k1, padding="same")
F.conv2d(image, k2, groups=2, padding=1)
F.conv2d(image[0], k2, groups=2, stride=(2, 1))
F.conv3d(volume, torch.ones(3, 2, 2, 2, 2))
F.conv_transpose1d(seq, k1.transpose(0, 1), stride=2)
F.conv_transpose2d(image, torch.ones(4, 3, 2, 2), stride=2, output_padding=1)
F.conv_transpose2d(image, torch.ones(4, 3, 2, 2), groups=2, dilation=2)
F.conv_transpose3d(volume, torch.ones(2, 3, 2, 2, 2))
F.max_pool1d(seq, 3)
F.max_pool2d(image, 2, return_indices=True)
F.max_pool2d(image, 3, 2, 1, ceil_mode=True)
F.max_pool2d(image, 2, dilation=2)
F.max_pool3d(volume, 2)
F.avg_pool1d(seq, 3, 2, 1)
F.avg_pool2d(image, 3, 2, 1, ceil_mode=True, count_include_pad=False)
F.avg_pool2d(image, 2, divisor_override=3)
F.avg_pool3d(volume, 2)
F.lp_pool1d(seq, 2.0, 2)
F.lp_pool2d(image, 3.0, 2)
F.adaptive_avg_pool1d(seq, 3)
F.adaptive_avg_pool2d(image, (4, 3))
F.adaptive_avg_pool3d(volume, 3)
F.adaptive_max_pool1d(seq, 4)
F.adaptive_max_pool2d(image, 4)
F.fractional_max_pool2d(image, 2, output_size=2)
F.unfold(image, 3)
F.fold(torch.ones(1, 4, 9) * v[0], (4, 4), 2)
F.layer_norm(x, (4,))
F.layer_norm(x, (3, 4), torch.ones(3, 4) * 2)
F.rms_norm(x, (4,))
F.group_norm(image, 2)
F.instance_norm(image)
F.batch_norm(image, torch.zeros(4), torch.ones(4) * 2)
F.batch_norm(image, None, None, training=True)
F.local_response_norm(image, 3)
F.dropout(x, training=False)
F.pad(x, (1, 2))
F.pad(x, (1, -1, 0, 2), value=3.0)
F.pad(image, (1, 2, 2, 1), mode="reflect")
F.pad(image, (1, 2, 2, 1), mode="replicate")
F.pad(image, (1, 2, 2, 1), mode="circular")
F.interpolate(image, scale_factor=2)
F.interpolate(image, size=(4, 9), mode="nearest")
F.interpolate(image, size=(4, 9), mode="nearest-exact")
F.interpolate(image, scale_factor=1.5, mode="bilinear")
F.interpolate(image, size=(9, 4), mode="bilinear", align_corners=True)
F.interpolate(image, size=(9, 4), mode="bilinear", antialias=True)
F.interpolate(image, scale_factor=2, mode="bicubic")
F.interpolate(image, size=(3, 3), mode="area")
F.interpolate(seq, scale_factor=2, mode="linear")
F.interpolate(volume, scale_factor=2, mode="trilinear")
F.grid_sample(image, torch.zeros(1, 2, 2, 2) + v[0] * 0.1)
F.affine_grid(torch.ones(1, 2, 3) * v[0], (1, 1, 2, 2))
F.pixel_shuffle(image, 2)
F.pixel_unshuffle(image, 3)
F.channel_shuffle(image, 2)
F.scaled_dot_product_attention(x, y, p)
F.scaled_dot_product_attention(x, y, p, is_causal=True)
F.scaled_dot_product_attention(m[None], u[None], u[None], attn_mask=b.mT)
F.scaled_dot_product_attention(image, image[:, :2], image[:, :2], enable_gqa=True)
F.mse_loss(x, y)
F.l1_loss(x, y, reduction="none")
F.smooth_l1_loss(x, y)
F.huber_loss(x, y)
F.cross_entropy(u, i)
F.nll_loss(u, i)
F.binary_cross_entropy(torch.sigmoid(x), torch.sigmoid(y))
F.binary_cross_entropy_with_logits(x, torch.sigmoid(y))
F.kl_div(x, y)
F.ctc_loss(u[:, None], i[None], torch.tensor([3]), torch.tensor([1]))
nn.LSTM(4, 3)(x)
nn.GRU(4, 3, 2, bidirectional=True)(x)
nn.RNN(4, 3, batch_first=True)(x)
nn.LSTMCell(4, 3)(m)
nn.GRUCell(4, 3)(v[None])
nn.RNNCell(4, 3)(v[None])
nn.LSTM(4, 6, proj_size=2)(x)
nn.MultiheadAttention(4, 2)(x, y, p)
nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0)(x)
nn.EmbeddingBag(5, 3, mode="sum")(j)
nn.UpsamplingBilinear2d(scale_factor=2)(image)
nn.ZeroPad2d(1)(image)
nn.ReflectionPad1d(2)(seq)
nn.ReplicationPad3d(1)(volume)
nn.CosineSimilarity()(x, y)
nn.Softmax2d()(image)
nn.Identity()(x)
nn.PReLU(3)(x)
nn.GroupNorm(1, 3)(x)
nn.InstanceNorm1d(3, affine=True)(seq)
"""

CALLS: tuple[str, ...] = (
    *(f"torch.{f}(x)" for f in _POINTWISE.split()),
    *(f"torch.{f}(u)" for f in _POINTWISE.split()),
    *(f"F.{f}(x)" for f in _ACTIVATIONS.split()),
    *(f"torch.{f}(x, y)" for f in _BINARY.split()),
    *(f"torch.{f}(p, v)" for f in _BINARY.split()),
    *(f"torch.{f}(x)" for f in _REDUCTIONS.split()),
    *(f"torch.{f}(x, dim=1)" for f in (_REDUCTIONS + _ALONG).split()),
    *_OTHERS.strip().splitlines(),
)
