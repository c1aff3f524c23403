# SPDX-License-Identifier: Apache-2.0
"""Plan -> Artifacts: the C sources, the weight blob and the manifest. The only user of jinja2.

Templates hold the skeleton of the files; what a line says is prepared here, how a kernel computes
stands in runtime/include/emx/kernels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2

from emx.blob import HEADER_BYTES, Blob, byte_rows, code_hash, header, literals
from emx.c_text import (
    aligned_comments,
    call,
    comment,
    declarations,
    initialiser,
    mentions,
    port,
    prototype,
    values,
)
from emx.emit_stream import feed_context, stream_call, stream_context
from emx.errors import EmxError
from emx.ir import Array, DType, Origin, TensorType
from emx.kernel import Kernel, Scalar
from emx.options import Options
from emx.program import ALIGN, Buffer, Instance, Plan, Program, Step, padded
from emx.report import manifest, summary, table
from emx.target import Target, Tile
from emx.testdata import of_steps, test_tables, vector_blob
from emx.twin import Expected


@dataclass(frozen=True)
class Artifacts:
    """Generated files by name, and the manifest (docs/output-format.md) that is one of them.
    `expected`, by step: what the test asks for, if there is one."""

    files: Mapping[str, bytes | Blob]
    manifest: Mapping[str, Any]
    expected: Expected | None = None


def emit(
    plan: Plan, options: Options, *, model_hash: str, expected: Expected | None, version: str
) -> Artifacts:
    """All files of the model. With `expected` also those of its test."""
    program = plan.program
    name = program.name
    blob = file = Blob(program.weights)
    facts = manifest(plan, options, model_hash=model_hash, weights=blob, version=version)
    context = _context(plan, options, len(blob), facts)
    if options.weights == "external":
        code = _code_hash(name, context)
        context["code_hash"] = byte_rows(bytes.fromhex(code))
        facts = {**facts, "code_hash": code, "weights_file_bytes": HEADER_BYTES + len(blob)}
        file = Blob(blob.tensors, header(blob, code_hash=code, model_hash=model_hash))
    text = {
        f"{name}.h": _render("model.h.j2", context),
        f"{name}.c": _render("model.c.j2", context),
        f"{name}.json": json.dumps(facts, indent=1) + "\n",
    }
    binary = {f"{name}_weights.bin": file}
    if options.weights != "external" or expected:
        section = options.weights_section or f".rodata.emx_weights.{name}"
        text[f"{name}_weights.c"] = _blob_source(name, "weights", file, section, options, version)
    if expected:
        expected = of_steps(plan, expected)
        test = vector_blob(expected)
        binary[f"{name}_vectors.bin"] = test
        section = f".rodata.emx_vectors.{name}"
        text[f"{name}_vectors.c"] = _blob_source(name, "vectors", test, section, options, version)
        text[f"{name}_test.c"] = _render(
            "test.c.j2", {**context, **test_tables(plan, blob, test, expected)}
        )
    return Artifacts({**{k: v.encode() for k, v in text.items()}, **binary}, facts, expected)


def _code_hash(name: str, context: Mapping[str, Any]) -> str:
    """What weights that are bound at run time must fit: NAME.c, but for this hash."""
    if not context["weights_bytes"]:
        raise EmxError(f"{name} has no weights to bind", hint="leave out --weights external")
    return code_hash(_render("model.c.j2", context))


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("emx"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )


def _render(template: str, context: Mapping[str, Any]) -> str:
    """Render, with runs of empty lines made one."""
    text = _environment().get_template(template).render(**context)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def _blob_source(
    name: str, kind: str, data: Blob, section: str, options: Options, version: str
) -> str:
    """The C file that has `data` as the symbol NAME_KIND."""
    rows = literals(bytes(data)) if options.weights == "string" else []
    context = {
        "rows": rows,
        "file": f"{name}_{kind}.c",
        "blob": f"{name}_{kind}.bin",
        "symbol": f"{name}_{kind}",
        "bytes": len(data),
        "sha256": data.sha256,
        "section": section,
        "version": version,
    }
    return _render("blob.c.j2", context)


def _context(
    plan: Plan, options: Options, weights_bytes: int, facts: Mapping[str, Any]
) -> dict[str, Any]:
    program = plan.program
    major, minor = str(facts["emx"]).split(".")[:2]
    steps = () if options.empty_run else program.steps
    instances = () if options.empty_run else program.instances
    buffers = program.buffers
    has_arena = plan.arena_bytes > 0
    in_arena = [b for b in buffers.values() if b.home == "arena"]
    used = {b for s in steps for b in (s.writes, *s.reads.values())}
    scratch = [s.name for s in steps if s.name in plan.scratch]
    io = [program.buffers[b] for _, b in (*program.inputs, *program.outputs)]
    local = [_local(b, plan) for b in in_arena if b.name in used]
    local += [_scratch_local(s, plan) for s in scratch]
    weights_used = any(s.weights for s in steps)
    streams = [s for s in steps if s.stream]
    called = [s for s in steps if not s.stream]
    return {
        "name": program.name,
        "NAME": program.name.upper(),
        "version": facts["emx"],
        "version_major": major,
        "version_minor": minor,
        "target": program.target.name,
        "requires": program.target.conditions,
        **_packing(program.target, instances),
        "summary": summary(facts),
        "table": [comment(line) for line in table(plan)],
        "model_hash": facts["model_hash"],
        "macs": facts["macs"],
        "weights_bytes": weights_bytes,
        "weights_crc32": f"0x{facts['weights_crc32']:08x}u",
        "arena_bytes": plan.arena_bytes,
        "align": ALIGN,
        "arena_section": options.arena_section or f".bss.emx_arena.{program.name}",
        "static_arena": options.arena == "static",
        "arena": f"{options.arena_group or program.name}_arena",
        "arena_group": options.arena_group,
        "weights": options.weights,
        "code_hash": [],
        "weights_file_bytes": HEADER_BYTES + weights_bytes,
        "io_arena": options.io_arena,
        "inputs": [port(n, b, plan) for n, b in program.inputs],
        "outputs": [port(n, b, plan) for n, b in program.outputs],
        "feed": feed_context(plan),
        "run_in": _signature(plan, options, "_in", "void *arena"),
        "run": _signature(plan, options, ""),
        "headers": sorted({i.kernel.header for i in instances}),
        "members": aligned_comments([_member(n, t) for n, t in program.weights.items()]),
        "taps": options.taps and not options.empty_run,
        "instances": [_instance(i, _sharing(i, program)) for i in instances],
        "at_tables": [_at_table(s, instances[s.instance]) for s in called if _varies(s, instances)],
        "streams": [stream_context(s, plan) for s in streams],
        "unused": _unused(io, used, local, options),
        "uses_base": bool(local) and has_arena,
        "uses_weights": weights_used,
        "locals": aligned_comments([_declaration(v) for v in local]),
        "steps": [_call(s, i, steps, instances) for i, s in enumerate(steps)],
    }


def _packing(target: Target, instances: Sequence[Instance]) -> dict[str, Any]:
    """What generated C says of how weights are packed, where that is not as for any target."""
    integer = any(i.kernel.header.endswith("_s8") for i in instances)
    return {
        "tile": None if target.tile == Tile() else target.tile,
        "dot": target.dot.upper() if integer and target.dot != "generic" else "",
    }


def _signature(plan: Plan, options: Options, suffix: str, *first: str) -> str:
    """Prototype of a run function without the semicolon, a parameter a line if it is long."""
    program = plan.program
    fed = program.fed
    parameters = [*first, "uint32_t row_index"] if fed else list(first)
    for const, ports in (("const ", program.inputs), ("", program.outputs)):
        for _, b in ports:
            if b == fed or not options.io_arena:
                t = program.buffers[b].type
                length = f"{program.name}_{b}{'_ROW' if b == fed else ''}_LEN".upper()
                array = f"{b}[{length}]" if t.size else f"*{b}"  # C has no empty arrays
                parameters.append(f"{const}{t.dtype.c} {array}")
    result, verb = ("bool", "feed_row") if fed else ("void", "run")
    return prototype(f"{result} {program.name}_{verb}{suffix}", parameters or ["void"])


def _unused(
    io: Sequence[Buffer], used: set[str], local: Sequence[object], options: Options
) -> list[str]:
    """Parameters of the run function that its body would not mention."""
    names = [] if options.io_arena else [b.name for b in io if b.name not in used]
    return [*([] if local else ["arena"]), *names]


def _local(b: Buffer, plan: Plan) -> dict[str, Any]:
    offset = plan.offsets[b.name]
    return {"name": b.name, "c": b.type.dtype.c, "offset": offset, "type": str(b.type)}


def _scratch_local(step: str, plan: Plan) -> dict[str, Any]:
    return {
        "name": f"{step}_scratch",
        "c": "unsigned char",
        "offset": plan.scratch[step],
        "type": "scratch",
    }


def _declaration(local: Mapping[str, Any]) -> tuple[str, str]:
    c, name, offset = local["c"], local["name"], local["offset"]
    return f"{c} *const {name} = ({c} *)(base + {offset});", str(local["type"])


def _member(name: str, data: Array) -> tuple[str, str]:
    """A member of the weights struct, padded as in the blob."""
    dtype = DType.of(data.dtype)
    length = padded(data.nbytes) // dtype.bytes
    padding = f", {length - data.size} unused" if length > data.size else ""
    return f"{dtype.c} {name}[{length}];", f"{TensorType(data.shape, dtype)}{padding}"


def _sharing(i: Instance, program: Program) -> list[Kernel]:
    """The kernels of the layers that call an instance."""
    rows = [stage.step for s in program.steps if s.stream for stage in s.stream.stages]
    calls = [*rows, *(s for s in program.steps if not s.stream)]
    return [s.kernel for s in calls if program.instances[s.instance] is i]


def _instance(i: Instance, kernels: Sequence[Kernel]) -> dict[str, Any]:
    k = i.kernel
    parameters = [f"const {i.at_struct} *at"] if i.varying else []
    parameters += [_parameter(k, o) for o in k.operands]
    functions = [f"{i.name}_{s.role}" for s in k.scalars]
    arguments = ["x", "y"] if k.array else k.operands
    return {
        "name": i.name,
        "at_struct": i.at_struct,
        "at_members": declarations(kernels, i.varying) if i.varying else [],
        "struct": k.struct,
        "prototype": prototype(f"EMX_INSTANCE void {i.name}", parameters),
        "call": f"{k.function}({', '.join(['&p', *functions, *arguments])})",
        "fields": initialiser(k, i.varying),
        "array": [o for o in k.operands if o != "y"] if k.array else [],
        "scalars": [_scalar(f, s) for f, s in zip(functions, k.scalars, strict=True)],
    }


def _parameter(kernel: Kernel, operand: str) -> str:
    const = "" if operand in ("y", "scratch") else "const "
    return f"{const}{kernel.c_type(operand)} *{operand}"


def _scalar(name: str, s: Scalar) -> dict[str, Any]:
    parameters = [f"{t}{'' if t.endswith('*') else ' '}{a}" for t, a in s.parameters]
    return {
        "prototype": prototype(f"EMX_INLINE void {name}", parameters),
        "body": s.body,
        "unused": [a for _, a in s.parameters if not any(mentions(line, a) for line in s.body)],
    }


def _varies(step: Step, instances: Sequence[Instance]) -> bool:
    return bool(instances[step.instance].varying)


def _at_table(step: Step, instance: Instance) -> dict[str, Any]:
    return {
        "name": f"{step.name}_at",
        "struct": instance.at_struct,
        "note": f"Parameters of {instance.name} in the layer {step.name}.",
        "fields": values(step.kernel, instance.varying),
    }


def _place(s: Step, operand: str) -> str:
    start = s.starts.get(operand)
    return f"{s.reads[operand]} + {start}" if start else s.reads[operand]


def _call(s: Step, i: int, steps: Sequence[Step], instances: Sequence[Instance]) -> dict[str, str]:
    origin = str(s.origin) if s.origin != Origin() else "(added by emx)"
    same = i > 0 and steps[i - 1].origin == s.origin
    return {
        "comment": "" if same else comment(origin),
        "call": stream_call(s) if s.stream else _kernel_call(s, instances[s.instance]),
        "writes": s.writes,
    }


def _kernel_call(s: Step, instance: Instance) -> str:
    arguments = [f"&{s.name}_at"] if instance.varying else []
    for operand in s.kernel.operands:
        if operand == "scratch":
            arguments.append(f"{s.name}_scratch")
        elif operand in s.weights:
            arguments.append(f"w->{s.weights[operand]}")
        else:
            arguments.append(s.writes if operand == "y" else _place(s, operand))
    return call(instance.name, arguments)
