# SPDX-License-Identifier: Apache-2.0
"""What a model costs on a board: instructions, code, memory. Deterministic, on the emulator.

Code, static data, stack and instructions are differences to the same program whose `_run` is
empty, so that neither the start-up nor the measuring counts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from emx.build import CONTRACT, STANDARD, Generate, Machine, counting_boards, find_machine, run
from emx.bundle import Bundle
from emx.compare import compare
from emx.errors import EmxError
from emx.stack import USAGE_FLAG, read_usage, stack_bound
from emx.testrun import OUTPUT, STACK, TICKS, WHOLE, Record, build_test, crashed, read_records
from emx.twin import Expected

_FILE = "emx_bench.bin"
_NOT_CODE = (".emx_weights", ".emx_vectors")
_NOT_DATA = (".emx_arena", ".stack")


@dataclass(frozen=True)
class LayerCost:
    """`instructions` of one kernel call; taps keep layers apart, so the sum differs a little."""

    name: str
    kernel: str
    macs: int
    instructions: int


@dataclass(frozen=True)
class BenchReport:
    """Figures of one `_run` call; docs/cli.md defines them. Sizes in bytes.

    instructions   executed, without the empty call
    code_bytes     what the model adds to the image, libm and libgcc included, weights excluded
    ram_bytes      arena, inputs and outputs, and static data that the model adds
    stack_bytes    deepest use of the stack in that call
    stack_bound_bytes   no call can use more (emx.stack)
    """

    target: str
    instructions: int
    macs: int
    instructions_per_mac: float | None
    code_bytes: int
    weights_bytes: int
    arena_bytes: int
    arena_lower_bound: int
    io_bytes: int
    ram_bytes: int
    stack_bytes: int
    stack_bound_bytes: int
    flags: str
    layers: tuple[LayerCost, ...] | None = None

    def to_dict(self) -> dict[str, object]:
        """As JSON; `layers` only when they were asked for."""
        return {
            key: value
            for key, value in asdict(self).items()
            if value is not None or key != "layers"
        }

    def __str__(self) -> str:
        per_mac = (
            ""
            if self.instructions_per_mac is None
            else f" ({self.instructions_per_mac:.2f} per MAC)"
        )
        rows = [
            ("instructions", f"{self.instructions:,}{per_mac}"),
            ("MACs", f"{self.macs:,}"),
            ("code", f"{self.code_bytes:,} B"),
            ("weights", f"{self.weights_bytes:,} B"),
            ("RAM", f"{self.ram_bytes:,} B"),
            ("  arena", f"{self.arena_bytes:,} B (lower bound {self.arena_lower_bound:,})"),
            ("  in, out", f"{self.io_bytes:,} B"),
            ("stack", f"{self.stack_bytes:,} B (no more than {self.stack_bound_bytes:,})"),
        ]
        lines = [f"{self.target}, {self.flags}", *(f"  {k:<14}{v}" for k, v in rows)]
        for layer in self.layers or ():
            lines.append(f"  {layer.instructions:>12,}  {layer.name}  {layer.kernel}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Image:
    code: int
    data: int
    instructions: int
    stack: int
    stack_bound: int
    steps: Mapping[int, int]


def bench(
    bundle: Bundle,
    generate: Generate,
    *,
    target: str,
    layers: bool = False,
    optimize: str = "3",
) -> BenchReport:
    """Measure on a board's emulator. Wrong outputs are an EmxError: their cost says nothing."""
    machine = find_machine(target)
    flags = (f"-O{optimize}", STANDARD)
    if not machine.count_args:
        hint = f"they can on: {', '.join(counting_boards())}"
        raise EmxError(f"instructions cannot be counted on {target}", hint=hint)
    with tempfile.TemporaryDirectory(prefix="emx-bench-") as temporary:
        images = {}
        for kind in ("model", "empty", *(("tapped",) if layers else ())):
            directory = Path(temporary, kind)
            directory.mkdir()
            expected = generate(directory, taps=kind == "tapped", empty_run=kind == "empty")
            images[kind], records = _image(machine, directory, bundle.name, flags)
            if kind != "empty":
                _require_right(expected, machine, records)
        manifest = json.loads(Path(temporary, "model", f"{bundle.name}.json").read_text())
    every = " ".join((*flags, CONTRACT, *machine.flags))
    return _report(manifest, target, every, images)


def _report(
    manifest: Mapping[str, Any], target: str, flags: str, images: Mapping[str, _Image]
) -> BenchReport:
    model, nothing, tapped = images["model"], images["empty"], images.get("tapped")
    macs, arena = manifest["macs"], manifest["arena_bytes"]
    tensors = (*manifest["inputs"], *manifest["outputs"])
    io = 0 if manifest["io_arena"] else sum(t["bytes"] // t.get("rows", 1) for t in tensors)
    instructions = model.instructions - nothing.instructions
    return BenchReport(
        target=target,
        instructions=instructions,
        macs=macs,
        instructions_per_mac=instructions / macs if macs else None,
        code_bytes=model.code - nothing.code,
        weights_bytes=manifest["weights_bytes"],
        arena_bytes=arena,
        arena_lower_bound=manifest["arena_lower_bound"],
        io_bytes=io,
        ram_bytes=arena + io + model.data - nothing.data,
        stack_bytes=model.stack - nothing.stack,
        stack_bound_bytes=model.stack_bound,
        flags=flags,
        layers=None if tapped is None else _layers(manifest, tapped),
    )


def _layers(manifest: Mapping[str, Any], tapped: _Image) -> tuple[LayerCost, ...]:
    return tuple(
        LayerCost(n["name"], n["kernel"], n["macs"], tapped.steps[n["step"]])
        for n in manifest["layers"]
    )


def _require_right(expected: Expected, machine: Machine, records: list[Record]) -> None:
    """The program runs vector 0 only."""
    device = {r.index: r.data for r in records if r.kind == OUTPUT}
    for index, (name, want) in enumerate(expected.outputs.items()):
        values = np.frombuffer(device[index], want.dtype).reshape(want.shape[1:])
        scale = np.abs(want[np.isfinite(want)]).max(initial=0)
        tolerance = expected.tolerances[name]
        d = compare(values, want[0], rtol=0, atol=tolerance.atol + tolerance.rtol * float(scale))
        if not d.ok:
            raise EmxError(
                f"output {name} is wrong on {machine.name}: max abs {d.max_abs:.3g}",
                hint=f"emx verify --target {machine.name} --layers says which layer",
            )


def _image(
    machine: Machine, directory: Path, name: str, flags: tuple[str, ...]
) -> tuple[_Image, list[Record]]:
    """Build, run and measure what was generated into `directory`."""
    steps = len(json.loads((directory / f"{name}.json").read_text())["layers"])
    defines = (f"EMX_BENCH_STEPS={max(steps, 1)}",)
    every = (*flags, USAGE_FLAG)
    program = build_test(machine, directory, name, ("emx_bench.c",), defines=defines, flags=every)
    finished = run(machine, program, cwd=directory, counted=True)
    if finished.code:
        raise crashed(machine, finished)
    records = read_records(directory / _FILE)
    ticks = {r.index: int.from_bytes(r.data, "little") for r in records if r.kind == TICKS}
    per_tick = machine.timer_ns / machine.instruction_ns
    counts = {index: round(value * per_tick) for index, value in ticks.items()}
    (stack,) = (int.from_bytes(r.data, "little") for r in records if r.kind == STACK)
    code, data = image_bytes(program)
    verbs = ("run", "run_in", "feed_row", "feed_row_in")
    run_names = tuple(f"{name}_{verb}" for verb in verbs)
    bound = stack_bound(machine.compiler, program, run_names, read_usage(directory))
    return _Image(code, data, counts.pop(WHOLE), stack, bound.bytes, counts), records


def image_bytes(program: Path) -> tuple[int, int]:
    """(loaded, static data) bytes of an ELF file: without weights and vectors; without arenas."""
    loaded = data = 0
    with program.open("rb") as stream:
        for section in ELFFile(stream).iter_sections():
            flags, empty = section["sh_flags"], section["sh_type"] == "SHT_NOBITS"
            if not flags & SH_FLAGS.SHF_ALLOC:
                continue
            if not empty and section.name not in _NOT_CODE:
                loaded += section["sh_size"]
            if flags & SH_FLAGS.SHF_WRITE and section.name not in (*_NOT_CODE, *_NOT_DATA):
                data += section["sh_size"]
    return loaded, data
