# SPDX-License-Identifier: Apache-2.0
"""Many models in one build tree."""

from __future__ import annotations

import resource

import pytest
from cmake_project import Project, worked


def processor_seconds() -> float:
    """Spent by all commands that ended so far: what a busy machine hardly changes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("models", [8, pytest.param(50, marks=pytest.mark.soak)])
def test_a_build_with_nothing_to_do_is_short(project: Project, models: int) -> None:
    names = [f"net{i}" for i in range(models)]
    lines = [f"emx_add_model({name} net.emx)" for name in names]
    calls = "".join(f"{name}_run(x, y);\n" for name in names)
    includes = "".join(f'#include "{name}.h"\n' for name in names)
    project.write("main.c", f"{includes}int main(void) {{ float x[4] = {{0}}, y[4];\n{calls} }}")
    lines += ["add_executable(fw main.c)", f"target_link_libraries(fw PRIVATE {' '.join(names)})"]
    project.cmakelists("\n".join(lines))
    project.configure().ok()
    assert len(worked(project.build().ok().text)) > 2 * models
    before = processor_seconds()
    assert worked(project.build().ok().text) == []
    assert processor_seconds() - before < 0.2
    project.run(project.program()).ok()
