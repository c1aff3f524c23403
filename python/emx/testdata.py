# SPDX-License-Identifier: Apache-2.0
"""The data of a generated test: vectors, what is expected of them, checksums."""

from __future__ import annotations

from typing import Any

from emx.blob import Blob, crc32
from emx.c_text import c_scalar, port, string_literal, test_type
from emx.program import Plan, Step
from emx.twin import EXACT, Expected, Tolerance


def vector_blob(plan: Plan, expected: Expected) -> Blob:
    """Inputs, outputs, and the value of every step in the kernel's layout."""
    tensors = {f"x {n}": expected.inputs[n] for n, _ in plan.program.inputs}
    tensors |= {f"y {n}": expected.outputs[n] for n, _ in plan.program.outputs}
    for s in plan.program.steps:
        layer = expected.layers.get(plan.program.buffers[s.writes].value)
        if layer is not None:
            tensors[f"layer {s.name}"] = layer
    return Blob(tensors)


def test_tables(plan: Plan, blob: Blob, test: Blob, expected: Expected) -> dict[str, Any]:
    """What NAME_test.c says of inputs, outputs, steps and weights: names, places, tolerances,
    checksums. `blob` has the weights, `test` what vector_blob() gave."""
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
        "instance": plan.program.instances[s.instance].name,
        "origin": string_literal(str(s.origin)),
        "test_type": test_type(b.type.dtype),
        "bytes": 0 if at is None else b.type.bytes,
        "at": at or 0,
        **_tolerance(expected.tolerances.get(b.value, EXACT)),
    }
