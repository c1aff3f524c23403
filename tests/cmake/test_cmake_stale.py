# SPDX-License-Identifier: Apache-2.0
"""Changes, and things that vanish: the build notices, does what is needed, and no more."""

from __future__ import annotations

import os

from cmake_project import FIVE_LINES, PRINTED, Project, bundle

BIASED = "y = 0.0 3.0 0.0 5.0"  # relu(1 - x) of what main.c feeds in


def built(project: Project) -> Project:
    project.cmakelists(FIVE_LINES)
    project.configure().ok()
    project.build().ok()
    return project


def test_vanished_model(project: Project) -> None:
    """No model, no build; and when it is back, all is well."""
    built(project)
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
    assert project.printed() == BIASED


def test_changed_options(project: Project) -> None:
    """Options of the call belong to the plan's key."""
    built(project)
    project.cmakelists(FIVE_LINES.replace("net.emx)", "net.emx TARGET generic)"))
    text = project.build().ok().text
    assert "planning net for generic (options changed)" in text
    assert project.printed() == PRINTED


def test_damaged_stamp(project: Project) -> None:
    """A stamp that is cut short means: do it again."""
    built(project)
    stamp = project.build_dir() / "emx/net/configure/plan.stamp"
    stamp.write_text(stamp.read_text()[:40])
    assert "planning net" in project.configure().ok().text
    assert "planning net" not in project.configure().ok().text
