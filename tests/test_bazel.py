# SPDX-License-Identifier: Apache-2.0
"""The example workspace of Bazel in copies of the repository, without a network."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import emx
from emx.build import board_names, find_machine
from emx.paths import root
from golden_models import GOLDEN

ROOT = root()
PARTS = (".bazelignore", "BUILD.bazel", "MODULE.bazel", "VERSION", "WORKSPACE")
PARTS += ("bazel", "boards", "examples/bazel", "python", "runtime")
BAZEL = shutil.which("bazel") or ""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("bazel"),  # one process, or it would start servers for each
    pytest.mark.skipif(not BAZEL, reason="bazel is not installed: apt install bazel-bootstrap"),
]

# Models that the example does not have: a bundle with options, one that cannot be exported, and one
# that another tool exports.
MORE = """
load("@emx//bazel:emx.bzl", "emx_model", "emx_model_test")
emx_model(
    name = "residual",
    arena = "caller",
    io_arena = True,
    model = "residual.emx",
    prefix = "res_1",
)
emx_model_test(name = "residual_test", model = ":residual", rtol = 1e-5)
emx_model_test(name = "strict_test", model = ":residual", rtol = 0, atol = 0)
emx_model(name = "spectrum", model = "spectrum.py", factory = "make")
emx_model(name = "bound", model = "residual.emx", weights = "external")
emx_model_test(name = "bound_test", model = ":bound")
emx_model_test(name = "bound_layers_test", layers = True, model = ":bound")
emx_model(name = "large", model = "dense.emx", max_weights_bytes = 100)
emx_model(
    name = "integers",
    calibration = "integers.py",
    calibration_function = "batches",
    factory = "make",
    keep_float = ["last"],
    model = "integers.py",
    optimize = "size",
    quantize = "int8",
)
emx_model_test(name = "integers_test", model = ":integers")
py_binary(
    name = "my_emx",
    srcs = ["@emx//bazel:run_emx.py"],
    main = "run_emx.py",
    data = ["@emx//:compiler"],
)
emx_model(name = "dense-2", model = "dense.emx", tool = ":my_emx")
emx_model_test(name = "dense_test", model = ":dense-2")
"""
SPECTRUM = """
import torch

class Spectrum(torch.nn.Module):
    def forward(self, x):
        return torch.fft.rfft(x).abs()

def make():
    return Spectrum(), (torch.zeros(1, 8),)
"""

NUMBERS = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))

def make():
    return Net().eval(), (torch.zeros(1, 8),)

def batches():
    torch.manual_seed(1)
    return torch.randn(16, 1, 8).unbind()
"""


@dataclass
class Workspace:
    """A copy of the repository with a Bazel server of its own; its results go into `cache`."""

    emx: Path
    servers: Path
    cache: Path
    python: str = sys.executable

    @property
    def path(self) -> Path:
        return self.emx / "examples" / "bazel"

    def output(self, name: str) -> Path:
        return self.path / "bazel-bin" / name

    def run(self, command: str, *arguments: str, ok: bool = True) -> str:
        """Everything that Bazel printed."""
        done = subprocess.run(
            [
                BAZEL, "--nohome_rc", f"--output_user_root={self.servers}",
                "--max_idle_secs=60", "--host_jvm_args=-Xmx1g",
                "--host_jvm_args=-XX:TieredStopAtLevel=1",  # quick to start
                command, *arguments,
            ],
            cwd=self.path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert (done.returncode == 0) == ok, done.stdout
        return done.stdout

    def build(self, *arguments: str, command: str = "build", ok: bool = True) -> str:
        return self.run(
            command, "--experimental_repository_disable_download",
            f"--@emx//bazel:python={self.python}", f"--disk_cache={self.cache}",
            f"--execution_log_json_file={self.emx}/actions.json", *arguments, ok=ok,
        )  # fmt: skip

    def actions(self) -> Counter[tuple[str, bool]]:
        """Of the last build: how many of a kind, and whether the cache had them."""
        text, at = (self.emx / "actions.json").read_text(), 0
        found: Counter[tuple[str, bool]] = Counter()
        while at < len(text):
            action, at = json.JSONDecoder().raw_decode(text, at)
            found[action["mnemonic"], "cache hit" in action["runner"]] += 1
            at += len(text[at:]) - len(text[at:].lstrip())
        return found

    def executed(self) -> dict[str, int]:
        """Kinds of actions that the last build had to execute."""
        return {kind: n for (kind, cached), n in self.actions().items() if not cached}


def copy(to: Path, cache: Path) -> Workspace:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PARTS],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    return Workspace(to, to.parent / "servers", cache)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bazel-cache")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Workspace]:
    """Where the tests work, with a package of models in more/."""
    made = copy(tmp_path_factory.mktemp("bazel") / "emx", cache)
    more = made.path / "more"
    more.mkdir()
    (more / "BUILD.bazel").write_text(MORE)
    (more / "spectrum.py").write_text(SPECTRUM)
    (more / "integers.py").write_text(NUMBERS)
    for name in ("residual.emx", "dense.emx"):
        shutil.copy(GOLDEN / name, more)
    yield made
    made.run("shutdown")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Workspace]:
    """Another machine: nothing in common with the other but the cache of actions."""
    made = copy(tmp_path_factory.mktemp("another-machine") / "a" / "clone", cache)
    yield made
    made.run("shutdown")


def passed(text: str) -> int:
    assert "FAILED" not in text, text
    return len(re.findall(r"^//\S+ +(?:\(cached\) )?PASSED", text, re.MULTILINE))


def elf_machine(program: Path) -> int:
    """Of the ELF header."""
    return int.from_bytes(program.read_bytes()[18:20], "little")


def test_example_on_the_host(workspace: Workspace) -> None:
    """Model, program and three tests; a second build does nothing."""
    assert passed(workspace.build("//:all", command="test")) == 3
    assert workspace.executed()["EmxExport"] == 1
    assert (
        json.loads(workspace.output("gesture_code/gesture.json").read_text())["target"] != "generic"
    )
    assert passed(workspace.build("//:all", command="test")) == 3
    assert workspace.executed() == {}


def test_example_on_a_board(workspace: Workspace) -> None:
    """The same targets; the tests run in QEMU."""
    assert passed(workspace.build("//:all", "--config=m4", command="test")) == 3
    known = json.loads(workspace.output("gesture_code/gesture.json").read_text())
    assert known["target"] == "cortex-m4"
    assert elf_machine(workspace.output("firmware")) == 40  # Arm


@pytest.mark.parametrize("board", ["microbit", "rv32-virt", "aarch64-linux"])
def test_boards_of_other_kinds(workspace: Workspace, board: str) -> None:
    """Without an FPU, with another compiler, with an operating system."""
    machine = find_machine(board)
    if not shutil.which(machine.compiler):
        pytest.skip(f"{machine.compiler} is not installed: apt install {machine.packages[0]}")
    platform = f"--platforms=@emx_boards//:{board}"
    assert passed(workspace.build("//more:residual_test", platform, command="test")) == 1
    known = json.loads(workspace.output("more/residual_code/res_1.json").read_text())
    assert known["target"] == machine.target


def test_every_board_is_a_platform(workspace: Workspace) -> None:
    for board in board_names():
        workspace.build("//more:residual_test", f"--platforms=@emx_boards//:{board}", "--nobuild")
    text = workspace.build("//more:residual_test", "--platforms=@emx_boards//:none", ok=False)
    assert "no such target '@emx_boards//:none'" in text


def test_files_are_those_of_the_command_line(workspace: Workspace, tmp_path: Path) -> None:
    workspace.build("//:gesture", "--config=m4")
    bundle = emx.Bundle.load(workspace.output("gesture_bundle.emx"))
    files = emx.compile(bundle, target="cortex-m4", out_dir=tmp_path).files
    assert len(files) == 5
    for name, data in files.items():
        assert workspace.output(f"gesture_code/{name}").read_bytes() == data, name


def test_another_machine_executes_nothing(workspace: Workspace, elsewhere: Workspace) -> None:
    """What one has built, the other takes from the cache: no export, no code, no compiler."""
    workspace.build("//:all", "--config=m4")
    elsewhere.build("//:all", "--config=m4")
    assert elsewhere.executed() == {}
    kinds = {kind for kind, _ in elsewhere.actions()}
    assert kinds >= {"EmxExport", "EmxMacros", "EmxCompile", "CppCompile", "CppLink"}


def test_another_machine_would_make_the_same(workspace: Workspace, elsewhere: Workspace) -> None:
    """So whose results the cache has does not matter: the bytes do not depend on the directory."""
    workspace.build("//:firmware", "--config=m4")
    elsewhere.run("clean")
    elsewhere.build("//:firmware", "--config=m4", "--disk_cache=")
    assert elsewhere.executed()["EmxExport"] == 1
    for name in (
        "gesture_bundle.emx",
        "gesture_code/gesture.c",
        "libgesture_library.a",
        "firmware",
    ):
        digests = {
            hashlib.sha256(w.output(name).read_bytes()).hexdigest() for w in (workspace, elsewhere)
        }
        assert len(digests) == 1, name


def test_what_a_change_executes(workspace: Workspace) -> None:
    workspace.build("//:all")
    program, script = workspace.path / "main.c", workspace.path / "gesture.py"
    program.write_text(program.read_text().replace("gesture %d", "number %d"))
    workspace.build("//:all")
    assert workspace.executed() == {"CppCompile": 1, "CppLink": 1}
    script.write_text(script.read_text() + "\n# The same network.\n")
    workspace.build("//:all")
    assert workspace.executed() == {"EmxExport": 1}


def test_error_is_shown(workspace: Workspace) -> None:
    text = workspace.build("//more:spectrum", ok=False)
    assert "emx: error: data type complex64 is not supported" in text
    assert "at    spectrum.py:6: return torch.fft.rfft(x).abs()" in text
    assert "Traceback (most recent call last)" not in text
    assert "100" in workspace.build("//more:large", ok=False)


def test_bundle_needs_no_torch(workspace: Workspace, tmp_path: Path) -> None:
    """Options reach the generated code, and the tolerance its test."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    workspace.python = str(python)
    try:
        text = workspace.build(
            "//more:residual_test", "//more:strict_test", command="test", ok=False
        )
        assert "torch was imported" in workspace.build("//:gesture", ok=False)
    finally:
        workspace.python = sys.executable
    assert re.search(r"//more:residual_test +PASSED", text)
    assert re.search(r"//more:strict_test +FAILED", text)
    header = workspace.output("more/residual_code/res_1.h").read_text()
    assert "res_1_run_in(void *arena);" in header


def test_weights_that_are_bound(workspace: Workspace) -> None:
    """The library has none; a test brings them, and a program gets them from the blob."""
    tests = ("//more:bound_test", "//more:bound_layers_test", "//more:bound_weights.bin")
    assert passed(workspace.build(*tests, command="test")) == 2
    assert workspace.output("more/bound_code/bound_weights.bin").stat().st_size > 2000
    assert not workspace.output("more/bound_code/bound_weights.c").exists()


def test_a_quantised_model(workspace: Workspace) -> None:
    pytest.importorskip("torchao")
    assert passed(workspace.build("//more:integers_test", command="test")) == 1
    tensors = emx.Bundle.load(workspace.output("more/integers_bundle.emx")).tensors
    assert (tensors["first.weight"].dtype, tensors["last.weight"].dtype) == ("int8", "float32")


def test_another_tool(workspace: Workspace, tmp_path: Path) -> None:
    """A py_binary that runs emx, as it would with a Python of Bazel's own."""
    path = f"--action_env=PATH={Path(sys.executable).parent}:/usr/bin:/bin"
    nothing = f"--@emx//bazel:python={tmp_path}/none"
    assert (
        passed(
            workspace.build("//more:dense-2", "//more:dense_test", path, nothing, command="test")
        )
        == 1
    )
