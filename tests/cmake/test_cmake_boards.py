# SPDX-License-Identifier: Apache-2.0
"""Every toolchain file: the target it names, a test on its board, a program that prints floats."""

from __future__ import annotations

import json

import pytest
from cmake_project import FIVE_LINES, PRINTED, ROOT, TOOLCHAINS, Project

BOARDS = {
    json.loads(path.read_text())["target"]: path.parent.name
    for path in (ROOT / "boards").glob("*/board.json")
}


@pytest.mark.parametrize("target", sorted(BOARDS))
def test_toolchain_file(project: Project, target: str) -> None:
    body = """
        get_target_property(target net EMX_TARGET)
        message("TARGET ${target}")
        add_test(NAME fw COMMAND fw)
        """
    project.cmakelists(FIVE_LINES + body)
    small = (
        "-DCMAKE_BUILD_TYPE=MinSizeRel"  # without optimisation the micro:bit's stack is too small
    )
    said = project.configure(small, toolchain=TOOLCHAINS / f"{target}.cmake").ok().text
    assert f"TARGET {target}\n" in said
    project.build().ok()
    assert project.passed("-L", BOARDS[target]) == 1
    assert PRINTED in project.ctest("-R", "^fw$", "-V").ok().text
