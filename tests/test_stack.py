# SPDX-License-Identifier: Apache-2.0
"""The bound of the stack against what painted stacks show, and against GCC's own figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from bare import link_bare, link_model
from board_sets import EACH, EACH_COUNTING
from emx.bencher import bench
from emx.build import find_machine
from emx.errors import EmxError
from emx.stack import StackBound, disassembled, read_image, read_usage, stack_bound
from golden_models import NAMES, golden_bundle
from tiny_model import Tiny

HEAD = """
#define NOINLINE __attribute__((noinline))
void top(int n);
volatile char sink;
static NOINLINE void leaf(int n) { volatile char a[100]; a[n] = 1; sink = a[n]; }
"""


def link(board: str, source: str, directory: Path, *flags: str) -> Path:
    """An image of `source` that starts at top()."""
    (directory / "top.c").write_text(HEAD + source)
    return link_bare(board, [directory / "top.c"], "top", "-O2", *flags)


def bound_of(board: str, source: str, directory: Path, *flags: str) -> StackBound:
    image = link(board, source, directory, *flags)
    usage = read_usage(directory)
    return stack_bound(find_machine(board).compiler, image, ("top",), usage)


@pytest.mark.parametrize("board", EACH)
def test_deepest_chain_counts(board: str, tmp_path: Path) -> None:
    """Of two chains of calls the deeper one, not their sum; a call in a loop once."""
    bound = bound_of(
        board,
        """
        static NOINLINE void middle(int n) { volatile char a[200]; a[n] = 1; leaf(n); sink = a[n]; }
        void top(int n) {
            volatile char a[60];
            a[n] = 1;
            for (int i = 0; i < n; i++) { leaf(i); middle(i); }
            sink = a[n];
        }""",
        tmp_path,
    )
    assert [name for name, _ in bound.path] == ["top", "middle", "leaf"]
    assert bound.bytes == sum(frame for _, frame in bound.path)
    for (_, frame), least in zip(bound.path, (60, 200, 100), strict=True):
        assert least <= frame <= least + 48


PROBLEMS = {
    "it calls itself": """
        static NOINLINE char deep(int n) {
            volatile char a[9];
            a[0] = n > 0 ? deep(n - 1) : 1;
            leaf(n);
            return a[0];
        }
        void top(int n) { sink = deep(n); }""",
    "it calls through a pointer": """
        extern void (*volatile chosen)(int);
        void (*volatile chosen)(int) = leaf;
        void top(int n) { chosen(n); leaf(n); sink = 1; }""",
    "its frame depends on its arguments": """
        void top(int n) { volatile char a[n]; a[n - 1] = 1; leaf(n); sink = a[n - 1]; }""",
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("board", EACH)
def test_what_has_no_bound_is_an_error(board: str, problem: str, tmp_path: Path) -> None:
    name = "deep" if "itself" in problem else "top"
    with pytest.raises(EmxError) as caught:
        bound_of(board, PROBLEMS[problem], tmp_path)
    assert str(caught.value) == f"the stack of {name} has no bound: {problem}"


@pytest.mark.parametrize("board", EACH)
def test_mutual_recursion_is_an_error(board: str, tmp_path: Path) -> None:
    source = """
        static NOINLINE int odd(int n);
        static NOINLINE int even(int n) { leaf(n); return n ? odd(n - 1) + sink : 1; }
        static NOINLINE int odd(int n) { leaf(n); return n ? even(n - 1) * sink : 0; }
        void top(int n) { sink = (char)even(n); }"""
    with pytest.raises(EmxError, match=r"the stack of (odd|even) has no bound: it calls itself"):
        bound_of(board, source, tmp_path, "-fno-inline")


def test_unknown_function_is_an_error(tmp_path: Path) -> None:
    image = link("mps2-an386", "void top(int n) { leaf(n); sink = 1; }", tmp_path)
    with pytest.raises(EmxError, match=r"top\.elf has no function bottom"):
        stack_bound(find_machine("mps2-an386").compiler, image, ("bottom",), {})


@pytest.mark.slow
@pytest.mark.parametrize("board", EACH)
def test_frames_of_instructions_are_those_of_gcc(board: str, tmp_path: Path) -> None:
    """What is read from instructions, for library functions, is right where GCC tells it too."""
    for name in NAMES:
        directory = tmp_path / name
        directory.mkdir()
        image = link_model(board, golden_bundle(name), directory, "-O3")
        usage, read = read_usage(directory), disassembled(find_machine(board).compiler, image)
        frames = {f.name: f.frame for f in read_image(read, {}).values() if f.name in usage}
        assert len(frames) > 3
        assert frames == {name: usage[name] for name in frames}


@pytest.mark.slow
@pytest.mark.parametrize("board", EACH_COUNTING)
def test_painted_stack_is_within_the_bound(board: str) -> None:
    """Through libm, libgcc and memcpy; the model takes the deepest way that they have."""
    extra = """
        { volatile float v = 3e30f; v = sinf(v); v = erff(v); v = tanhf(v); v = powf(v, 2.5f); }
        { volatile int64_t v = 7; v = v / (v + 1); }
        memmove(a, b, (size_t)(x[0] + 99));"""
    model = Tiny(globals="static char a[999], b[999];", extra=extra)
    report = bench(model.bundle, model, target=board)
    assert 80 < report.stack_bytes <= report.stack_bound_bytes
    assert report.stack_bound_bytes <= 1.25 * report.stack_bytes + 32
