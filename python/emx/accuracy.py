# SPDX-License-Identifier: Apache-2.0
"""What a quantised model is worth on a data set: in PyTorch, as float and quantised, and in C."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from emx.build import Machine, TooLarge
from emx.compare import columns, compare, finite_or_null
from emx.errors import EmxError
from emx.exporter.inputs import Signature, batches, read_arrays
from emx.ir import Array, Graph
from emx.noise import LayerNoise, Source, layer_noise
from emx.testrun import run_test
from emx.twin import Expected
from emx.verifier import device_outputs

TOLERABLE_POINTS, TOLERABLE_DB = 0.5, 30.0  # what a quantisation may cost without advice
BOARD_SAMPLES = 100  # that run on a board's emulator, if the user says nothing


@dataclass(frozen=True)
class DataSet:
    """Inputs by name, first axis: sample, and what is right: `label`, int [samples], the number of
    the largest element of the first output, or `y`, that output itself."""

    inputs: Mapping[str, Array]
    label: Array | None
    y: Array | None

    @property
    def count(self) -> int:
        return min(len(a) for a in self.inputs.values())

    def first(self, count: int) -> DataSet:
        """The same with `count` samples at most."""
        inputs = {name: a[:count] for name, a in self.inputs.items()}
        label, y = (None if a is None else a[:count] for a in (self.label, self.y))
        return DataSet(inputs, label, y)


@dataclass(frozen=True)
class InPyTorch:
    """What PyTorch computes of a data set: first outputs, first axis: sample.

    floats     of the float model; None where there is only the quantised one
    quantised  of the quantised model; None where there is only the float one
    layers     of some of the first samples, what the float model has where the quantised one has a
               quantised value, by the name of that
    """

    floats: Array | None = None
    quantised: Array | None = None
    layers: Sequence[Mapping[str, Array]] = ()


@dataclass(frozen=True)
class Score:
    """How well `who` does: `accuracy` for a data set with labels, the mean squared error and the
    ratio of signal to noise for one with values."""

    who: str
    samples: int
    accuracy: float | None = None
    mse: float | None = None
    sqnr_db: float | None = None

    def __str__(self) -> str:
        if self.accuracy is not None:
            return f"{100 * self.accuracy:.2f} %"
        return f"{self.mse:.4g} ({self.sqnr_db:.1f} dB)"


@dataclass(frozen=True)
class AccuracyReport:
    """`layers`: the noisiest first; empty where the float model is not known."""

    scores: tuple[Score, ...]
    layers: tuple[LayerNoise, ...] = ()

    @property
    def advice(self) -> str | None:
        """What to do about what the quantisation costs, if that is much."""
        if not self.layers or not _costly(self.scores):
            return None
        worst = min(self.layers, key=lambda n: n.own_sqnr_db)
        keep = f"keep {worst.module} in float (--keep-float {worst.module})"
        return (
            f"{worst.name} adds most noise of its own ({worst.own_sqnr_db:.1f} dB): "
            f"{keep if worst.module else 'keep its module in float (--keep-float)'}, "
            "or give all activations 16 bits (--quantize int16x8)"
        )

    def to_dict(self) -> dict[str, object]:
        """As JSON, docs/cli.md."""
        return {
            "scores": [{k: v for k, v in _row(s).items() if v is not None} for s in self.scores],
            "layers": [_row(n) for n in self.layers],
            "advice": self.advice,
        }

    def __str__(self) -> str:
        kind = "accuracy" if self.scores[0].accuracy is not None else "mean squared error (SQNR)"
        rows: list[tuple[str, ...]] = [(s.who, str(s), str(s.samples)) for s in self.scores]
        lines = columns(("", kind, "samples"), rows)
        if self.layers:
            rows = [
                (n.name, f"{n.sqnr_db:.1f} dB", f"{n.own_sqnr_db:.1f} dB", n.module, n.source)
                for n in self.layers
            ]
            head = ("layer", "SQNR", "its own", "module", "source")
            lines += ["", *columns(head, rows)]
        return "\n".join([*lines, *(["", self.advice] if self.advice else [])])


def _row(item: Score | LayerNoise) -> dict[str, object]:
    return finite_or_null(asdict(item))


def _costly(scores: Sequence[Score]) -> bool:
    """Whether what is quantised is clearly worse than the float model, the first of the scores, on
    the same samples: a board may have run a few only."""
    best = scores[0]
    rest = [s for s in scores[1:] if s.samples == best.samples]
    if best.accuracy is not None:
        least = min((s.accuracy or 0 for s in rest), default=best.accuracy)
        return 100 * (best.accuracy - least) > TOLERABLE_POINTS
    lowest = min((s.sqnr_db or 0 for s in rest), default=np.inf)
    return lowest < min(TOLERABLE_DB, (best.sqnr_db or 0) - 1)


def read_dataset(path: Path, signature: Signature) -> DataSet:
    """An .npz or .pt file with an array for each input, that of a single one may be called x, and
    `label` or `y`, if no input is called like that."""
    if not path.is_file():
        raise EmxError(f"there is no file {path}", hint="it was given as data set")
    arrays = dict(read_arrays(path, signature, "data set"))
    inputs = {name for name, _ in signature}
    label, y = (arrays.get(name) if name not in inputs else None for name in ("label", "y"))
    if len(signature) == 1 and signature[0][0] not in arrays and "x" in arrays:
        arrays[signature[0][0]] = arrays.pop("x")
    data = DataSet(batches(arrays, signature, path, "data set's"), label, y)
    _check(data, path)
    return data


def _check(data: DataSet, path: Path) -> None:
    name = "y" if data.label is None else "label"
    right = data.y if data.label is None else data.label
    hint = "label: the class of each sample, or y: the output that is right"
    if right is None:
        raise EmxError(f"{path.name} does not say what is right", at=str(path), hint=hint)
    if data.label is not None and (right.ndim != 1 or right.dtype.kind not in "iu"):
        raise EmxError(
            f"label of {path.name} is {right.dtype}{list(right.shape)}", at=str(path),
            hint="give one integer for each sample",
        )  # fmt: skip
    if len(right) != data.count:
        raise EmxError(
            f"{path.name} has {data.count} samples, but {len(right)} of {name}", at=str(path),
            hint="give as many",
        )  # fmt: skip
    hint = "a score of them would mean nothing"
    for what, array in data.inputs.items():
        if np.isnan(array).any():
            raise EmxError(f"{what} of {path.name} holds NaN", at=str(path), hint=hint)
    if not np.isfinite(right).all():
        raise EmxError(f"{name} of {path.name} holds NaN or infinity", at=str(path), hint=hint)


def score(who: str, outputs: Array, data: DataSet) -> Score:
    """Of the first output, as reals; first axis: sample."""
    count = len(outputs)
    rows = outputs.reshape(count, -1)
    if data.label is not None:
        label = data.label[:count]
        if not 0 <= label.min(initial=0) <= label.max(initial=0) < rows.shape[1]:
            raise EmxError(
                f"the labels go from {label.min()} to {label.max()}, but the output has "
                f"{rows.shape[1]} elements",
                hint="a label is the number of the output's element that should be the largest",
            )
        return Score(who, count, accuracy=float((rows.argmax(1) == label).mean()))
    assert data.y is not None
    right = data.y[:count].reshape(count, -1)
    if right.shape != rows.shape:
        raise EmxError(
            f"y of the data set has {right.shape[1]} elements a sample, the output {rows.shape[1]}",
            hint="give y in the shape of the first output",
        )
    d = compare(rows.astype(np.float64), right, 0, 0)
    mse = float(((rows.astype(np.float64) - right) ** 2).mean())
    return Score(who, count, mse=mse, sqnr_db=d.sqnr_db)


RunInC = Callable[[str, Mapping[str, Array]], Array]


def evaluate(
    graph: Graph,
    made: Mapping[str, Source],
    data: DataSet,
    run_in_c: RunInC,
    target: str,
    samples: int | None,
    pytorch: InPyTorch | None,
) -> AccuracyReport:
    """All scores, and the noise of the layers where the float model is known. `run_in_c` gives the
    first output, as reals, of inputs on a machine: the host with all of them, then `target`."""
    known = pytorch or InPyTorch()
    outputs = {"PyTorch, float": known.floats, "PyTorch, quantised": known.quantised}
    scores = [score(who, y, data) for who, y in outputs.items() if y is not None]
    for machine in dict.fromkeys(("host", target)):
        some = data if machine == "host" else data.first(samples or BOARD_SAMPLES)
        scores.append(score(f"C on {machine}", run_in_c(machine, some.inputs), some))
    inputs = [{name: a[k] for name, a in data.inputs.items()} for k in range(len(known.layers))]
    return AccuracyReport(tuple(scores), layer_noise(graph, made, inputs, known.layers))


Emit = Callable[[Path, Mapping[str, Array]], Expected]


def in_parts(machine: Machine, name: str, emit: Emit, inputs: Mapping[str, Array]) -> Array:
    """The first output of the C for all samples. `emit` writes it with a test that has the given
    inputs as its vectors; a board takes as many at a time as it has memory for."""
    count = min(len(a) for a in inputs.values())
    parts: list[Array] = []
    at, size = 0, count
    while at < count:
        try:
            parts.append(
                _run(machine, name, emit, {k: a[at : at + size] for k, a in inputs.items()})
            )
            at += size
        except TooLarge:
            if size == 1:
                raise
            size = -(-size // 4)
    return np.concatenate(parts)


def _run(machine: Machine, name: str, emit: Emit, inputs: Mapping[str, Array]) -> Array:
    with tempfile.TemporaryDirectory(prefix="emx-accuracy-") as temporary:
        expected = emit(Path(temporary), inputs)
        outputs = device_outputs(expected, run_test(machine, Path(temporary), name))
    return next(iter(outputs.values()))
