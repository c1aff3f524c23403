# SPDX-License-Identifier: Apache-2.0
"""The data of a generated test: vectors, what PyTorch gave, checksums."""

from __future__ import annotations

from typing import Any

from emx.blob import Blob, crc32
from emx.bundle import Vectors
from emx.c_text import c_scalar, port, string_literal, test_type
from emx.options import Options
from emx.program import Plan, Step


def vector_blob(plan: Plan, vectors: Vectors) -> Blob:
    """Inputs, PyTorch's outputs, and PyTorch's value of every step in the kernel's layout."""
    tensors = {f"x {n}": vectors.inputs[n] for n, _ in plan.program.inputs}
    tensors |= {f"y {n}": vectors.outputs[n] for n, _ in plan.program.outputs}
    for s in plan.program.steps:
        view = plan.program.buffers[s.writes].eager
        layer = vectors.layers.get(view.name) if view else None
        if view is not None and layer is not None:
            tensors[f"layer {s.name}"] = layer.transpose(view.perm)
    return Blob(tensors)


def test_tables(
    plan: Plan, options: Options, blob: Blob, test: Blob, vectors: Vectors
) -> dict[str, Any]:
    """What NAME_test.c says of inputs, outputs, steps and weights: names, places, checksums.
    `blob` has the weights, `test` what vector_blob() gave."""
    program = plan.program
    first: dict[str, int] = {}
    for i, s in enumerate(program.steps):
        for weight in s.weights.values():
            first.setdefault(weight, i)
    return {
        "vectors": vectors.count,
        "vectors_bytes": len(test),
        "vectors_crc32": f"0x{test.crc32:08x}u",
        "rtol": c_scalar(options.rtol),
        "atol": c_scalar(options.atol),
        "inputs": [{**port(n, b, plan), "at": test.offsets[f"x {n}"]} for n, b in program.inputs],
        "outputs": [{**port(n, b, plan), "at": test.offsets[f"y {n}"]} for n, b in program.outputs],
        "weight_table": [_weight(n, first[n], blob) for n in program.weights],
        "steps": [_step(s, plan, test) for s in program.steps],
    }


def _weight(name: str, step: int, blob: Blob) -> dict[str, Any]:
    """With its padding, so that no byte of the blob is left out."""
    size = sum(map(len, blob.tensor_chunks(name)))
    crc = f"0x{crc32(blob.tensor_chunks(name)):08x}u"
    return {
        "name": name, "step": step, "bytes": size, "offset": blob.offsets[name], "crc32": crc,
    }  # fmt: skip


def _step(s: Step, plan: Plan, test: Blob) -> dict[str, Any]:
    at = test.offsets.get(f"layer {s.name}")
    return {
        "name": s.name,
        "instance": plan.program.instances[s.instance].name,
        "origin": string_literal(str(s.origin)),
        "test_type": test_type(plan.program.buffers[s.writes].type.dtype),
        "bytes": 0 if at is None else plan.program.buffers[s.writes].type.bytes,
        "at": at or 0,
    }
