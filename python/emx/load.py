# SPDX-License-Identifier: Apache-2.0
"""Bundle -> Graph: every ATen call becomes emx operators, or a problem that says where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from emx.builder import Builder
from emx.bundle import Arg, AtenNode, Bundle, Ref
from emx.errors import EmxError, Problem
from emx.ir import DType, Eager, Graph, TensorType, Unsupported, Value, verify
from emx.names import require_identifier
from emx.ops import UNSUPPORTED_HINT, lowerings, unsupported


def load(bundle: Bundle) -> Graph:
    """The graph of `bundle`; EmxError with all problems of the model at once."""
    require_identifier(bundle.name)
    builder = Builder(lowerings(), bundle.tensors)
    env: dict[str, Value] = {name: Value(name, t, _eager(name, t)) for name, t in bundle.inputs}
    inputs = tuple(env.values())
    for name, data in bundle.tensors.items():
        env[name] = Value(name, TensorType(tuple(data.shape), DType.of(data.dtype)))
    problems: list[Problem] = []
    for node in bundle.nodes:
        problem = _lower(builder, node, env)
        if problem:
            problems.append(problem)
            _assume_outputs(node, env)
    problems += _missing_outputs(bundle, env)
    if problems:
        raise EmxError.of(problems, "parts of this model are not supported")
    outputs = tuple(env[ref.name] for _, ref in bundle.outputs)
    graph = Graph(
        name=bundle.name,
        inputs=inputs,
        outputs=outputs,
        output_names=tuple(name for name, _ in bundle.outputs),
        nodes=tuple(builder.nodes),
        constants=builder.constants,
        grids=builder.grids,
    )
    verify(graph)
    return graph


def _missing_outputs(bundle: Bundle, env: Mapping[str, Value]) -> list[Problem]:
    """Outputs of the model that are a result no lowering gives, such as the indices of a pool."""
    makers = {name: node for node in bundle.nodes for name in node.output_names}
    what, hint = "the output {} is a result that emx does not compute", "do not return it"
    return [
        Problem(what.format(name), str(node.origin), call_text(node, env), hint)
        for name, ref in bundle.outputs
        if ref.name not in env and (node := makers[ref.name])
    ]


def _lower(builder: Builder, node: AtenNode, env: dict[str, Value]) -> Problem | None:
    """Lower one call into `builder` and enter its output into `env`."""

    def problem(what: str, hint: str) -> Problem:
        return Problem(what, str(node.origin), call_text(node, env), hint)

    if unknown := unsupported(node.target):
        return problem(*unknown)
    before = len(builder.nodes)
    builder.begin(node.name, node.origin)
    try:
        args = [_argument(a, env) for a in node.args]
        kwargs = {k: _argument(a, env) for k, a in node.kwargs.items() if k not in _IGNORED}
        result = builder.lower(node.target, *args, **kwargs)
    except Unsupported as error:
        return problem(error.what, error.hint)
    except (TypeError, ValueError) as error:
        return problem(f"this form of {node.target} is not supported: {error}", UNSUPPORTED_HINT)
    values = result if isinstance(result, tuple) else (result,)
    for value, t in zip(values, node.outputs, strict=False):
        if value.type != t:
            return problem(
                f"{node.target} gives {t} in PyTorch, {value.type} here",
                "this is a form of the operator that emx does not know",
            )
    env.update(_named(builder, dict(zip(node.output_names, values, strict=False)), before))
    return None


# Arguments that say how or where PyTorch computes, not what.
_IGNORED = frozenset({"memory_format", "device", "layout", "pin_memory", "non_blocking", "copy"})


def _named(builder: Builder, outputs: Mapping[str, Value], before: int) -> dict[str, Value]:
    """Give the call's outputs the call's names, if the call made them; others are older values."""
    made = {n.output.name for n in builder.nodes[before:]}
    names: dict[str, Value] = {}
    for name, v in outputs.items():
        if v.name in made and v.name not in names:
            names[v.name] = Value(name, v.type, _eager(name, v.type))
    for i, n in enumerate(builder.nodes[before:], before):
        inputs, results = (tuple(names.get(v.name, v) for v in vs) for vs in (n.inputs, n.outputs))
        builder.nodes[i] = replace(n, inputs=inputs, outputs=results)
    return {name: names.get(v.name, v) for name, v in outputs.items()}


def _eager(name: str, t: TensorType) -> Eager:
    return Eager(name, tuple(range(t.rank)))


def _argument(a: Arg, env: Mapping[str, Value]) -> object:
    if isinstance(a, Ref):
        if a.name not in env:
            raise Unsupported(f"%{a.name} is an output that emx does not compute", "do not use it")
        return env[a.name]
    if isinstance(a, tuple):
        return tuple(_argument(x, env) for x in a)
    return a


def _assume_outputs(node: AtenNode, env: dict[str, Value]) -> None:
    """After a problem, go on as if the call had worked, to find the others."""
    for name, t in zip(node.output_names, node.outputs, strict=True):
        env[name] = Value(name, t)


def call_text(node: AtenNode, env: Mapping[str, Value]) -> str:
    """aten.softmax.int(%x: f32[1x4x8], 1)"""
    args = [_arg_text(a, env) for a in node.args]
    args += [f"{k}={_arg_text(a, env)}" for k, a in node.kwargs.items()]
    return f"{node.target}({', '.join(args)})"


def _arg_text(a: Arg, env: Mapping[str, Value]) -> str:
    if isinstance(a, Ref):
        return f"%{a.name}: {env[a.name].type}" if a.name in env else f"%{a.name}"
    if isinstance(a, tuple):
        return "[" + ", ".join(_arg_text(x, env) for x in a) + "]"
    return a.value if isinstance(a, DType) else str(a)
