# SPDX-License-Identifier: Apache-2.0
"""Where weights and arenas are: linked in, bound at run time, the caller's, shared, in sections."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from cmake_project import FIVE_LINES, M4, PRINTED, ROOT, Project, bundle, emulated, worked

EXTERNAL = """
#include <stdio.h>
#include "net.h"
static unsigned char file[NET_WEIGHTS_FILE_BYTES] __attribute__((aligned(EMX_WEIGHTS_ALIGN)));
int main(int count, char **arguments) {
    FILE *f = fopen(arguments[count - 1], "rb");
    const size_t bytes = fread(file, 1, sizeof file, f);
    const emx_weights_status_t status = net_bind_weights(file, bytes);
    if (status != EMX_WEIGHTS_OK) {
        printf("refused %d\\n", status);
        return 1;
    }
    float x[NET_X_LEN] = {1, -2, 3, -4}, y[NET_Y_LEN];
    net_run(x, y);
    printf("y = %.1f %.1f %.1f %.1f\\n", y[0], y[1], y[2], y[3]);
    return 0;
}
"""


def test_strings(project: Project) -> None:
    """Weights as string literals: no assembler has a part in it."""
    project.cmakelists(FIVE_LINES.replace("net.emx)", "net.emx WEIGHTS STRING)"))
    project.configure(toolchain=M4).ok()
    project.build().ok()
    assert PRINTED in emulated(project, "mps2-an386")
    assert project.passed() == 1
    text = (project.build_dir() / "emx/net/net_weights.c").read_text()
    assert "asm" not in text
    assert "{" not in text  # an array of numbers would take a compiler minutes


def test_external(project: Project) -> None:
    """The program brings the weights; a file of new ones does without a new program; one of
    another model is refused. The tests of emx bind them too."""
    project.write("main.c", EXTERNAL)
    body = FIVE_LINES.replace("net.emx)", "net.emx WEIGHTS EXTERNAL)")
    body += "emx_add_model_test(net_layers MODEL net LAYERS)\n"
    body += "emx_add_model(two net.emx WEIGHTS EXTERNAL)\n"
    bundle(bias=1).save(project.path / "net.emx")
    project.cmakelists(body)
    project.configure().ok()
    project.build().ok()
    assert project.passed() == 2
    blob, other = (project.build_dir() / f"emx/{m}/{m}_weights.bin" for m in ("net", "two"))
    program = project.path / "a firmware in the field"
    project.program().rename(program)
    assert project.run(program, blob).ok().text.strip() == "y = 0.0 3.0 0.0 5.0"

    bundle(bias=2).save(project.path / "net.emx")
    assert "planning" in project.build().ok().text
    assert project.run(program, blob).ok().text.strip() == "y = 1.0 4.0 0.0 6.0"
    assert "refused 5" in project.run(program, other).fails().text
    assert worked(project.build().ok().text) == []


GROUP = """
    emx_add_model(net net.emx ARENA_GROUP pool)
    emx_add_model(big big.emx ARENA_GROUP pool IO_ARENA)
    emx_add_model(own net.emx ARENA CALLER)
    add_executable(fw main.c)
    target_link_libraries(fw PRIVATE net big own)
    emx_add_model_test(net_test MODEL net)
    emx_add_model_test(big_layers MODEL big LAYERS)
    emx_add_model_test(own_test MODEL own)
"""
GROUP_MAIN = """
#include <stdio.h>
#include "big.h"
#include "net.h"
#include "own.h"
static unsigned char mine[OWN_ARENA_BYTES] __attribute__((aligned(OWN_ARENA_ALIGN)));
int main(void) {
    float x[NET_X_LEN] = {1, -2, 3, -4}, y[NET_Y_LEN], z[NET_Y_LEN];
    big_image()[0] = 0;
    big_run();
    net_run(x, y);
    own_run_in(mine, x, z);
    printf("y = %.1f %.1f %.1f %.1f\\n", y[0], y[1], z[2], z[3]);
    return 0;
}
"""


def sections(project: Project, name: str) -> dict[str, tuple[str, int]]:
    """Symbol -> (section, bytes) of a linked program."""
    text = project.run("arm-none-eabi-objdump", "-t", project.program(name)).ok().text
    rows = re.findall(r"^\w+ [\w! ]{7} (\S+)\t(\w+) (\S+)$", text, re.MULTILINE)
    return {symbol: (section, int(size, 16)) for section, size, symbol in rows}


@pytest.mark.parametrize("section", ["", "ARENA_SECTION .noinit.pool"])
def test_three_models_two_arenas(project: Project, section: str) -> None:
    """Two share one as large as the larger of them needs; the third works in the program's."""
    project.write("main.c", GROUP_MAIN)
    shutil.copy(ROOT / "tests/golden/residual.emx", project.path / "big.emx")
    project.cmakelists(GROUP.replace("ARENA_GROUP pool", f"ARENA_GROUP pool {section}"))
    project.configure(toolchain=M4).ok()
    project.build().ok()
    assert PRINTED in emulated(project, "mps2-an386")
    assert project.passed() == 3
    manifests = [project.build_dir() / f"emx/{m}/{m}.json" for m in ("net", "big")]
    needs = [json.loads(m.read_text())["arena_bytes"] for m in manifests]
    assert needs[0] != needs[1]
    table = sections(project, "fw.elf")
    assert table["pool_arena"] == (".noinit" if section else ".emx_arena", max(needs))
    assert not {"net_arena", "big_arena", "own_arena"} & table.keys()
    assert worked(project.build().ok().text) == []


def test_sections(project: Project) -> None:
    """Weights and arena go where they are sent."""
    body = "net.emx ARENA_SECTION .noinit.fast WEIGHTS_SECTION .text.slow)"
    project.cmakelists(FIVE_LINES.replace("net.emx)", body))
    project.configure(toolchain=M4).ok()
    project.build().ok()
    assert PRINTED in emulated(project, "mps2-an386")
    table = sections(project, "fw.elf")
    assert table["net_arena"][0] == ".noinit"
    assert table["net_weights"][0] == ".text"
