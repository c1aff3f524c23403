# SPDX-License-Identifier: Apache-2.0
"""Does the generated C compute what it should? On the host or on a board's emulator."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emx.build import Generate, find_machine
from emx.bundle import Bundle
from emx.compare import Difference, columns, compare, finite_or_null
from emx.converted import Distances
from emx.ir import Array
from emx.testrun import OUTPUT, STEP, Record, run_test
from emx.twin import EXACT, PYTORCH, STEPS, TWIN, Expected, Tolerance


@dataclass(frozen=True)
class OutputReport(Difference):
    name: str


@dataclass(frozen=True)
class LayerReport(Difference):
    """One kernel call for test vector 0, and where in the user's model it comes from."""

    name: str
    module: str
    source: str
    kernel: str


@dataclass(frozen=True)
class VerifyReport:
    """`ok`: every output, and with `layers` every layer, is within its tolerance of what `source`
    gave, which is none where it has to be `exact`. Of a quantised model, whose C is compared with
    its twin, `distances` says how far that is from PyTorch."""

    ok: bool
    target: str
    outputs: tuple[OutputReport, ...]
    layers: tuple[LayerReport, ...] = ()
    source: str = PYTORCH
    exact: bool = False
    distances: Distances | None = None

    @property
    def diverging(self) -> LayerReport | None:
        """The first layer, in order of execution, that differs from what it should be."""
        return next((layer for layer in self.layers if not layer.ok), None)

    def to_dict(self) -> dict[str, object]:
        """As JSON, docs/cli.md; numbers that are not finite become null."""
        metrics = ("max_abs", "rel", "max_ulp", "sqnr_db")
        layer = ("name", "module", "source", "kernel", "max_abs", "rel", "ok")
        report: dict[str, object] = {
            "ok": self.ok,
            "target": self.target,
            "outputs": [_row(out, ("name", *metrics)) for out in self.outputs],
            "layers": [_row(step, layer) for step in self.layers],
        }
        return report | ({"pytorch": self.distances.to_dict()} if self.distances else {})

    def __str__(self) -> str:
        head = ("output", "max abs", "rel", "max ULP", "SQNR")
        rows = [
            (o.name, f"{o.max_abs:.3g}", f"{o.rel:.3g}", str(o.max_ulp), f"{o.sqnr_db:.1f} dB")
            for o in self.outputs
        ]
        lines = columns(head, rows)
        if self.layers:
            table = [
                (n.name, f"{n.max_abs:.3g}", f"{n.rel:.3g}", "" if n.ok else "DIVERGES", n.source)
                for n in self.layers
            ]
            lines += ["", *columns(("layer", "max abs", "rel", "", "source"), table)]
        if bad := self.diverging:
            lines += ["", *_diverging(bad, self.source)]
        return "\n".join([*lines, "", self._verdict(), *self._distances()])

    def _verdict(self) -> str:
        if not all(r.ok for r in (*self.outputs, *self.layers)):
            return f"{self.target} DIFFERS from {self.source}"
        if self.exact:
            return f"{self.target} equals {self.source} on every bit"
        rough = f", but for {STEPS} steps behind layers in float" if self.source == TWIN else ""
        return f"{self.target} agrees with {self.source}{rough}"

    def _distances(self) -> list[str]:
        return ["", *self.distances.lines(layers=bool(self.layers))] if self.distances else []


def verify(
    bundle: Bundle,
    generate: Generate,
    *,
    target: str = "host",
    layers: bool = False,
    dump: Path | None = None,
) -> VerifyReport:
    """Generate, build and run the model on its test vectors, and compare with what is expected.

    `dump` receives inputs/NAME.npy, eager/NAME.npy, device/NAME.npy and, of a quantised model,
    twin/NAME.npy; first axis: test vector. A program that cannot be built or does not reach its end
    is an EmxError.
    """
    machine = find_machine(target)
    with tempfile.TemporaryDirectory(prefix="emx-verify-") as temporary:
        directory = Path(temporary)
        expected = generate(directory, taps=layers, empty_run=False)
        records = run_test(machine, directory, bundle.name)
        steps = _steps(directory, bundle.name, records, expected) if layers else ()
    device = device_outputs(expected, records)
    if dump is not None:
        _save(dump, bundle, expected, device)
    outputs = [
        OutputReport(name=name, **asdict(_compare(device[name], want, expected.tolerances[name])))
        for name, want in expected.outputs.items()
    ]
    ok = all(o.ok for o in outputs) and all(s.ok for s in steps)
    exact = set(expected.tolerances.values()) == {EXACT}
    return VerifyReport(ok, target, tuple(outputs), steps, expected.source, exact)


def device_outputs(expected: Expected, records: list[Record]) -> dict[str, Array]:
    """The outputs that a program dumped, shaped as those expected (first axis: vector)."""
    outputs = {}
    for index, (name, want) in enumerate(expected.outputs.items()):
        parts = [r.data for r in records if r.kind == OUTPUT and r.index == index]
        values = np.frombuffer(b"".join(parts), want.dtype)
        outputs[name] = values.reshape(len(parts), *want.shape[1:])
    return outputs


def _steps(
    directory: Path, name: str, records: list[Record], expected: Expected
) -> tuple[LayerReport, ...]:
    manifest = json.loads((directory / f"{name}.json").read_text())
    facts: Mapping[int, Any] = {layer["step"]: layer for layer in manifest["layers"]}
    reports = []
    for r in (r for r in records if r.kind == STEP):
        about = {key: facts[r.index][key] for key in ("name", "module", "source", "kernel")}
        want = expected.layers[about["name"]].ravel()
        tolerance = expected.layer_tolerances[about["name"]]
        d = _compare(np.frombuffer(r.data, want.dtype), want, tolerance)
        reports.append(LayerReport(**about, **asdict(d)))
    return tuple(reports)


def _compare(device: Array, want: Array, tolerance: Tolerance) -> Difference:
    return compare(device, want, tolerance.rtol, tolerance.atol)


def _save(directory: Path, bundle: Bundle, expected: Expected, device: Mapping[str, Array]) -> None:
    groups = {"inputs": expected.inputs, "eager": bundle.vectors.outputs, "device": device}
    if expected.source == TWIN:
        groups["twin"] = expected.outputs
    for group, arrays in groups.items():
        (directory / group).mkdir(parents=True, exist_ok=True)
        for name, data in arrays.items():
            np.save(directory / group / f"{name}.npy", data)


def _row(report: Difference, keys: tuple[str, ...]) -> dict[str, object]:
    return finite_or_null({key: getattr(report, key) for key in keys})


def _diverging(layer: LayerReport, source: str) -> list[str]:
    return [
        f"layer {layer.name} is the first that diverges from {source}",
        f"  at      {layer.source}  (module {layer.module})",
        f"  kernel  {layer.kernel}",
        f"  worst   [{layer.worst}] is {layer.device:g}, {source} gave {layer.eager:g}",
    ]
