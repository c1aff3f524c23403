# SPDX-License-Identifier: Apache-2.0
"""The public functions: export, compile, verify, bench. Each names its stages and does no more."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from emx import check_plan, passes
from emx.accuracy import AccuracyReport, DataSet, InPyTorch, in_parts, read_dataset
from emx.accuracy import evaluate as _evaluate
from emx.bencher import BenchReport
from emx.bencher import bench as _bench
from emx.blob import Blob
from emx.budget import check_memory
from emx.build import Generate, find_machine, machine_names
from emx.bundle import Bundle
from emx.choose import choose
from emx.converted import distances
from emx.emit import Artifacts, emit
from emx.errors import EmxError
from emx.exporter import export
from emx.ir import Array, Graph
from emx.load import load
from emx.noise import sources
from emx.options import Options
from emx.select import own_outputs
from emx.target import TARGETS, Target, find_target
from emx.testrun import build_test
from emx.twin import Expected, Tolerance, dequantised, expected, is_quantised, unknown
from emx.verifier import VerifyReport
from emx.verifier import verify as _verify
from emx.version import VERSION

__all__ = ["bench", "check", "compile", "evaluate", "export", "generate", "verify", "write"]


def compile(
    bundle: Bundle,
    *,
    target: str = "host",
    out_dir: str | os.PathLike[str],
    options: Options | None = None,
) -> Artifacts:
    """Generate the C of `bundle` for `target` into `out_dir`; files that do not change keep their
    time stamps. EmxError, before anything is written, if the model cannot be compiled."""
    artifacts = generate(bundle, find_target(target), options or Options())
    write(artifacts, Path(out_dir))
    return artifacts


def generate(bundle: Bundle, target: Target, options: Options) -> Artifacts:
    """The whole way from a bundle to C, in memory."""
    graph = _lower(bundle, options)
    wanted = _wanted(graph, bundle, options) if options.test else None
    return _emit(graph, bundle, target, options, wanted)


def _lower(bundle: Bundle, options: Options) -> Graph:
    """The graph from which kernels are selected."""
    check_inputs = _first_vector(bundle) if options.check_passes else None
    return own_outputs(passes.run(load(bundle), options, check=check_inputs, dump=options.dump_ir))


def _wanted(graph: Graph, bundle: Bundle, options: Options) -> Expected:
    return expected(graph, bundle.vectors, Tolerance(options.rtol, options.atol))


def _emit(
    graph: Graph, bundle: Bundle, target: Target, options: Options, wanted: Expected | None
) -> Artifacts:
    planned = choose(graph, target, options)
    check_plan.check(planned)
    check_memory(planned, options)
    return emit(planned, options, model_hash=bundle.model_hash, expected=wanted, version=VERSION)


def check(bundle: Bundle, *, target: str = "generic", options: Options | None = None) -> Artifacts:
    """Generate the C in memory, with each pass checked. `target` may be a board: then the model
    also has to fit its memory, in a program with one test vector."""
    names = dict.fromkeys((*(t.name for t in TARGETS), *machine_names()))
    if target not in names:
        raise EmxError(
            f"there is no target or board {target!r}", hint=f"there are: {', '.join(names)}"
        )
    machine = find_machine(target) if target in machine_names() else None
    row = find_target(machine.target if machine else target)
    options = options or Options()
    artifacts = generate(bundle, row, replace(options, check_passes=True))
    if machine and machine.bare:
        with tempfile.TemporaryDirectory(prefix="emx-check-") as temporary:
            small = generate(bundle.with_vectors(1), row, replace(options, test=True))
            write(small, Path(temporary))
            build_test(machine, Path(temporary), bundle.name, ("emx_test.c", "emx_print.c"))
    return artifacts


def verify(
    bundle: Bundle,
    *,
    target: str = "host",
    rtol: float = 1e-4,
    atol: float = 1e-6,
    layers: bool = False,
    dump: Path | None = None,
    options: Options | None = None,
) -> VerifyReport:
    """Generate, build and run the model on the host or a board's emulator, and compare its outputs
    (with `layers` every step) with PyTorch's, those of integers with their twin's; emx.verifier
    documents the parameters. A float passes if |d| <= atol + rtol * (its tensor's largest |y|)."""
    options = replace(options or Options(), rtol=rtol, atol=atol)
    graph = _lower(bundle, options)
    wanted = _wanted(graph, bundle, options)
    writer = _writer(graph, bundle, target, options, wanted)
    report = _verify(bundle, writer, target=target, layers=layers, dump=dump)
    if not is_quantised(graph):
        return report
    found = distances(graph, bundle.vectors, wanted.outputs)
    return replace(report, ok=report.ok and found.ok, distances=found)


def evaluate(
    bundle: Bundle,
    dataset: DataSet | str | os.PathLike[str],
    *,
    target: str = "host",
    samples: int | None = None,
    options: Options | None = None,
    pytorch: InPyTorch | None = None,
) -> AccuracyReport:
    """What the C of a model is worth on a data set, which emx.accuracy reads: on the host with all
    samples, on `target`, if that is a board, with the first `samples`; and what PyTorch's is."""
    if samples is not None and samples < 1:
        raise EmxError(f"{samples} samples for {target}", hint="one is the least")
    data = dataset
    if not isinstance(data, DataSet):
        data = read_dataset(Path(data), bundle.inputs)
    options = replace(options or Options(), test=True)
    loaded, graph = load(bundle), _lower(bundle, options)
    q = graph.quants.get(graph.outputs[0].name)

    def run_in_c(machine: str, inputs: Mapping[str, Array]) -> Array:
        where = find_machine(machine)
        row = find_target(where.target)

        def emit_test(directory: Path, given: Mapping[str, Array]) -> Expected:
            wanted = unknown(graph, given)
            write(_emit(graph, bundle, row, options, wanted), directory)
            return wanted

        return dequantised(q, in_parts(where, bundle.name, emit_test, inputs))

    return _evaluate(graph, sources(loaded), data, run_in_c, target, samples, pytorch)


def bench(
    bundle: Bundle,
    *,
    target: str,
    layers: bool = False,
    optimize: str = "3",
    options: Options | None = None,
) -> BenchReport:
    """Count the instructions of one run on a board's emulator and measure its memory.

    `optimize` is the compiler's level: "3" is -O3, "s" is -Os.
    """
    options = options or Options()
    graph = _lower(bundle, options)
    writer = _writer(graph, bundle, target, options, _wanted(graph, bundle, options))
    return _bench(bundle, writer, target=target, layers=layers, optimize=optimize)


def _writer(
    graph: Graph, bundle: Bundle, target: str, options: Options, wanted: Expected
) -> Generate:
    """What verify and bench call for the C of a test program."""
    row = find_target(find_machine(target).target)

    def write_test(directory: Path, *, taps: bool, empty_run: bool) -> Expected:
        asked = replace(options, test=True, taps=taps, empty_run=empty_run)
        artifacts = _emit(graph, bundle, row, asked, wanted)
        write(artifacts, directory)
        assert artifacts.expected
        return artifacts.expected

    return write_test


def write(artifacts: Artifacts, directory: Path, *, touch: bool = False) -> None:
    """Write the files whose content changed, each whole or not at all; `touch` gives the others
    a new time stamp, for build tools that go by it alone."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in artifacts.files.items():
        path = directory / name
        if _holds(path, data):
            if touch:
                path.touch()
            continue
        temporary = directory / f".{name}.{os.getpid()}.tmp"
        with temporary.open("wb") as stream:
            stream.writelines(_chunks(data))
        temporary.replace(path)


def _chunks(data: bytes | Blob) -> Iterable[bytes | memoryview]:
    return data.chunks() if isinstance(data, Blob) else (data,)


def _holds(path: Path, data: bytes | Blob) -> bool:
    """Whether a file has this content."""
    if not path.is_file() or path.stat().st_size != len(data):
        return False
    with path.open("rb") as stream:
        return all(stream.read(len(chunk)) == chunk for chunk in _chunks(data))


def _first_vector(bundle: Bundle) -> list[Array]:
    return [bundle.vectors.inputs[name][0] for name, _ in bundle.inputs]
