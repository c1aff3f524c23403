# SPDX-License-Identifier: Apache-2.0
"""Archives of torch.export.save that PyTorch would run code from, one for each way it does.

Every payload creates the file `mark` when it runs.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Content = dict[str, bytes]
PROGRAM = "models/model.json"


class Net(torch.nn.Module):
    """A linear layer, a constant and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 3)
        self.register_buffer("scale", torch.full((3,), 2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.fc(x)) * self.scale + torch.tensor([1.0, 2.0, 3.0])


def archive() -> bytes:
    """A harmless archive."""
    torch.manual_seed(0)
    out = io.BytesIO()
    torch.export.save(torch.export.export(Net().eval(), (torch.randn(2, 4),)), out)
    return out.getvalue()


def unpack(data: bytes) -> Content:
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        return {name.partition("/")[2]: z.read(name) for name in z.namelist()}


def pack(content: Content, root: str = "net/") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in content.items():
            z.writestr(root + name, data)
    return out.getvalue()


class Payload:
    """An object whose unpickling opens `mark` for writing."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.mark), "w"))


def _saved(mark: Path) -> bytes:
    out = io.BytesIO()
    torch.save(({"x": Payload(mark)},), out)
    return out.getvalue()


def _edited(content: Content, member: str, edit: Callable[[Any], None]) -> Content:
    document = json.loads(content[member])
    edit(document)
    return {**content, member: json.dumps(document).encode()}


def _graph(document: Any) -> Any:
    return document["graph_module"]["graph"]


def _python(mark: Path) -> str:
    return f"open({str(mark)!r}, 'w')"


def sample_inputs(content: Content, mark: Path) -> Content:
    return {**content, "data/sample_inputs/model.pt": _saved(mark)}


def _pickled_tensor(content: Content, mark: Path, kind: str, prefix: str) -> Content:
    def edit(config: Any) -> None:
        entry = next(iter(config["config"].values()))
        entry.update(use_pickle=True, path_name=f"{prefix}99")

    config = f"data/{kind}/model_{kind}_config.json"
    payload = pickle.dumps(Payload(mark)) if prefix == "opaque_obj_" else _saved(mark)
    return {**_edited(content, config, edit), f"data/{kind}/{prefix}99": payload}


def pickled_weight(content: Content, mark: Path) -> Content:
    return _pickled_tensor(content, mark, "weights", "weight_")


def pickled_constant(content: Content, mark: Path) -> Content:
    return _pickled_tensor(content, mark, "constants", "tensor_")


def opaque_object(content: Content, mark: Path) -> Content:
    return _pickled_tensor(content, mark, "constants", "opaque_obj_")


def old_weights(content: Content, mark: Path) -> Content:
    return {**content, "data/weights/model.pt": _saved(mark)}


def old_constants(content: Content, mark: Path) -> Content:
    return {**content, "data/constants/model.pt": _saved(mark)}


def expression(content: Content, mark: Path) -> Content:
    def edit(document: Any) -> None:
        value = {"expr_str": _python(mark), "hint": {"as_int": 2}}
        _graph(document)["tensor_values"]["x"]["sizes"][0] = {"as_expr": value}

    return _edited(content, PROGRAM, edit)


def guards(content: Content, mark: Path) -> Content:
    def edit(document: Any) -> None:
        document["guards_code"] = [f"{_python(mark)} is not None"]

    return _edited(content, PROGRAM, edit)


def any_function(content: Content, mark: Path) -> Content:
    def edit(document: Any) -> None:
        node = _graph(document)["nodes"][0]
        node["target"] = "torch.os.open"
        node["inputs"] = [
            {"name": "", "arg": {"as_string": str(mark)}, "kind": 1},
            {"name": "", "arg": {"as_int": 0o101}, "kind": 1},  # O_WRONLY | O_CREAT
        ]

    return _edited(content, PROGRAM, edit)


def file_operator(content: Content, mark: Path) -> Content:
    def edit(document: Any) -> None:
        node = _graph(document)["nodes"][0]
        node["target"] = "torch.ops.aten.from_file.default"
        node["inputs"] = [
            {"name": "filename", "arg": {"as_string": str(mark)}, "kind": 1},
            {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
            {"name": "size", "arg": {"as_int": 6}, "kind": 1},
        ]

    return _edited(content, PROGRAM, edit)


def _renamed(content: Content, old: str, new: str) -> Content:
    """The program with a name replaced wherever it stands."""
    text = content[PROGRAM].decode()
    return {**content, PROGRAM: text.replace(json.dumps(old), json.dumps(new)).encode()}


def node_name(content: Content, mark: Path) -> Content:
    return _renamed(content, "relu", f"relu, other = 0, {_python(mark)}; relu")


def argument_name(content: Content, mark: Path) -> Content:
    def edit(document: Any) -> None:
        signature = document["graph_module"]["module_call_graph"][0]["signature"]
        signature["forward_arg_names"] = [f"x={_python(mark)}"]

    return _edited(content, PROGRAM, edit)


def parameter_name(content: Content, mark: Path) -> Content:
    new = f'w" + str({_python(mark)}) + "'
    weights = "data/weights/model_weights_config.json"
    renamed = _renamed(content, "fc.weight", new)
    return {**renamed, weights: renamed[weights].replace(b'"fc.weight"', json.dumps(new).encode())}


def _tree(content: Content, context: Any, kind: str) -> Content:
    def edit(document: Any) -> None:
        signature = document["graph_module"]["module_call_graph"][0]["signature"]
        leaf = {"type": None, "context": None, "children_spec": []}
        tree = {"type": kind, "context": context, "children_spec": [leaf]}
        signature["out_spec"] = json.dumps([1, tree])

    return _edited(content, PROGRAM, edit)


def imported_enum(content: Content, mark: Path) -> Content:
    """Importing the module `mark.stem` creates `mark`."""
    key = {"__enum__": True, "fqn": f"{mark.stem}:Key", "name": "A"}
    return _tree(content, json.dumps([key]), "builtins.dict")


def imported_factory(content: Content, mark: Path) -> Content:
    context = {"default_factory_module": mark.stem, "default_factory_name": "Key",
               "dict_context": ["a"]}  # fmt: skip
    return _tree(content, context, "collections.defaultdict")


def older_format(content: Content, mark: Path) -> Content:
    """What PyTorch 2.7 wrote; pack it without a root."""
    return {
        "version": b"8.20",
        "serialized_exported_program.json": content[PROGRAM],
        "serialized_state_dict.pt": _saved(mark),
        "serialized_constants.pt": _saved(mark),
        "serialized_example_inputs.pt": _saved(mark),
    }
