# SPDX-License-Identifier: Apache-2.0
"""What emx says about a planned model: the manifest, the table of layers, one line of summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emx.blob import Blob
from emx.ir import FloatLayer, Slimmed
from emx.kernel import Kernel
from emx.options import Options
from emx.program import ALIGN, Buffer, Plan, Program, Step


def manifest(
    plan: Plan, options: Options, *, model_hash: str, weights: Blob, version: str
) -> dict[str, Any]:
    """NAME.json, specified in docs/output-format.md."""
    program = plan.program
    return {
        "emx": version,
        "name": program.name,
        "target": program.target.name,
        "model_hash": model_hash,
        "arena_bytes": plan.arena_bytes,
        "arena_align": ALIGN,
        "arena_lower_bound": plan.lower_bound,
        "io_arena": options.io_arena,
        "weights_bytes": len(weights),
        "weights_crc32": weights.crc32,
        "macs": sum(s.macs for s in program.steps),
        "ram": options.ram,
        "cost": plan.cost,
        "fastest": _fastest(plan.fastest or plan),
        "inputs": [_tensor(n, program.buffers[b]) | _rows(b, program) for n, b in program.inputs],
        "outputs": [_tensor(n, program.buffers[b]) for n, b in program.outputs],
        "operators": sorted({i.kernel.function for i in program.instances}),
        "layers": [_layer(i, s, plan) for i, s in enumerate(program.steps)],
        "float_layers": [_float_layer(f) for f in program.float_layers],
        "slimmed": [_slimmed(s) for s in program.slimmed],
    }


def _fastest(plan: Plan) -> dict[str, Any]:
    return {"arena_bytes": plan.arena_bytes, "cost": plan.cost}


def _float_layer(f: FloatLayer) -> dict[str, Any]:
    return {
        "layer": f.layer,
        "module": f.origin.module,
        "source": f.origin.source,
        "reason": f.reason,
        "inside": f.inside,
    }


def _slimmed(s: Slimmed) -> dict[str, Any]:
    reasons = {"zero": s.zero, "clamped": s.clamped, "constant": s.constant, "unread": s.unread}
    return {
        "layer": s.layer,
        "module": s.origin.module,
        "channels": [s.before, s.after],
        "reasons": reasons,
    }


def _tensor(name: str, b: Buffer) -> dict[str, Any]:
    return {
        "name": name,
        "c_name": b.name,
        "dtype": b.type.dtype.value,
        "shape": list(b.type.dims),
        "bytes": b.type.bytes,
        **({"scale": b.quant.scale, "zero_point": b.quant.zero} if b.quant else {}),
    }


def _rows(buffer: str, program: Program) -> dict[str, Any]:
    """Of an input that comes in row by row."""
    stream = program.steps[0].stream if buffer == program.fed else None
    return {"rows": stream.lines[buffer].height} if stream else {}


def _layer(i: int, s: Step, plan: Plan) -> dict[str, Any]:
    b = plan.program.buffers[s.writes]
    start = plan.offsets.get(s.writes)
    return {
        "step": i,
        "name": s.name,
        "kernel": plan.program.kernel_name(s),
        "output": str(b.type),
        "arena": None if start is None else [start, start + b.bytes],
        "macs": s.macs,
        "source": s.origin.source,
        "module": s.origin.module,
        **_choice(s, plan),
    }


def _choice(s: Step, plan: Plan) -> dict[str, Any]:
    """What there was to choose from, and why it is this."""
    kernels = [_candidate(k) for k in s.candidates]
    facts = {**_candidate(s.kernel), "candidates": kernels, "reason": _reason(s)}
    if s.stream is None:
        isa = plan.program.target.dot if s.kernel.header.endswith("_s8") else None
        return {"isa": isa, **facts}
    stages = [
        {
            "name": stage.step.name,
            "kernel": plan.program.kernel_name(stage.step),
            "calls": s.stream.order.count(i),
            "macs": stage.step.macs,
            "source": stage.step.origin.source,
            "module": stage.step.origin.module,
            **_choice(stage.step, plan),
        }
        for i, stage in enumerate(s.stream.stages)
    ]
    return {"isa": stages[0]["isa"], **facts, "rows": stages}


def _candidate(k: Kernel) -> dict[str, Any]:
    return {"variant": k.variant, "cost": k.cost, "scratch_bytes": k.scratch_bytes}


def _reason(s: Step) -> str:
    if s.stream:
        return "the smallest arena"
    if len(s.candidates) < 2:
        return "the only one"
    least = min(k.cost for k in s.candidates)
    return "the fastest" if s.kernel.cost == least else "the fastest that fits the smallest arena"


def summary(facts: Mapping[str, Any]) -> str:
    """kws for cortex-m4: 13 layers, 2,656,768 MACs, weights 90,432 bytes, arena 42,176 bytes"""
    return (
        f"{facts['name']} for {facts['target']}: {len(facts['layers'])} layers, "
        f"{facts['macs']:,} MACs, weights {facts['weights_bytes']:,} bytes, "
        f"arena {facts['arena_bytes']:,} bytes"
    )


def table(plan: Plan) -> list[str]:
    """The layers, a line each: step, kernel, output, place in the arena, MACs, source."""
    rows = [("step", "kernel", "output", "arena", "MACs", "source")]
    for i, s in enumerate(plan.program.steps):
        layer = _layer(i, s, plan)
        arena = layer["arena"]
        place = f"[{arena[0]}, {arena[1]})" if arena else "caller's"
        macs = f"{s.macs:,}" if s.macs else "-"
        rows.append((str(i), layer["kernel"], layer["output"], place, macs, s.origin.source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = (0, 4)
    return [
        "  ".join(
            c.rjust(w) if i in right else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
