# SPDX-License-Identifier: Apache-2.0
"""Models that are exported while configuring: scripts and archives of PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cmake_project import FIVE_LINES, PRINTED, Project, log_python, run, worked

from emx.bundle import Bundle

SCRIPT = """
import torch
from weights import WEIGHT

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)
        with torch.no_grad():
            self.fc.weight.copy_(WEIGHT * torch.eye(4))
            self.fc.bias.zero_()
        self.fc.requires_grad_(False)

    def forward(self, x):
        return {"y": torch.relu(self.fc(x))}

def make():
    return Net().eval(), (torch.zeros(1, 4),)

if __name__ == "__main__":
    net, inputs = make()
    torch.export.save(torch.export.export(net, inputs), "net.pt2")
"""
MODEL = FIVE_LINES.replace("net.emx", "MODEL net.py:make VECTORS 2 SEED 3")


@pytest.fixture
def scripted(project: Project) -> Project:
    project.write("net.py", SCRIPT)
    project.write("weights.py", "WEIGHT = -1.0\n")
    (project.path / "net.emx").unlink()
    return project


def exported(text: str) -> bool:
    return "emx: exporting" in text


def bundle_of(project: Project, tree: str = "build") -> Path:
    return project.build_dir(tree) / "emx/net/configure/net.emx"


def test_script(scripted: Project) -> None:
    """A script is exported once; its own change and that of a module beside it are noticed by the
    build alone; a second tree takes the bundle out of the cache, without PyTorch."""
    scripted.cmakelists(MODEL)
    assert exported(scripted.configure().ok().text)
    scripted.build().ok()
    assert scripted.run(scripted.build_dir() / "fw").ok().text.strip() == PRINTED
    assert scripted.passed() == 1
    assert Bundle.load(bundle_of(scripted)).vectors.count == 2
    assert worked(scripted.build().ok().text) == []

    poison = scripted.path / "poison/torch/__init__.py"
    scripted.write(str(poison), "raise SystemExit('torch was imported')\n")
    scripted.environment["PYTHONPATH"] = str(poison.parents[1])
    assert exported(scripted.configure(tree="second").ok().text)
    assert bundle_of(scripted, "second").read_bytes() == bundle_of(scripted).read_bytes()

    scripted.environment["PYTHONPATH"] = None
    scripted.write("weights.py", "WEIGHT = -2.0\n")
    assert "(weights.py changed)" in scripted.build().ok().text
    assert scripted.run(scripted.build_dir() / "fw").ok().text.strip() == "y = 0.0 4.0 0.0 8.0"
    assert scripted.passed() == 1


def test_depends(scripted: Project) -> None:
    """DEPENDS names what emx cannot see the script read; the cache does not stand in the way."""
    note = scripted.write("note.txt", "-1")
    reading = "subprocess.check_output(['cat', __file__.replace('weights.py', 'note.txt')])"
    scripted.write("weights.py", f"import subprocess\nWEIGHT = float({reading})\n")
    scripted.cmakelists(MODEL.replace("SEED 3", "SEED 3 DEPENDS note.txt"))
    for weight, printed in (("-1", PRINTED), ("-2", "y = 0.0 4.0 0.0 8.0")):
        note.write_text(weight)
        scripted.configure().ok()
        scripted.build().ok()
        assert scripted.run(scripted.build_dir() / "fw").ok().text.strip() == printed


def test_archive(scripted: Project) -> None:
    """A .pt2 is exported when its content changes, not when it is written again as it was; a lost
    bundle comes back; a damaged archive stops the build with emx's page."""
    run(sys.executable, "net.py", cwd=scripted.path).ok()
    scripted.cmakelists(FIVE_LINES.replace("net.emx", "net.pt2"))
    log = log_python(scripted)
    assert exported(scripted.configure().ok().text)
    scripted.build().ok()
    assert scripted.run(scripted.build_dir() / "fw").ok().text.strip() == PRINTED
    started = log.read_text()
    archive = scripted.path / "net.pt2"
    good = archive.read_bytes()
    archive.write_bytes(good)
    assert "no work to do" in scripted.build().ok().text
    assert log.read_text() == started

    bundle_of(scripted).unlink()
    assert exported(scripted.build().ok().text)
    assert worked(scripted.build().ok().text) == []

    archive.write_bytes(good[: len(good) // 2])
    for _ in range(2):
        text = scripted.build().fails().text
        assert "emx_add_model(net) failed (2):" in text
        assert "\n    emx: error: " in text
        assert "Traceback" not in text
    archive.write_bytes(good)
    scripted.build().ok()


def test_bad_script(scripted: Project) -> None:
    scripted.write("net.py", "def make():\n    raise ValueError('no such luck')\n")
    scripted.cmakelists(MODEL)
    page = scripted.configure().fails().text
    assert "\n    emx: error: " in page
    assert "no such luck" in page
    assert not bundle_of(scripted).exists()
