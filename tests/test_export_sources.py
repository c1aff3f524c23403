# SPDX-License-Identifier: Apache-2.0
"""Where models come from: scripts, bundles, the cache, with PyTorch only where it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import emx
from emx.bundle import Bundle
from emx.errors import EmxError
from emx.exporter import cached_export
from export_models import IMAGE, Net, refusal


def script(folder: Path, body: str) -> str:
    (folder / "net.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x):\n        return torch.relu(x)\n"
    )
    (folder / "build.py").write_text("import torch\nfrom net import Net\n" + textwrap.dedent(body))
    return f"{folder / 'build.py'}:make"


MAKE = """
def make():
    print("building")
    return Net().eval(), (torch.tensor([1.0, -1.0]),)
"""


def test_a_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(sys.modules), list(sys.path)
    bundle = emx.export(script(tmp_path, MAKE))
    assert bundle.name == "build"
    assert bundle.nodes[0].origin.source == "net.py:5"
    np.testing.assert_array_equal(bundle.vectors.outputs["relu"][0], [1, 0])
    assert "building" not in capsys.readouterr().out
    assert "net" not in sys.modules
    assert sys.path == before[1]


@pytest.mark.parametrize(
    ("body", "what", "at"),
    [
        ("def other(): pass", "build.py has no function make", "build.py"),
        ("def make(): return Net()", "make() of build.py returns a Net", "build.py"),
        ("def make(): return Net(), (), 3", "returns a tuple of 3", "build.py"),
        ("def make(): return 3, (torch.ones(2),)", "expected a torch.nn.Module, got int", None),
        ("def make():\n    return [][0]", "IndexError: list index out of range", "build.py:4: "),
        ("import sys\nsys.exit(3)", "build.py fails: SystemExit: 3", "build.py:4: sys.exit(3)"),
        ("import nowhere", "No module named 'nowhere'", "build.py:3: import nowhere"),
        ("def make(:", "SyntaxError: invalid syntax", "build.py:3: def make(:"),
    ],
)
def test_scripts_that_fail(body: str, what: str, at: str | None, tmp_path: Path) -> None:
    error = refusal(script(tmp_path, body))
    assert what in error.head.what
    assert at is None or at in (error.head.at or "")


def test_a_script_beside_its_virtual_environment_unloads_no_library(tmp_path: Path) -> None:
    library = tmp_path / "venv" / "site-packages" / "emx_test_library.py"
    library.parent.mkdir(parents=True)
    library.write_text("")
    body = f"import sys\nsys.path.append({str(library.parent)!r})\nimport emx_test_library"
    emx.export(script(tmp_path, body + MAKE))
    assert sys.modules.pop("emx_test_library")


def test_without_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    error = refusal(tmp_path / "net.pt2")
    assert error.head.what == "exporting a model needs PyTorch, which is not installed"
    assert "pip install torch" in (error.head.hint or "")


def test_a_missing_script(tmp_path: Path) -> None:
    assert "there is no file" in refusal(f"{tmp_path}/no.py:make").head.what


def test_a_bundle_is_a_model(tmp_path: Path) -> None:
    bundle = emx.export(Net().eval(), IMAGE, name="net")
    bundle.save(tmp_path / "net.emx")
    assert emx.export(tmp_path / "net.emx").to_bytes() == bundle.to_bytes()
    assert emx.export(tmp_path / "net.emx", name="other").name == "other"


def archive(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(Net().eval(), IMAGE), folder / "net.pt2")
    return folder / "net.pt2"


EXPORT = """
import sys, pathlib, emx
emx.export(sys.argv[1]).save(pathlib.Path(sys.argv[2]))
"""


def python(code: str, *args: str | Path, seed: str = "0") -> str:
    source = str(Path(__file__).parents[1] / "python")
    environment = {**os.environ, "PYTHONPATH": source, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_export_is_the_same_bytes_in_any_directory_under_any_hash_seed(tmp_path: Path) -> None:
    first = archive(tmp_path / "one")
    second = tmp_path / "other place" / "net.pt2"
    second.parent.mkdir()
    second.write_bytes(first.read_bytes())
    expected = emx.export(first).to_bytes()
    assert emx.export(second).to_bytes() == expected
    assert python(EXPORT, second, tmp_path / "out.emx", seed="1") == ""
    assert (tmp_path / "out.emx").read_bytes() == expected


CACHED = """
import sys, pathlib
from emx.exporter import cached_export
out, cache = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
cached_export(sys.argv[1], out, cache_dir=cache)
assert "torch" not in sys.modules
"""


def test_the_cache_needs_no_torch(tmp_path: Path) -> None:
    model, cache = archive(tmp_path), tmp_path / "cache"
    files = cached_export(model, tmp_path / "a.emx", cache_dir=cache)
    assert files == (model.resolve(),)
    moved = tmp_path / "moved" / "net.pt2"
    moved.parent.mkdir()
    model.rename(moved)
    python(CACHED, moved, tmp_path / "b.emx", cache)
    assert (tmp_path / "b.emx").read_bytes() == (tmp_path / "a.emx").read_bytes()
    python(CACHED, tmp_path / "b.emx", tmp_path / "c.emx", cache)  # a bundle needs none either
    assert (tmp_path / "c.emx").read_bytes() == (tmp_path / "a.emx").read_bytes()


def test_the_cache_notices_every_change(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text(json.dumps([2.0, -2.0]))
    model = script(
        tmp_path,
        """
        import json, pathlib
        def make():
            data = json.loads(pathlib.Path(__file__).with_name("data.json").read_text())
            return Net().eval(), (torch.tensor(data),)
        """,
    )
    out, cache = tmp_path / "a.emx", tmp_path / "cache"

    def run(**options: Any) -> tuple[bool, tuple[Path, ...]]:
        entries = {f: f.stat().st_mtime_ns for f in cache.glob("*.emx")}
        files = cached_export(model, out, cache_dir=cache, **options)
        return entries != {f: f.stat().st_mtime_ns for f in cache.glob("*.emx")}, files

    first, files = run()
    assert first
    assert files[0] == tmp_path / "build.py"
    assert set(files) == {tmp_path / name for name in ("build.py", "net.py", "data.json")}
    stamp = out.stat().st_mtime_ns
    assert run() == (False, files)
    assert out.stat().st_mtime_ns == stamp
    assert run(vectors=2)[0]
    assert run(name="other")[0]
    assert run(vectors=2) == (False, files)
    data.write_text(json.dumps([3.0, -2.0]))
    assert run()[0]
    assert Bundle.load(out).vectors.inputs["x"][0][0] == 3
    net = tmp_path / "net.py"
    net.write_text(net.read_text().replace("relu", "sigmoid"))
    assert run()[0]
    assert [n.target for n in Bundle.load(out).nodes] == ["aten.sigmoid.default"]


def test_a_damaged_cache_entry_is_made_again(tmp_path: Path) -> None:
    model, cache = archive(tmp_path), tmp_path / "cache"
    cached_export(model, tmp_path / "a.emx", cache_dir=cache)
    expected = (tmp_path / "a.emx").read_bytes()
    for entry in cache.iterdir():
        entry.write_bytes(entry.read_bytes()[:-5])
        cached_export(model, tmp_path / "a.emx", cache_dir=cache)
        assert (tmp_path / "a.emx").read_bytes() == expected


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"")
    with pytest.raises(EmxError, match="is empty"):
        cached_export(tmp_path / "net.pt2", tmp_path / "a.emx", cache_dir=tmp_path / "cache")
    assert [f.name for f in tmp_path.iterdir()] == ["net.pt2"]


def test_importing_emx_export_imports_no_torch() -> None:
    python("import sys, emx.exporter, emx; assert not {'torch', 'jinja2'} & set(sys.modules)")
