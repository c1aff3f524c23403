# SPDX-License-Identifier: Apache-2.0
"""Files that are no model, damaged or hostile: the right message, and no code runs."""

from __future__ import annotations

import importlib
import io
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import emx
import hostile
from emx.errors import EmxError
from emx.exporter import archive, program_json
from emx.exporter.torchtools import calm


@pytest.fixture(scope="module")
def good() -> bytes:
    return hostile.archive()


def refusal(path: Path, data: bytes, **options: Any) -> EmxError:
    path.write_bytes(data)
    with pytest.raises(EmxError) as caught:
        emx.export(path, **options)
    assert path.name in str(caught.value)
    return caught.value


def test_a_harmless_archive_passes_under_any_suffix(tmp_path: Path, good: bytes) -> None:
    for name in ("net.pt2", "net.pt", "net"):
        (tmp_path / name).write_bytes(good)
        assert emx.export(tmp_path / name, vectors=1).name == "net"


# route -> (what the message says, whether PyTorch 2.13 itself runs the payload)
ROUTES = {
    "sample_inputs": ("its sample inputs hold more than tensors", True),
    "pickled_weight": ("the tensor 'fc.weight' is a pickle", True),
    "pickled_constant": ("is a pickle", True),
    "opaque_object": ("custom objects, which are pickles", True),
    "old_weights": ("older than the present format", True),
    "old_constants": ("older than the present format", True),
    "expression": ("is more than arithmetic on extents", True),
    "guards": (None, True),
    "any_function": ("the operator 'torch.os.open' is not one of PyTorch's", False),
    "file_operator": ("the operator 'torch.ops.aten.from_file.default' is not", True),
    "node_name": ('a name is "relu, other = 0, open(', False),
    "argument_name": ('a name is "x=open(', False),
    "parameter_name": ("name is 'w\" + str(", True),
    "imported_enum": ("a key is {'__enum__'", True),
    "imported_factory": ("in a collections.defaultdict", True),
    "older_format": ("older than the present format", True),
}


@pytest.mark.parametrize("route", ROUTES)
def test_no_code_of_a_hostile_archive_runs(
    route: str, tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    message, torch_runs_it = ROUTES[route]
    mark = tmp_path / f"mark_of_{route}"
    (tmp_path / f"{mark.stem}.py").write_text(
        f"import enum\nopen({str(mark)!r}, 'w')\nclass Key(enum.Enum):\n    A = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    content = getattr(hostile, route)(hostile.unpack(good), mark)
    data = hostile.pack(content, root="" if route == "older_format" else "net/")

    if message is None:  # guards are dropped, the model stays usable
        (tmp_path / "net.pt2").write_bytes(data)
        emx.export(tmp_path / "net.pt2")
    else:
        error = refusal(tmp_path / "net.pt2", data)
        assert message in error.head.what
        assert error.head.hint
    assert not mark.exists()

    run_with_torch(data)
    assert mark.exists() == torch_runs_it, "the file is not hostile: this test shows nothing"


def run_with_torch(data: bytes) -> None:
    with calm():
        importlib.invalidate_caches()
        try:
            torch.export.load(io.BytesIO(data)).module()(torch.ones(2, 4))
        except Exception:
            return


def test_a_damaged_member_is_named(tmp_path: Path, good: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(good)) as z:
        info = next(i for i in z.infolist() if i.filename.endswith("weights/weight_0"))
        name_length, extra_length = struct.unpack_from("<HH", good, info.header_offset + 26)
    at = info.header_offset + 30 + name_length + extra_length
    flipped = good[: at + 5] + bytes([good[at + 5] ^ 4]) + good[at + 6 :]
    error = refusal(tmp_path / "net.pt2", flipped)
    assert "is damaged" in error.head.what
    assert "weight_0" in error.head.what
    with calm():
        torch.export.load(io.BytesIO(flipped))  # PyTorch does not notice


def content(checked: archive.Checked) -> tuple[bytes, bytes]:
    return checked.archive.read(), checked.sample_inputs


def test_any_flipped_bit_is_an_error_or_changes_nothing(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "net.pt2"
    whole = content(archive.check(good, path))
    dice = random.Random(0)
    for _ in range(400):
        at = dice.randrange(len(good))
        flipped = good[:at] + bytes([good[at] ^ 1 << dice.randrange(8)]) + good[at + 1 :]
        try:
            assert content(archive.check(flipped, path)) == whole
        except EmxError as error:
            assert path.name in error.head.what


@pytest.mark.parametrize("part", [0.999, 0.5, 0.01])
def test_a_truncated_archive(part: float, tmp_path: Path, good: bytes) -> None:
    error = refusal(tmp_path / "net.pt2", good[: int(len(good) * part)])
    assert "is cut short" in error.head.what


def test_an_empty_file(tmp_path: Path) -> None:
    assert "is empty" in refusal(tmp_path / "net.pt2", b"").head.what


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(EmxError, match="there is no file"):
        emx.export(tmp_path / "net.pt2")
    with pytest.raises(EmxError, match="is a directory"):
        emx.export(tmp_path)


def test_text_scripts_and_other_binaries(tmp_path: Path) -> None:
    assert "is a text file" in refusal(tmp_path / "net.pt", b"import torch\n").head.what
    script = refusal(tmp_path / "net.py", b"import torch\n")
    assert "is a Python script" in script.head.what
    assert "net.py:FUNCTION" in (script.head.hint or "")
    assert "is not a PyTorch model" in refusal(tmp_path / "a.onnx", b"\x08\x07\x12\xff").head.what
    out = io.BytesIO()
    np.savez(out, x=np.zeros(3))
    assert "but not of a PyTorch model" in refusal(tmp_path / "a.npz", out.getvalue()).head.what


def saved(value: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_module_shows_the_two_lines(zipped: bool, tmp_path: Path) -> None:
    data = saved(hostile.Net(), _use_new_zipfile_serialization=zipped)
    error = refusal(tmp_path / "net.pt", data)
    assert "is a pickled Python object (hostile.Net)" in error.head.what
    assert "torch.export.export(" in (error.head.hint or "")
    assert "torch.export.save(" in (error.head.hint or "")
    assert "--allow-pickle" in (error.head.hint or "")


def test_a_pickled_module_never_runs_unless_allowed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for data in (saved(hostile.Payload(mark)), pickle.dumps(hostile.Payload(mark))):
        assert "is a pickled Python object" in refusal(tmp_path / "net.pt", data).head.what
        assert not mark.exists()
    refusal(tmp_path / "net.pt", saved(hostile.Payload(mark)), allow_pickle=True)
    assert mark.exists()


def test_a_pickled_module_can_be_allowed(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(saved(hostile.Net().eval()))
    bundle = emx.export(tmp_path / "net.pt", inputs=["x=f32[2x4]"], allow_pickle=True)
    assert [str(t) for _, t in bundle.inputs] == ["f32[2x4]"]
    with pytest.raises(EmxError, match="needs example inputs") as caught:
        emx.export(tmp_path / "net.pt", allow_pickle=True)
    assert "--inputs" in (caught.value.head.hint or "")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict(zipped: bool, tmp_path: Path) -> None:
    data = saved(hostile.Net().state_dict(), _use_new_zipfile_serialization=zipped)
    error = refusal(tmp_path / "net.pt", data)
    assert "holds tensors (a state_dict), but no model" in error.head.what
    assert "load_state_dict" in (error.head.hint or "")


def test_a_torchscript_archive(tmp_path: Path) -> None:
    with calm():
        torch.jit.trace(hostile.Net().eval(), torch.ones(2, 4)).save(tmp_path / "net.pt")
    error = refusal(tmp_path / "net.pt", (tmp_path / "net.pt").read_bytes())
    assert "is a TorchScript archive" in error.head.what


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("archive_version", b"1", "another format: archive_version is 1"),
        ("archive_format", b"zip", "another format: archive_format is zip"),
        ("byteorder", b"big", "big-endian"),
        ("data/aotinductor/model/x.so", b"\x7fELF", "it holds compiled code"),
        ("models/other.json", b"{}", "more than one model"),
        ("data/constants/custom_obj_0", b"", "custom objects"),
        ("anything", b"", "a part that PyTorch does not write: 'anything'"),
        ("models/model.json", b"{", "a part is not what PyTorch writes"),
        ("models/model.json", b"[" * 100000, "a part is not what PyTorch writes"),
        ("data/weights/model_weights_config.json", b"[]", "a part is not what PyTorch writes"),
        ("models/model.json", None, "a part is missing"),
    ],
)
def test_members_that_do_not_belong(
    member: str, value: bytes | None, message: str, tmp_path: Path, good: bytes
) -> None:
    content: dict[str, Any] = {**hostile.unpack(good), member: value}
    data = hostile.pack({k: v for k, v in content.items() if v is not None})
    error = refusal(tmp_path / "net.pt2", data)
    assert message in error.head.what
    assert "export the model again" in (error.head.hint or "")


def test_two_members_of_one_name_and_compression(tmp_path: Path, good: bytes) -> None:
    out = io.BytesIO(good)
    with zipfile.ZipFile(out, "a") as z, pytest.warns(UserWarning, match="Duplicate"):
        z.writestr(z.namelist()[0], b"other")
    assert "same name" in refusal(tmp_path / "net.pt2", out.getvalue()).head.what
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("net/archive_format", b"pt2")
        z.writestr("net/data/weights/weight_0", bytes(10_000_000))
    assert "compressed" in refusal(tmp_path / "net.pt2", bomb.getvalue()).head.what


@pytest.mark.parametrize(
    "text",
    ["s0", "Symbol('s77', positive=True, integer=True)", "2*s0 + 1", "s0 // 2 <= Max(s1, 3)",
     "Mod(Symbol('s0', integer=True), Integer(-3))", "FloorDiv(s0, 4) % 3 == 0",
     "Not(Eq(s0, 1))"],
)  # fmt: skip
def test_expressions_that_pass(text: str) -> None:
    assert program_json.clean(program(text))["e"] == {"expr_str": text}


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "s0.__class__", "().__class__", "'a'", "Symbol(__import__('os'))",
     "Symbol('s0', positive=exit())", "Symbol('__class__')", "Symbol('s0', **{})", "lambda: 0",
     "[s0]", "s0[0]", "exit()", "eval(s0)", "Max(*s0)", "(s0 := 1)", "s0 if 1 else 2", "f''",
     "", "s0;s1", "s0\nexit()", "__s0", "Integer('7')", "9**9**9", "x.y", "{}", "b''",
     "S('1')", "Max(exit(), 1)", "s0 + exit()", "(yield)", "1j"],
)  # fmt: skip
def test_expressions_that_do_not(text: str) -> None:
    with pytest.raises(program_json.Refused, match="the expression"):
        program_json.clean(program(text))


def program(expression: str) -> dict[str, Any]:
    return {"schema_version": {"major": 8}, "e": {"expr_str": expression}}
