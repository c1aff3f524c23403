# SPDX-License-Identifier: Apache-2.0
"""Bundles by content: a model is exported once, whichever build tree asks for it.

An entry KEY.emx lies beside KEY.json, which lists the files that were read and their hashes. KEY
covers the model file, the options, emx and PyTorch; a script's imports and the data it loads are
known only after it ran, so the list decides whether the entry still holds.
"""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import importlib.util
import inspect
import json
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from emx.bundle import Bundle, is_bundle
from emx.errors import EmxError
from emx.version import VERSION


def cached_export(
    path: str | os.PathLike[str],
    out: Path,
    *,
    cache_dir: Path | None,
    progress: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> tuple[Path, ...]:
    """Write the bundle of the model at `path` to `out`; return the files that were read.

    `options` are those of emx.exporter.export(). PyTorch is imported only if the cache has no valid
    entry. `out` keeps its time stamp if its content does not change.
    """
    from emx.exporter import export

    model = os.fspath(path)
    if is_bundle(Path(model)):
        _save(export(model, name=options.get("name")), out)
        return (Path(model).resolve(),)
    named = _named(model, options)
    entry = cache_dir / _key(model, named, options) if cache_dir else None
    found = _valid(entry) if entry else None
    if entry and found is not None:
        _place(entry.with_suffix(".emx"), out)
        return (*named, *found)
    with reads() as files:
        bundle = export(model, progress=progress, **options)
    others = tuple(f for f in files if f not in named) if _runs_code(model, options) else ()
    _save(bundle, out)
    if entry and entry.name == _key(model, named, options):  # no file changed meanwhile
        _store(entry, out, others)
    return (*named, *others)


def _runs_code(model: str, options: Mapping[str, Any]) -> bool:
    """True for models that may read more files than the caller named."""
    scripts = _script(model) or _script(str(options.get("calibration")))
    return bool(scripts or options.get("allow_pickle"))


def _script(model: str) -> str:
    script, colon, _ = model.rpartition(":")
    return script if colon and script.endswith(".py") else ""


def torch_version() -> str:
    """The version of PyTorch, which is not imported for it."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        raise EmxError(
            "exporting a model needs PyTorch, which is not installed",
            hint="pip install torch\nor give a bundle (.emx) that was exported elsewhere",
        ) from None


def torchao_version() -> str:
    """The version of torchao, which is not imported for it."""
    try:
        return metadata.version("torchao")
    except metadata.PackageNotFoundError:
        raise EmxError(
            "quantising a model needs torchao, which is not installed",
            hint='pip install "emx[quantize]"',
        ) from None


@contextlib.contextmanager
def reads() -> Iterator[list[Path]]:
    """Collect the files that Python opens, as far as they are the user's own.

    What belongs to Python, to installed packages, to emx and to its callers (whose sources PyTorch
    opens to show them in a stack) is left out.
    """
    opened: dict[str, None] = {}
    found: list[Path] = []
    active = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        # A hook cannot be removed, so it is switched off instead.
        if active and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            opened[os.fsdecode(arguments[0])] = None

    before = set(sys.modules)
    callers = {Path(frame.filename).resolve() for frame in inspect.stack(0)}
    sys.addaudithook(hook)
    try:
        yield found
    finally:
        active = False
    modules = [sys.modules[name] for name in set(sys.modules) - before]
    sources = sorted(str(getattr(m, "__file__", None) or "") for m in modules)
    files = {Path(_source(name)).resolve() for name in [*opened, *sources] if name}
    found += sorted(f for f in files - callers if f.is_file() and not _is_ours(f))


def _source(name: str) -> str:
    """The source of a compiled module; Python opens only the compiled one."""
    try:
        return importlib.util.source_from_cache(name) if name.endswith(".pyc") else name
    except ValueError:
        return name


def _is_ours(file: Path) -> bool:
    places = [sysconfig.get_path("stdlib"), str(Path(__file__).parents[1]), "/proc", "/sys", "/dev"]
    return any(file.is_relative_to(Path(place).resolve()) for place in places) or any(
        part in ("site-packages", "dist-packages", "__pycache__") for part in file.parts
    )


def _named(model: str, options: Mapping[str, Any]) -> tuple[Path, ...]:
    """The files that the caller named."""
    files = [model, options.get("calibration")]
    names = [_script(str(file)) or file for file in files if file]
    return tuple(Path(n).resolve() for n in (*names, options.get("example_file")) if n)


def _key(model: str, named: tuple[Path, ...], options: Mapping[str, Any]) -> str:
    """The name of an entry: everything that is known to decide the bundle before it is made."""
    by_content = ("name", "example_file", "calibration")
    sources = [model, str(options.get("calibration") or "")]
    facts = {
        "files": [_hash(f) for f in named],
        # Imports depend on where the model lies.
        "model": [*map(str, named), *(Path(s).name for s in sources)]
        if _runs_code(model, options)
        else "",
        "name": options.get("name") or named[0].stem,
        "options": {k: v for k, v in sorted(options.items()) if k not in by_content},
        "suffixes": [f.suffix for f in named],
        "emx": [VERSION, _sources()],
        "torch": torch_version(),
        "torchao": torchao_version() if options.get("quantize") else "",
        "machine": platform.machine(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()


def _sources() -> str:
    """A hash over the sources of emx that a bundle depends on."""
    folder = Path(__file__).parent
    names = ("bundle", "ir", "ops/logic", "ops/pointwise")
    files = [*sorted(folder.glob("*.py")), *(folder.parent / f"{name}.py" for name in names)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _hash(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""  # the export says what is wrong


def _valid(entry: Path) -> tuple[Path, ...] | None:
    """The files read for an entry, if none of them changed and its bundle is whole."""
    try:
        record = json.loads(entry.with_suffix(".json").read_text())
        files = [(Path(name), digest) for name, digest in record["files"]]
        bundle = record["bundle"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not bundle or _hash(entry.with_suffix(".emx")) != bundle:
        return None
    if any(_hash(file) != digest for file, digest in files):
        return None
    return tuple(file for file, _ in files)


def _store(entry: Path, bundle: Path, files: tuple[Path, ...]) -> None:
    record = {"bundle": _hash(bundle), "files": [[str(f), _hash(f)] for f in files]}
    _place(bundle, entry.with_suffix(".emx"))
    text = json.dumps(record, indent=1)
    _make(entry.with_suffix(".json"), lambda temporary: temporary.write_text(text))


def _save(bundle: Bundle, out: Path) -> None:
    _make(out, bundle.save)


def _place(file: Path, out: Path) -> None:
    _make(out, lambda temporary: shutil.copyfile(file, temporary))


def _make(out: Path, write: Callable[[Path], object]) -> None:
    """A file that `write` makes, whole or not at all; it is left alone if it has that content."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        if not (out.is_file() and filecmp.cmp(temporary, out, shallow=False)):
            temporary.replace(out)
    except OSError as error:
        raise EmxError(f"cannot write {out}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
