# SPDX-License-Identifier: Apache-2.0
"""Small seeded networks of every family that people deploy: "zoo.py:gpt2" is (module, inputs).

The four of `transformers` are its own code in a small configuration; the others are written here
with the layers of torch.nn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Example = tuple[nn.Module, tuple[Tensor, ...]]
Factory = Callable[[], Example]


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose batch norms have seen data."""
    torch.manual_seed(0)
    net = make().eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(m.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(m.running_mean, std=0.1)  # type: ignore[arg-type]
    return net


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _tokens(vocabulary: int, *shape: int) -> Tensor:
    return torch.randint(0, vocabulary, shape, generator=torch.Generator().manual_seed(1))


class Logits(nn.Module):
    """A model of transformers that returns its tensor instead of a ModelOutput."""

    def __init__(self, model: nn.Module, field: str) -> None:
        super().__init__()
        self.model, self.field = model, field

    def forward(self, x: Tensor) -> Any:
        return getattr(self.model(x), self.field)


def _transformer(name: str, field: str, **config: Any) -> nn.Module:
    import transformers

    made = getattr(transformers, f"{name}Config")(**config)
    suffix = {"logits": "ForImageClassification"}.get(field, "Model")
    suffix = "LMHeadModel" if name == "GPT2" else suffix
    return _seeded(lambda: Logits(getattr(transformers, name + suffix)(made), field))


def gpt2() -> Example:
    net = _transformer(
        "GPT2", "logits", n_layer=2, n_embd=32, n_head=4, vocab_size=64, n_positions=16,
        use_cache=False,
    )  # fmt: skip
    return net, (_tokens(64, 1, 16),)


def bert() -> Example:
    net = _transformer(
        "Bert", "last_hidden_state", num_hidden_layers=2, hidden_size=32, num_attention_heads=4,
        intermediate_size=64, vocab_size=64, max_position_embeddings=16,
    )  # fmt: skip
    return net, (_tokens(64, 1, 12),)


def vit() -> Example:
    net = _transformer(
        "ViT", "logits", num_hidden_layers=2, hidden_size=32, num_attention_heads=4,
        intermediate_size=64, image_size=16, patch_size=4,
    )  # fmt: skip
    return net, (_noise(1, 3, 16, 16),)


def convnext() -> Example:
    net = _transformer(
        "ConvNext", "logits", depths=[1, 1, 2, 1], hidden_sizes=[8, 16, 24, 32],
        layer_scale_init_value=0.5,
    )  # fmt: skip
    return net, (_noise(1, 3, 32, 32),)


class UNet(nn.Module):
    def __init__(self, c: int = 8) -> None:
        super().__init__()
        self.down = nn.ModuleList([_double(1, c), _double(c, 2 * c)])
        self.middle = _double(2 * c, 4 * c)
        self.grow = nn.ModuleList([_grow(4 * c, 2 * c), _grow(2 * c, c)])
        self.up = nn.ModuleList([_double(4 * c, 2 * c), _double(2 * c, c)])
        self.head = nn.Conv2d(c, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        x, skips = image, []
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.middle(x)
        for grow, up in zip(self.grow, self.up, strict=True):
            x = up(torch.cat([skips.pop(), grow(x)], dim=1))
        return torch.sigmoid(self.head(x))


def _double(a: int, b: int) -> nn.Module:
    layers = [[nn.Conv2d(i, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()] for i in (a, b)]
    return nn.Sequential(*layers[0], *layers[1])


def _grow(a: int, b: int) -> nn.Module:
    return nn.ConvTranspose2d(a, b, 2, stride=2)


def unet() -> Example:
    return _seeded(UNet), (_noise(1, 1, 16, 16),)


class Recurrent(nn.Module):
    """A sequence classifier; returns the states too."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.rnn = kind(10, 16, batch_first=True, **options)
        self.head = nn.Linear(16 * (1 + self.rnn.bidirectional), 5)

    def forward(self, x: Tensor) -> Any:
        y, state = self.rnn(x)
        return self.head(y[:, -1]), state


def lstm() -> Example:
    return _seeded(lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True)), (
        _noise(1, 9, 10),
    )


def gru() -> Example:
    return _seeded(lambda: Recurrent(nn.GRU, num_layers=2)), (_noise(1, 9, 10),)


def rnn() -> Example:
    return _seeded(lambda: Recurrent(nn.RNN, nonlinearity="relu")), (_noise(1, 9, 10),)


class KeywordRNN(nn.Module):
    """Convolutions over a spectrogram, a GRU over time, attention pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, (5, 3), (2, 1), (2, 1)), nn.BatchNorm2d(4),
                                  nn.Hardswish())  # fmt: skip
        self.gru = nn.GRU(4 * 10, 16, batch_first=True)
        self.score, self.head = nn.Linear(16, 1), nn.Linear(16, 12)

    def forward(self, spectrogram: Tensor) -> Tensor:
        x = self.conv(spectrogram).permute(0, 2, 1, 3).flatten(2)
        x, _ = self.gru(x)
        weight = torch.softmax(self.score(x), dim=1)
        return functional.log_softmax(self.head((x * weight).sum(dim=1)), dim=-1)


def keyword_rnn() -> Example:
    return _seeded(KeywordRNN), (_noise(1, 1, 20, 10),)


class Inverted(nn.Module):
    """Expand, depthwise, squeeze and excite, project: the block of MobileNet and EfficientNet."""

    def __init__(self, a: int, b: int, stride: int, act: type[nn.Module], *, se: bool) -> None:
        super().__init__()
        mid = 3 * a
        self.expand = nn.Sequential(nn.Conv2d(a, mid, 1, bias=False), nn.BatchNorm2d(mid), act())
        self.depth = nn.Sequential(
            nn.Conv2d(mid, mid, 3, stride, 1, groups=mid, bias=False), nn.BatchNorm2d(mid), act()
        )
        gate = nn.Sigmoid() if act is nn.SiLU else nn.Hardsigmoid()
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(mid, 4, 1), act(), nn.Conv2d(4, mid, 1), gate
        ) if se else None  # fmt: skip
        self.project = nn.Sequential(nn.Conv2d(mid, b, 1, bias=False), nn.BatchNorm2d(b))
        self.residual = stride == 1 and a == b

    def forward(self, x: Tensor) -> Tensor:
        y = self.depth(self.expand(x))
        if self.excite is not None:
            y = y * self.excite(y)
        y = self.project(y)
        return x + y if self.residual else y


def _mobile(act: type[nn.Module], *, se: bool) -> Example:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), act(),
            Inverted(8, 8, 1, act, se=se), Inverted(8, 16, 2, act, se=se),
            Inverted(16, 16, 1, act, se=se), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Dropout(0.2), nn.Linear(16, 10),
        )  # fmt: skip

    return _seeded(make), (_noise(1, 3, 24, 24),)


def mobilenet_v2() -> Example:
    return _mobile(nn.ReLU6, se=False)


def mobilenet_v3() -> Example:
    return _mobile(nn.Hardswish, se=True)


def efficientnet() -> Example:
    return _mobile(nn.SiLU, se=True)


class DenseLayer(nn.Module):
    def __init__(self, a: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(a), nn.ReLU(), nn.Conv2d(a, growth, 3, padding=1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet() -> Example:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), *(DenseLayer(8 + 4 * i, 4) for i in range(3)),
            nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2),
            *(DenseLayer(10 + 4 * i, 4) for i in range(2)),
            nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(18, 10),
        )  # fmt: skip

    return _seeded(make), (_noise(1, 3, 16, 16),)


class CausalBlock(nn.Module):
    def __init__(self, a: int, b: int, dilation: int) -> None:
        super().__init__()
        self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
        self.conv = nn.Conv1d(a, b, 3, dilation=dilation)
        self.skip = nn.Conv1d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(self.pad(x)) + self.skip(x))


def tcn() -> Example:
    def make() -> nn.Module:
        return nn.Sequential(*(CausalBlock(4 if i == 0 else 8, 8, 2**i) for i in range(4)))

    return _seeded(make), (_noise(1, 4, 40),)


def wav2vec() -> Example:
    """The front end: strided conv1d, group norm first, layer norm over channels after."""

    class Channels(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.transpose(1, 2)).transpose(1, 2)

    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(1, 16, 10, stride=5, bias=False), nn.GroupNorm(16, 16), nn.GELU(),
            nn.Conv1d(16, 16, 3, stride=2), Channels(16), nn.GELU(),
            nn.Conv1d(16, 16, 7, padding=3, groups=4), nn.GELU(approximate="tanh"),
        )  # fmt: skip

    return _seeded(make), (_noise(1, 1, 200),)


class Seq2Seq(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.net = nn.Transformer(16, 2, 1, 1, 32, batch_first=True, norm_first=True)
        self.head = nn.Linear(16, 20)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        x = self.net(self.embed(source), self.embed(target), tgt_mask=mask, tgt_is_causal=True)
        return self.head(x)


def seq2seq() -> Example:
    return _seeded(Seq2Seq), (_tokens(20, 1, 7), _tokens(20, 1, 5))


def encoder() -> Example:
    """The fast path of nn.TransformerEncoderLayer in inference."""

    def make() -> nn.Module:
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
        return nn.TransformerEncoder(layer, 2)

    return _seeded(make), (_noise(1, 6, 16),)


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, c: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(c), nn.LayerNorm(c)])
        self.tokens = nn.Sequential(nn.Linear(tokens, 16), nn.GELU(), nn.Linear(16, tokens))
        self.channels = nn.Sequential(nn.Linear(c, 32), nn.GELU(), nn.Linear(32, c))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norms[0](x).mT).mT
        return x + self.channels(self.norms[1](x))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.blocks = nn.Sequential(MixerBlock(16, 12), MixerBlock(16, 12))
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(1))


def mixer() -> Example:
    return _seeded(Mixer), (_noise(1, 3, 16, 16),)


class PointNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.align = nn.Linear(16, 9)
        self.first = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, points: Tensor) -> Tensor:
        pooled = self.first(points).max(dim=2)[0]
        matrix = self.align(pooled).view(-1, 3, 3) + torch.eye(3)
        x = self.second(torch.bmm(points.transpose(1, 2), matrix).transpose(1, 2))
        top = torch.max(x, 2, keepdim=True)[0]
        return self.head(torch.cat([top.squeeze(-1), x.mean(-1)], dim=-1))


def pointnet() -> Example:
    return _seeded(PointNet), (_noise(1, 3, 50),)


class Decoder(nn.Module):
    """Of a variational autoencoder: mean and variance in, an image out."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(8, 16 * 4 * 4)
        self.grow = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1), nn.BatchNorm2d(8), nn.LeakyReLU(),
            nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ELU(),
            nn.ConvTranspose2d(4, 1, 3, 1, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
        z = mean + torch.exp(0.5 * log_variance) * noise
        return self.grow(self.lift(z).unflatten(1, (16, 4, 4)))


def vae_decoder() -> Example:
    return _seeded(Decoder), (_noise(1, 8), _noise(1, 8), _noise(1, 8))


class Segmenter(nn.Module):
    """Atrous branches over a strided backbone, upsampled to the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.InstanceNorm2d(8), nn.ReLU())
        self.branches = nn.ModuleList(nn.Conv2d(8, 4, 3, 1, d, dilation=d) for d in (1, 2))
        self.whole = nn.Conv2d(8, 4, 1)
        self.head = nn.Conv2d(12, 3, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        size = x.shape[2:]
        parts = [functional.relu(branch(x)) for branch in self.branches]
        mean = self.whole(x.mean((2, 3), keepdim=True))
        parts.append(functional.interpolate(mean, size=size, mode="bilinear"))
        y = self.head(torch.cat(parts, 1))
        scores = functional.interpolate(y, scale_factor=4.0, mode="bilinear", align_corners=False)
        return {"scores": scores, "labels": scores.argmax(1)}


def segmenter() -> Example:
    return _seeded(Segmenter), (_noise(1, 3, 24, 24),)


ZOO: tuple[Factory, ...] = (
    gpt2, bert, vit, convnext, unet, lstm, gru, rnn, keyword_rnn, mobilenet_v2, mobilenet_v3,
    efficientnet, densenet, tcn, wav2vec, seq2seq, encoder, mixer, pointnet, vae_decoder, segmenter,
)  # fmt: skip
