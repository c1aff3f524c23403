# SPDX-License-Identifier: Apache-2.0
"""Does the generated C compute what PyTorch computed? On the host or on a board's emulator."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emx.build import Generate, Machine, find_machine, run
from emx.bundle import Bundle
from emx.compare import Difference, compare
from emx.errors import EmxError
from emx.ir import Array
from emx.testrun import (
    DIFFERS,
    OUTPUT,
    PASSED,
    REFUSED,
    STEP,
    WANT,
    Record,
    build_test,
    crashed,
    read_records,
)

_DUMP = "emx_dump.bin"


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
    """`ok`: every output, and with `layers` every layer, is within the tolerance."""

    ok: bool
    target: str
    outputs: tuple[OutputReport, ...]
    layers: tuple[LayerReport, ...] = ()

    @property
    def diverging(self) -> LayerReport | None:
        """The first layer, in order of execution, that differs from PyTorch."""
        return next((layer for layer in self.layers if not layer.ok), None)

    def to_dict(self) -> dict[str, object]:
        """As JSON, docs/cli.md; numbers that are not finite become null."""
        metrics = ("max_abs", "rel", "max_ulp", "sqnr_db")
        layer = ("name", "module", "source", "kernel", "max_abs", "rel", "ok")
        return {
            "ok": self.ok,
            "target": self.target,
            "outputs": [_row(out, ("name", *metrics)) for out in self.outputs],
            "layers": [_row(step, layer) for step in self.layers],
        }

    def __str__(self) -> str:
        head = ("output", "max abs", "rel", "max ULP", "SQNR")
        rows = [
            (o.name, f"{o.max_abs:.3g}", f"{o.rel:.3g}", str(o.max_ulp), f"{o.sqnr_db:.1f} dB")
            for o in self.outputs
        ]
        lines = _columns(head, rows)
        if self.layers:
            table = [
                (n.name, f"{n.max_abs:.3g}", f"{n.rel:.3g}", "" if n.ok else "DIVERGES", n.source)
                for n in self.layers
            ]
            lines += ["", *_columns(("layer", "max abs", "rel", "", "source"), table)]
        if bad := self.diverging:
            lines += ["", *_diverging(bad)]
        verdict = "agrees with" if self.ok else "DIFFERS from"
        return "\n".join([*lines, "", f"{self.target} {verdict} PyTorch"])


def verify(
    bundle: Bundle,
    generate: Generate,
    *,
    target: str = "host",
    rtol: float = 1e-4,
    atol: float = 1e-6,
    layers: bool = False,
    dump: Path | None = None,
) -> VerifyReport:
    """Generate, build and run the model on its test vectors, and compare with the eager outputs.

    An element passes if |d| <= atol + rtol * (largest |eager| of its tensor). `dump` receives
    inputs/NAME.npy, eager/NAME.npy and device/NAME.npy, first axis: test vector. A program that
    cannot be built or does not reach its end is an EmxError.
    """
    machine = find_machine(target)
    with tempfile.TemporaryDirectory(prefix="emx-verify-") as temporary:
        directory = Path(temporary)
        generate(directory, taps=layers, empty_run=False)
        records = _run(machine, directory, bundle.name)
        steps = _steps(directory, bundle.name, records, rtol, atol) if layers else ()
    device = device_outputs(bundle, records)
    if dump is not None:
        _save(dump, bundle, device)
    outputs = [
        OutputReport(name=name, **asdict(compare(device[name], eager, rtol, atol)))
        for name, eager in bundle.vectors.outputs.items()
    ]
    ok = all(o.ok for o in outputs) and all(s.ok for s in steps)
    return VerifyReport(ok, target, tuple(outputs), steps)


def device_outputs(bundle: Bundle, records: list[Record]) -> dict[str, Array]:
    """The outputs that a program dumped, shaped as the bundle's (first axis: vector)."""
    outputs = {}
    for index, (name, _) in enumerate(bundle.outputs):
        eager = bundle.vectors.outputs[name]
        parts = [r.data for r in records if r.kind == OUTPUT and r.index == index]
        values = np.frombuffer(b"".join(parts), eager.dtype)
        outputs[name] = values.reshape(len(parts), *eager.shape[1:])
    return outputs


def _run(machine: Machine, directory: Path, name: str) -> list[Record]:
    """The records of a run that reached its end, right or not."""
    harness = ("emx_test.c", "emx_print.c")
    define = f'EMX_TEST_DUMP="{_DUMP}"'
    program = build_test(machine, directory, name, harness, defines=(define,))
    finished = run(machine, program, cwd=directory)
    if finished.code == REFUSED:
        raise EmxError(
            f"the test program refused the model on {machine.name}", hint=finished.output
        )
    if finished.code not in (PASSED, DIFFERS):
        raise crashed(machine, finished)
    return read_records(directory / _DUMP)


def _steps(
    directory: Path, name: str, records: list[Record], rtol: float, atol: float
) -> tuple[LayerReport, ...]:
    manifest = json.loads((directory / f"{name}.json").read_text())
    facts: Mapping[int, Any] = {layer["step"]: layer for layer in manifest["layers"]}
    eager = {r.index: r.data for r in records if r.kind == WANT}
    reports = []
    for r in records:
        if r.kind != STEP:
            continue
        d = compare(np.frombuffer(r.data, "<f4"), np.frombuffer(eager[r.index], "<f4"), rtol, atol)
        about = {key: facts[r.index][key] for key in ("name", "module", "source", "kernel")}
        reports.append(LayerReport(**about, **asdict(d)))
    return tuple(reports)


def _save(directory: Path, bundle: Bundle, device: Mapping[str, Array]) -> None:
    groups = {"inputs": bundle.vectors.inputs, "eager": bundle.vectors.outputs, "device": device}
    for group, arrays in groups.items():
        (directory / group).mkdir(parents=True, exist_ok=True)
        for name, data in arrays.items():
            np.save(directory / group / f"{name}.npy", data)


def _row(report: Difference, keys: tuple[str, ...]) -> dict[str, object]:
    values = {key: getattr(report, key) for key in keys}
    return {
        k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()
    }


def _diverging(layer: LayerReport) -> list[str]:
    return [
        f"layer {layer.name} is the first that diverges from PyTorch",
        f"  at      {layer.source}  (module {layer.module})",
        f"  kernel  {layer.kernel}",
        f"  worst   [{layer.worst}] is {layer.device:g}, PyTorch gave {layer.eager:g}",
    ]


def _columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip()
        for r in (head, *rows)
    ]
