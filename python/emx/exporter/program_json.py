# SPDX-License-Identifier: Apache-2.0
"""The program of an archive, as JSON: only what is known to be harmless passes.

PyTorch looks operators up by name anywhere below `torch`, hands expressions to sympy's eval, pastes
names of values and arguments into Python source that it runs, imports modules that a container
type names, and runs `guards_code`. So: operators and containers come from short lists, expressions
follow a small grammar, names are identifiers, guards and unused metadata are dropped, and every
other string consists of plain characters.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

_IDENTIFIER = re.compile(r"([A-Za-z_]\w*)?", re.ASCII)
_PLAIN = re.compile(r"[\w .:+/@-]*", re.ASCII)
_TEXT = re.compile(r"[^\x00-\x1f\x7f]*")

_ATEN = re.compile(r"torch\.ops\.(?:aten|prims)\.(\w+)\.([A-Za-z]\w*)", re.ASCII)
_DUNDER_ATEN = re.compile(r"__i?(?:and|or|xor|lshift|rshift)__")
_FILE_ATEN = frozenset({"from_file"})  # reads and writes files of the caller's choice
# Those of converted models: all of them compute and do nothing else.
_QUANTIZED = r"torch\.ops\.quantized_decomposed\.\w+\.\w+"
_OTHER_OPERATORS = re.compile(
    r"_operator\.(?:getitem|eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv|and_|or_"
    r"|lshift|rshift)|math\.trunc|torch\.sym_(?:not|int|float|ite|max|min|sqrt)"
    r"|torch\.ops\.higher_order\.wrap_with_(?:set_grad_enabled|autocast)"
    rf"|{_QUANTIZED}",
    re.ASCII,
)

_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}

_FUNCTIONS = """
    Integer Rational Add Mul Pow Max Min Mod Abs floor ceiling
    Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan
    And Or Not Where FloorDiv ModularIndexing PythonMod CleanDiv CeilDiv CeilToInt FloorToInt
    LShift RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv TruncToFloat TruncToInt RoundToInt
    RoundDecimal ToFloat Identity IsNonOverlappingAndDenseIndicator
"""
_ASSUMPTIONS = frozenset(["positive", "negative", "nonnegative", "nonzero", "integer", "real"])
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}", re.ASCII)
_GRAMMAR = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Load,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.Not, ast.And,
    ast.Or, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip


class Refused(Exception):
    """Says what in the program could make PyTorch run code; `hint` is for honest files."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.hint = hint


def clean(program: Any) -> Any:
    """A copy of a program in which nothing can make PyTorch run code; raises Refused."""
    version = program["schema_version"]["major"]
    if not isinstance(version, int) or version < 1:
        raise Refused("it is older than the present format of PyTorch")
    return _clean(program, "")


def clean_table(table: dict[str, Any]) -> dict[str, Any]:
    """Clean a dict whose keys are names that the model's author chose."""
    return {_matches(_PLAIN, k, "name"): _clean(v, "") for k, v in table.items()}


def _clean(value: Any, key: str) -> Any:
    if key in _TABLES.split():
        return clean_table(value)
    if key in _RULES:
        return _RULES[key](value)
    if isinstance(value, dict):
        return {_matches(_PLAIN, k, "key"): _clean(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(v, key) for v in value]
    if isinstance(value, str):
        return _matches(_PLAIN, value, key)
    return value


def _matches(pattern: re.Pattern[str], text: Any, what: str) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise Refused(f"{what or 'a string'} is {repr(text)[:80]}")
    return text


def _name(value: Any) -> Any:
    """A name that PyTorch pastes into Python source; also a list of them."""
    if isinstance(value, list):
        return [_name(v) for v in value]
    return value if value is None else _matches(_IDENTIFIER, value, "a name")


def _text(value: Any) -> Any:
    """A string argument of an operator, which PyTorch quotes; also a list of them."""
    if isinstance(value, list):
        return [_text(v) for v in value]
    return _matches(_TEXT, value, "an argument")


def _operator(target: Any) -> str:
    aten = _ATEN.fullmatch(target) if isinstance(target, str) else None
    if aten and aten[1] not in _FILE_ATEN:
        if not aten[1].startswith("__") or _DUNDER_ATEN.fullmatch(aten[1]):
            return str(target)
    elif isinstance(target, str) and _OTHER_OPERATORS.fullmatch(target):
        return target
    raise Refused(
        f"the operator {repr(target)[:80]} is not one of PyTorch's ATen operators",
        "if it is an operator of yours, give the model as SCRIPT.py:FUNCTION",
    )


def _expression(text: Any) -> str:
    """An expression of extents, as sympy writes it: Mul(Integer(2), Symbol('s0', ...))."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise Refused(f"the expression {repr(text)[:80]} is malformed") from None
    if not _harmless(tree):
        raise Refused(f"the expression {repr(text)[:80]} is more than arithmetic on extents")
    return str(text)


def _harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return _harmless_call(node)
    if isinstance(node, ast.Name):
        return bool(_SYMBOL.fullmatch(node.id))
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float, bool)
    return isinstance(node, _GRAMMAR) and all(map(_harmless, ast.iter_child_nodes(node)))


def _harmless_call(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Name):
        return False
    if call.func.id in _FUNCTIONS.split():
        return not call.keywords and all(map(_harmless, call.args))
    if call.func.id == "Symbol" and len(call.args) == 1:
        (name,) = call.args
        known = isinstance(name, ast.Constant) and isinstance(name.value, str)
        return known and bool(_SYMBOL.fullmatch(str(getattr(name, "value", "")))) and all(
            k.arg in _ASSUMPTIONS and isinstance(k.value, ast.Constant)
            and isinstance(k.value.value, bool) for k in call.keywords
        )  # fmt: skip
    return False


def _arguments_tree(text: Any) -> Any:
    return _tree(text, _IDENTIFIER)


def _results_tree(text: Any) -> Any:
    return _tree(text, _TEXT)


def _tree(text: Any, key_pattern: re.Pattern[str]) -> Any:
    """The container types around arguments or results: JSON in a string."""
    if text is None or text == "":
        return text
    protocol, tree = json.loads(text)
    return json.dumps([protocol, _clean_tree(tree, key_pattern)])


def _clean_tree(tree: Any, key_pattern: re.Pattern[str]) -> Any:
    """A copy with a dict of its fields for each class of the user's own."""
    kind, text, children = tree["type"], tree["context"], tree["children_spec"]
    if kind not in _CONTAINERS:
        kind, text = "builtins.dict", json.dumps(_fields(kind, text, len(children)))
    context = json.loads(text) if text is not None else None
    for key in context or []:
        if not isinstance(key, int):
            _matches(key_pattern, key, "a key")
    cleaned = [_clean_tree(child, key_pattern) for child in children]
    return {"type": kind, "context": text, "children_spec": cleaned}


def _fields(kind: Any, text: Any, count: int) -> list[Any]:
    """Names of the fields: [...] as transformers writes them, [[...], [names of those that are
    None]] as PyTorch does for a dataclass."""
    fields = json.loads(text) if isinstance(text, str) else None
    if isinstance(fields, list) and fields and isinstance(fields[0], list):
        fields = fields[0]
    if not isinstance(fields, list) or len(fields) != count:
        raise Refused(
            f"its inputs or results are in a {str(kind)[:80]}",
            "take and return tensors in tuples, lists, dicts or dataclasses",
        )
    return fields


def _metadata(value: Any) -> Any:
    """Only what origins need; PyTorch evaluates some of the rest."""
    kept = {k: value[k] for k in ("stack_trace", "nn_module_stack") if k in value}
    for text in kept.values():
        if not isinstance(text, str):
            raise Refused("the metadata of an operator are not text")
    return kept


def _refused(value: Any) -> Any:
    raise Refused("it refers to custom objects, which are pickles")


def _empty(value: Any) -> Any:
    if value:
        _refused(value)
    return value


_TABLES = """tensor_values sym_int_values sym_bool_values sym_float_values
    range_constraints opset_version as_string_to_argument"""
_RULES: dict[str, Callable[[Any], Any]] = {
    "name": _name,
    "as_name": _name,
    "forward_arg_names": _name,
    "user_input_name": _name,
    "as_string": _text,
    "as_strings": _text,
    "target": _operator,
    "expr_str": _expression,
    "in_spec": _arguments_tree,
    "out_spec": _results_tree,
    "metadata": _metadata,
    "guards_code": lambda _: [],
    "treespec_namedtuple_fields": lambda _: {},
    "as_operator": _refused,
    "as_custom_obj": _refused,
    "custom_obj": _refused,
    "custom_obj_values": _empty,
}
