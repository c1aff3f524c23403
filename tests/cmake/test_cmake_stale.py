# SPDX-License-Identifier: Apache-2.0
"""Changes, and things that vanish: the build notices, does what is needed, and no more."""

from __future__ import annotations

import os
import time

import pytest
from cmake_project import FIVE_LINES, PRINTED, Project, bundle, worked

GENERATORS = pytest.mark.parametrize("generator", ["Ninja", "Unix Makefiles"])
BIASED = "y = 0.0 3.0 0.0 5.0"  # relu(1 - x) of what main.c feeds in


def built(project: Project, generator: str) -> Project:
    project.generator = generator
    project.cmakelists(FIVE_LINES)
    project.configure().ok()
    project.build().ok()
    return project


def printed(project: Project) -> str:
    return project.run(project.build_dir() / "fw").ok().text.strip()


@GENERATORS
def test_touched_model(project: Project, generator: str) -> None:
    """A new time stamp on the same content compiles nothing and starts emx at most once."""
    built(project, generator)
    os.utime(project.path / "net.emx")
    text = project.build().ok().text
    assert not [line for line in worked(text) if "Building" in line and generator == "Ninja"]
    assert "planning" not in text
    assert worked(project.build().ok().text) == []


@GENERATORS
def test_changed_model(project: Project, generator: str) -> None:
    """A build alone takes in new weights, up to the program; nobody has to configure."""
    built(project, generator)
    assert printed(project) == PRINTED
    bundle(bias=1).save(project.path / "net.emx")
    text = project.build().ok().text
    assert "planning net for host (net.emx changed)" in text
    assert printed(project) == BIASED
    assert project.passed() == 1
    assert worked(project.build().ok().text) == []


@GENERATORS
@pytest.mark.parametrize(
    "file",
    ["net/net.c", "net/net_weights.bin", "net_test/net_vectors.bin", "net/configure/net.json"],
)
def test_deleted_product(project: Project, generator: str, file: str) -> None:
    """Whatever is deleted below the build tree comes back."""
    built(project, generator)
    lost = project.build_dir() / "emx" / file
    content = lost.read_bytes()
    lost.unlink()
    project.build().ok()
    assert lost.read_bytes() == content
    assert project.passed() == 1
    assert worked(project.build().ok().text) == []


@GENERATORS
def test_clean(project: Project, generator: str) -> None:
    """After `clean` a build generates the C again, without planning or exporting."""
    built(project, generator)
    project.build("--target", "clean").ok()
    assert not (project.build_dir() / "emx/net/net.c").exists()
    text = project.build().ok().text
    assert "planning" not in text
    assert printed(project) == PRINTED


@GENERATORS
def test_blob_is_a_dependency(project: Project, generator: str) -> None:
    """No compiler reports what .incbin reads; the build knows it all the same."""
    built(project, generator)
    time.sleep(0.01)
    os.utime(project.build_dir() / "emx/net/net_weights.bin")
    assert "net_weights.c" in project.build().ok().text


def test_vanished_model(project: Project) -> None:
    """No model, no build; and when it is back, all is well."""
    built(project, "Ninja")
    model = project.path / "net.emx"
    content = model.read_bytes()
    model.unlink()
    text = project.build().fails().text
    assert f"emx_add_model(net): there is no model\n\n    {model}" in text
    model.write_bytes(content)
    project.build().ok()


def test_model_changes_after_configure(project: Project) -> None:
    """A model whose time stamp hides a change cannot meet the plan of another one."""
    project.cmakelists(FIVE_LINES)
    project.configure().ok()
    model = project.path / "net.emx"
    before = model.stat()
    bundle(bias=1).save(model)
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    text = project.build().fails().text
    assert "emx: error:" in text
    assert "changed" in text
    assert not (project.build_dir() / "emx/net/net.c").exists()
    os.utime(model)
    project.build().ok()
    assert printed(project) == BIASED


def test_changed_options(project: Project) -> None:
    """Options of the call belong to the plan's key."""
    built(project, "Ninja")
    project.cmakelists(FIVE_LINES.replace("net.emx)", "net.emx TARGET generic)"))
    text = project.build().ok().text
    assert "planning net for generic (options changed)" in text
    assert printed(project) == PRINTED


def test_damaged_stamp(project: Project) -> None:
    """A stamp that is cut short means: do it again."""
    built(project, "Ninja")
    stamp = project.build_dir() / "emx/net/configure/plan.stamp"
    stamp.write_text(stamp.read_text()[:40])
    assert "planning net" in project.configure().ok().text
    assert "planning net" not in project.configure().ok().text
