# SPDX-License-Identifier: Apache-2.0
"""The data of a generated test: vectors, what is expected of them, checksums."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emx.blob import Blob, crc32
from emx.c_text import c_scalar, port, string_literal, test_type
from emx.program import Plan, Step
from emx.twin import EXACT, Expected, Tolerance


def of_steps(plan: Plan, expected: Expected) -> Expected:
    """The same with layers by step name, in the order of the steps."""
    values = {s.name: plan.program.buffers[s.writes].value for s in plan.program.steps}
    layers = {s: expected.layers[v] for s, v in values.items() if v in expected.layers}
    bounds = {s: expected.layer_tolerances[values[s]] for s in layers}
    return replace(expected, layers=layers, layer_tolerances=bounds)


def vector_blob(expected: Expected) -> Blob:
    """Inputs, outputs, and the value of every step in the kernel's layout."""
    groups = {"x": expected.inputs, "y": expected.outputs, "layer": expected.layers}
    return Blob({f"{k} {n}": data for k, arrays in groups.items() for n, data in arrays.items()})


def test_tables(plan: Plan, blob: Blob, test: Blob, expected: Expected) -> dict[str, Any]:
    """What NAME_test.c says of inputs, outputs, steps and weights: names, places, tolerances,
    checksums. `expected` is by step; `blob` has the weights, `test` what vector_blob() gave."""
    program = plan.program
    first: dict[str, int] = {}
    for i, s in enumerate(program.steps):
        for weight in s.weights.values():
            first.setdefault(weight, i)
    return {
        "vectors": expected.count,
        "vectors_bytes": len(test),
        "vectors_crc32": f"0x{test.crc32:08x}u",
        "source": string_literal(expected.source),
        "inputs": [
            {**port(n, b, plan), "at": test.offsets[f"x {n}"], **_tolerance(EXACT)}
            for n, b in program.inputs
        ],
        "outputs": [
            {**port(n, b, plan), "at": test.offsets[f"y {n}"], **_tolerance(expected.tolerances[n])}
            for n, b in program.outputs
        ],
        "weight_table": [_weight(n, first[n], blob) for n in program.weights],
        "steps": [_step(s, plan, test, expected) for s in program.steps],
    }


def _tolerance(t: Tolerance) -> dict[str, str]:
    return {"rtol": c_scalar(t.rtol), "atol": c_scalar(t.atol)}


def _weight(name: str, step: int, blob: Blob) -> dict[str, Any]:
    """With its padding, so that no byte of the blob is left out."""
    size = sum(map(len, blob.tensor_chunks(name)))
    crc = f"0x{crc32(blob.tensor_chunks(name)):08x}u"
    return {
        "name": name, "step": step, "bytes": size, "offset": blob.offsets[name], "crc32": crc,
    }  # fmt: skip


def _step(s: Step, plan: Plan, test: Blob, expected: Expected) -> dict[str, Any]:
    at = test.offsets.get(f"layer {s.name}")
    b = plan.program.buffers[s.writes]
    return {
        "name": s.name,
        "instance": plan.program.kernel_name(s),
        "origin": string_literal(str(s.origin)),
        "test_type": test_type(b.type.dtype),
        "bytes": 0 if at is None else b.type.bytes,
        "at": at or 0,
        **_tolerance(expected.layer_tolerances.get(s.name, EXACT)),
    }
