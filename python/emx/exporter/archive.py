# SPDX-License-Identifier: Apache-2.0
"""What a model file is, and whether an archive of torch.export may be given to PyTorch.

torch.export.load runs code that an archive holds (pickles, expressions, names that end up in
generated Python) and does not notice a flipped bit. So a file is read once, every member is
checked here, without PyTorch, and PyTorch gets a new archive made of what passed: both readers
cannot disagree on what is in it.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, cast

from emx.errors import EmxError
from emx.exporter import program_json

EXPORT_LINES = (
    "export it where its class is known:\n"
    "  program = torch.export.export(model.eval(), (example_input,))\n"
    '  torch.export.save(program, "model.pt2")'
)
AGAIN = "copy or export the model again"
_CHANGED = "it was not written by torch.export.save, or was changed later; export the model again"

_FORMAT, _VERSION = b"pt2", b"0"
_PROGRAM = "models/model.json"
_SAMPLES = "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/model_weights_config.json": ("data/weights/", re.compile(r"weight_\d+")),
    "data/constants/model_constants_config.json": ("data/constants/", re.compile(r"tensor_\d+")),
}
_PARTS = ("archive_format", "archive_version", "byteorder", _PROGRAM, _SAMPLES, *_CONFIGS)
_PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"
    r"|\.format_version|\.storage_alignment|data/weights/weight_\d+|data/constants/tensor_\d+"
)
_IGNORED = re.compile(r"extra/.*")
_REFUSED = [
    (r"data/(weights|constants)/model\.pt", "it is older than the present format of PyTorch"),
    (r"data/constants/(custom|opaque)_obj_.*", "it holds custom objects, which are pickles"),
    (r"data/(aotinductor|executorch|mtia)/.*", "it holds compiled code"),
    (r"models/.*", "it holds more than one model"),
]


class Kind(Enum):
    EXPORTED = "an archive of torch.export.save"
    PICKLED = "an object saved by torch.save"


@dataclass(frozen=True)
class Checked:
    """An archive without sample inputs that is safe to load, and the sample inputs: a pickle that
    only torch.load(weights_only=True) may touch."""

    archive: BinaryIO
    sample_inputs: bytes


def read(path: Path) -> bytes:
    """The content of a model file."""
    if path.is_dir():
        raise EmxError(f"{path} is a directory", hint="give the model file in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise EmxError(f"there is no file {path}") from None
    except OSError as error:
        raise EmxError(f"cannot read {path}: {error.strerror}") from None
    if not data:
        raise EmxError(f"{path.name} is empty", at=str(path), hint=AGAIN)
    return data


def kind_of(data: bytes, path: Path) -> Kind:
    """What a file is, by its content; a file that is no model is an EmxError that says what."""
    if data.startswith(b"PK"):
        with _opened(data, path) as z:
            return _kind_of_zip(z.namelist(), path)
    if data.startswith(b"\x80"):
        return Kind.PICKLED
    if _is_text(data):
        is_script = path.suffix == ".py"
        raise EmxError(
            f"{path.name} is a {'Python script' if is_script else 'text file'}, not a model",
            at=str(path),
            hint=f"name the function in it that returns (module, example_inputs): "
            f"{path.name}:FUNCTION"
            if is_script
            else EXPORT_LINES,
        )
    raise EmxError(f"{path.name} is not a PyTorch model", at=str(path), hint=EXPORT_LINES)


def _kind_of_zip(names: list[str], path: Path) -> Kind:
    inner = [name.partition("/")[2] for name in names]
    if "archive_format" in inner:
        return Kind.EXPORTED
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise EmxError(
            f"{path.name} is a TorchScript archive", at=str(path),
            hint="TorchScript cannot be exported; take the nn.Module it was made from and\n"
            + EXPORT_LINES,
        )  # fmt: skip
    if "data.pkl" in inner:
        return Kind.PICKLED
    if "serialized_exported_program.json" in names:
        raise refuse(path, "", "it is older than the present format of PyTorch")
    raise EmxError(
        f"{path.name} is a zip archive, but not of a PyTorch model",
        at=str(path),
        hint=EXPORT_LINES,
    )


@contextlib.contextmanager
def _opened(data: bytes, path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive; whatever zipfile finds wrong in it is an EmxError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            yield z
    except EmxError:
        raise
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError) as error:
        # The last 22 bytes are the end of PyTorch's zip archives; one of them may be damaged.
        end = sum(a == b for a, b in zip(data[-22:], b"PK\x05\x06", strict=False))
        what = f"is damaged: {error}" if end >= 3 else "is cut short: its end is missing"
        raise EmxError(f"{path.name} {what}", at=str(path), hint=AGAIN) from None


def check(data: bytes, path: Path) -> Checked:
    """Check every member of an archive of torch.export.save; see the module's docstring."""
    with _opened(data, path) as z:
        members = _without_root(_members(z, len(data), path), path)
        _check_names(members, path)
        content = {name: z.read(members[name]) for name in _PARTS if name in members}
        _check_format(content, path)
        parts = {name: _config(content[name], name, members, path) for name in _CONFIGS}
        parts[_PROGRAM] = _json(content[_PROGRAM], _PROGRAM, path, program_json.clean)
        if not content[_SAMPLES].startswith(b"PK"):
            raise refuse(path, _SAMPLES, "its sample inputs are in an old format")
        parts[_SAMPLES] = b""
        kept = (name for name in members if not _IGNORED.fullmatch(name))
        archive = _pack((n, parts[n] if n in parts else z.read(members[n])) for n in kept)
    return Checked(archive, content[_SAMPLES])


def member(data: bytes, ending: str, path: Path) -> bytes:
    """The member of a zip archive whose name ends so."""
    with _opened(data, path) as z:
        infos = _members(z, len(data), path)
        return z.read(next(info for name, info in infos.items() if name.endswith(ending)))


def _members(z: zipfile.ZipFile, size: int, path: Path) -> dict[str, zipfile.ZipInfo]:
    infos = z.infolist()
    if len({i.filename for i in infos}) != len(infos):
        raise refuse(path, "", "two of its members have the same name")
    if sum(i.file_size for i in infos) > size:
        raise refuse(path, "", "its members are compressed")
    return {i.filename: i for i in infos}


def _without_root(members: Mapping[str, zipfile.ZipInfo], path: Path) -> dict[str, zipfile.ZipInfo]:
    """Members by their names below the directory that all are in."""
    if len({name.partition("/")[0] for name in members}) != 1:
        raise refuse(path, "", "its members are not in one directory")
    return {name.partition("/")[2]: info for name, info in members.items()}


def _check_names(names: Iterable[str], path: Path) -> None:
    for name in names:
        known = _PLAIN.fullmatch(name) or _IGNORED.fullmatch(name) or name in _CONFIGS
        if not known and name not in (_PROGRAM, _SAMPLES):
            raise refuse(path, name, _why_refused(name))


def _check_format(content: Mapping[str, bytes], path: Path) -> None:
    for name, value in (("archive_format", _FORMAT), ("archive_version", _VERSION)):
        if content.get(name) != value:
            what = f"{name} is {content.get(name, b'missing')[:20].decode(errors='replace')}"
            raise refuse(path, name, f"it is of another format: {what}")
    if content.get("byteorder", b"little") != b"little":
        raise refuse(path, "byteorder", "its tensors are big-endian")
    missing = [name for name in (_PROGRAM, _SAMPLES, *_CONFIGS) if name not in content]
    if missing:
        raise refuse(path, missing[0], "a part is missing")


def _config(data: bytes, name: str, members: Container[str], path: Path) -> bytes:
    """A table of tensors that are raw bytes, each in a member of its own."""
    folder, pattern = _CONFIGS[name]

    def clean(table: Any) -> Any:
        for key, entry in table["config"].items():
            if entry["use_pickle"] is not False:
                raise program_json.Refused(f"the tensor {key[:80]!r} is a pickle")
            file = entry["path_name"]
            if not pattern.fullmatch(file) or folder + file not in members:
                raise program_json.Refused(f"the tensor {key[:80]!r} lies in {file[:80]!r}")
        return {"config": program_json.clean_table(table["config"])}

    return _json(data, name, path, clean)


def _json(data: bytes, name: str, path: Path, clean: Any) -> bytes:
    try:
        return json.dumps(clean(json.loads(data))).encode()
    except program_json.Refused as error:
        raise refuse(path, name, str(error), error.hint) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise refuse(path, name, "a part is not what PyTorch writes") from None


def _pack(members: Iterable[tuple[str, bytes]]) -> BinaryIO:
    """In a file: the tensors are in memory once, when PyTorch has read them."""
    out = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
        for name, data in members:
            z.writestr(zipfile.ZipInfo(f"model/{name}", (1980, 1, 1, 0, 0, 0)), data)
    out.seek(0)
    return out


def _why_refused(name: str) -> str:
    reasons = [why for pattern, why in _REFUSED if re.fullmatch(pattern, name)]
    return reasons[0] if reasons else f"it has a part that PyTorch does not write: {name[:80]!r}"


def refuse(path: Path, member: str, what: str, hint: str | None = None) -> EmxError:
    at = f"{path} ({member})" if member else str(path)
    return EmxError(f"{path.name} is refused: {what}", at=at, hint=hint or _CHANGED)


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data[:4096].decode()
    except UnicodeDecodeError as error:
        return error.start > 4090 and len(data) > 4096
