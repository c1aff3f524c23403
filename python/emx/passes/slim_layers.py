# SPDX-License-Identifier: Apache-2.0
"""Convolutions and linear layers under slimming: what they read, what becomes part of their biases,
and the same layer with fewer channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emx.ir import Array, Node, Slimmed
from emx.ops.conv2d_s8 import Conv2dS8
from emx.ops.linear_s8 import LinearS8
from emx.passes.slim_ranges import Range
from emx.quant import multipliers

UNIT = int(multipliers(np.ones(1))[0])


@dataclass(frozen=True)
class Channels:
    """Of one value, bool [channels] each: those that the outputs depend on, and those that stay,
    which are more where some belong together, or cost nothing."""

    needed: Array
    kept: Array


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer. Its weights are int64 here.

    w     [groups][outputs][inputs][kh][kw], with the outputs and inputs of a group
    b     [groups][outputs]
    x, y  what the image and the output can be
    """

    node: Node
    op: Conv2dS8 | LinearS8
    w: Array
    b: Array
    x: Range
    y: Range

    @staticmethod
    def of(node: Node, constants: Mapping[str, Array], found: Mapping[str, Range]) -> Layer | None:
        """None for other nodes, and for weights that are computed at run time."""
        op = node.op
        if not isinstance(op, Conv2dS8 | LinearS8):
            return None
        if any(v.name not in constants for v in node.inputs[1:5]):
            return None
        w, b = (constants[v.name].astype(np.int64) for v in node.inputs[1:3])
        groups = op.groups if isinstance(op, Conv2dS8) else 1
        w = w.reshape(groups, -1, w.shape[1], *(w.shape[2:] or (1, 1)))
        x, y = (found[v.name] for v in (node.inputs[0], node.output))
        return Layer(node, op, w, b.reshape(groups, -1), x, y)

    @property
    def groups(self) -> int:
        return len(self.w)

    @property
    def takes_fewer(self) -> bool:
        """Whether channels of x may go: they are its last axis."""
        return not (isinstance(self.op, Conv2dS8) and self.op.channels_first)

    @property
    def constant(self) -> Array:
        """The outputs that a bias alone computes, bool [outputs]: none behind a residual add."""
        return self.y.constant & (len(self.node.inputs) == 5)

    def needs(self, wanted: Array) -> Array:
        """The channels of x that the outputs `wanted` depend on, bool [inputs]."""
        if not self.takes_fewer:
            return np.ones(self.node.inputs[0].type.dims[-1], bool)
        live = self._live(wanted)
        return np.asarray((_reads(live) & ~self._shares(live)[0]).reshape(-1))

    def cut(
        self, parameters: Sequence[Array], x: Channels, y: Channels
    ) -> tuple[Conv2dS8 | LinearS8, list[Array]]:
        """The same layer of the channels that are kept, with its new w, b, m and c."""
        live = self._live(y.needed)
        same, sums = self._shares(live)
        gone = ~x.needed.reshape(same.shape) if self.takes_fewer else np.zeros_like(same)
        b = (self.b + (sums * (same & gone)[:, None]).sum(axis=2)).reshape(-1)
        m, c = (p.copy() for p in parameters[2:])
        # What need not be computed is a bias alone: the constant, or anything.
        idle = ~y.needed | self.constant
        value = np.where(y.needed & self.constant, self.y.first - self.op.y.zero, 0)
        b[idle], m[idle], c[idle] = value[idle], UNIT, 0
        op, w = self._selected(live * ~gone[:, None, :, None, None], x.kept, y.kept)
        w = w.reshape(len(w), -1, *parameters[0].shape[2:])
        after = [w, b[y.kept], m[y.kept], c[y.kept]]
        return op, [a.astype(p.dtype) for a, p in zip(after, parameters, strict=True)]

    def proof(self, y: Channels) -> Slimmed:
        """Why the outputs that are not needed are not."""
        gone, known = ~y.needed, self.y.constant
        filters = (self.w != 0).any(axis=(3, 4))
        zero = known & ~filters.any(axis=2).reshape(-1)
        clamped = known & (filters & ~self._known[:, None]).any(axis=2).reshape(-1)
        constant = known & ~zero & ~clamped
        reasons = {"zero": zero, "clamped": clamped, "constant": constant, "unread": ~known}
        return Slimmed(
            layer=self.node.output.name,
            before=len(gone),
            after=int(y.kept.sum()),
            **{name: int((why & gone).sum()) for name, why in reasons.items()},
            origin=self.node.origin,
        )

    @property
    def _known(self) -> Array:
        """The channels of x that are known, bool [groups][inputs]."""
        known = self.x.known if self.takes_fewer else np.zeros(self.w.shape[2] * self.groups, bool)
        return known.reshape(self.groups, -1)

    def _live(self, wanted: Array) -> Array:
        """The weights of the outputs that must be computed, zero for the others."""
        mask = (wanted & ~self.constant).reshape(self.groups, -1)
        return np.asarray(self.w * mask[:, :, None, None, None])

    def _shares(self, live: Array) -> tuple[Array, Array]:
        """(bool [groups][inputs], int64 [groups][outputs][inputs]): whether a channel of x is known
        and adds the same to the sums of all pixels, and what. None if biases might overflow."""
        same = np.zeros((self.groups, self.w.shape[2]), bool)
        sums = np.zeros(self.w.shape[:3], np.int64)
        for g, c in np.argwhere(self._known & _reads(live)):
            filters = live[g, :, c].reshape(live.shape[1], -1)
            planes = filters @ self._taps(g * same.shape[1] + c)
            same[g, c] = (planes == planes[:, :1]).all()
            sums[g, :, c] = planes[:, 0] * same[g, c]
        fits = (np.abs(self.b) + np.abs(sums).sum(axis=2)).max() < 1 << 31
        return same & fits, sums

    def _taps(self, channel: int) -> Array:
        """x - zero of a known channel under each tap, int64 [taps][pixels]."""
        x = self.x.lo[..., channel : channel + 1].astype(np.int64) - self.op.x.zero
        if isinstance(self.op, LinearS8):
            return x.reshape(1, -1)
        return np.stack([tap.reshape(-1) for _, _, tap in self.op.window.taps(x, 0)])

    def _selected(self, w: Array, x: Array, y: Array) -> tuple[Conv2dS8 | LinearS8, Array]:
        """The operator and its weights [outputs][inputs][kh][kw] on the channels kept."""
        if self.groups == 1:
            return self.op, w[0][y][:, x] if self.takes_fewer else w[0][y]
        assert isinstance(self.op, Conv2dS8)
        groups = y.reshape(self.groups, -1).any(axis=1)
        return replace(self.op, groups=int(groups.sum())), w[groups].reshape(-1, *w.shape[2:])


def _reads(w: Array) -> Array:
    """The inputs with weights other than zero, bool [groups][inputs]."""
    return np.asarray((w != 0).any(axis=(1, 3, 4)))
