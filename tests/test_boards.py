# SPDX-License-Identifier: Apache-2.0
"""Start-up, semihosting, linker scripts and timers of every board, and the host's build."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from board_sets import EACH, EACH_BARE, EACH_COUNTING
from emx.build import FAULT, Finished, Program, board_names, build, find_machine, run
from emx.errors import EmxError
from emx.paths import root
from emx.target import TARGETS, detect_target, find_target, parse_macros

SMALL = {"microbit"}  # kilobytes of RAM
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wmissing-prototypes")


def compile_c(directory: Path, board: str, text: str, *link: str, opt: str = "-O2") -> Path:
    source = directory / "main.c"
    source.write_text(text)
    flags = (opt, "-std=gnu11", *STRICT, "-Werror", *link)
    return build(find_machine(board), Program((source,), flags=flags), directory / "main.elf")


def run_c(directory: Path, board: str, text: str, *link: str, opt: str = "-O2") -> Finished:
    program = compile_c(directory, board, text, *link, opt=opt)
    return run(find_machine(board), program, cwd=directory, timeout=60)


def test_boards_name_a_target() -> None:
    assert len(board_names()) >= 8
    for name in board_names():
        machine = find_machine(name)
        assert machine.name == name
        assert find_target(machine.target).name == machine.target


@pytest.mark.parametrize("board", EACH)
def test_the_target_is_what_the_compiler_says(board: str) -> None:
    machine = find_machine(board)
    command = [machine.compiler, *machine.flags, "-dM", "-E", "-x", "c", "/dev/null"]
    macros = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert detect_target(parse_macros(macros)).name == machine.target


@pytest.mark.parametrize("board", EACH_BARE)
def test_clang_names_the_same_target(board: str) -> None:
    machine = find_machine(board)
    flags = [f for f in machine.flags if f.startswith("-m") and not f.startswith("-masm")]
    triple = "riscv32-unknown-elf" if "riscv" in machine.compiler else "arm-none-eabi"
    command = ["clang", f"--target={triple}", *flags, "-dM", "-E", "-x", "c", "/dev/null"]
    macros = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert detect_target(parse_macros(macros)).name == machine.target


M33 = {"__ARM_ARCH_8M_MAIN__": "1", "__ARM_FP": "4"}


@pytest.mark.parametrize(
    ("macros", "target"),
    [
        ({}, "generic"),
        ({"__ARM_ARCH_7EM__": "1"}, "generic"),  # a Cortex-M4 without FPU
        ({"__ARM_ARCH_7EM__": "1", "__ARM_FP": "4"}, "cortex-m4"),
        ({"__ARM_ARCH_7EM__": "1", "__ARM_FP": "0xe"}, "cortex-m7"),
        ({"__ARM_ARCH_7EM__": "1", "__ARM_FP": ""}, "cortex-m4"),
        ({**M33, "__ARM_FEATURE_DSP": "1", "__ARM_FEATURE_MVE": "1"}, "cortex-m33"),
        (M33, "generic"),  # one that was made without DSP
        ({"__riscv_xlen": "64", "__riscv_mul": "1", "__riscv_compressed": "1"}, "generic"),
    ],
)
def test_values_of_macros_decide(macros: dict[str, str], target: str) -> None:
    assert detect_target(macros).name == target


@pytest.mark.parametrize("board", EACH)
def test_code_for_another_target_does_not_compile(tmp_path: Path, board: str) -> None:
    """The #error of generated C asks the preprocessor what detect_target() asks of the macros."""
    machine = find_machine(board)
    source = tmp_path / "main.c"
    for target in TARGETS:
        conditions = " && ".join(target.conditions) or "1"
        source.write_text(f"#if !({conditions})\n#error no\n#endif\n")
        command = [machine.compiler, *machine.flags, "-fsyntax-only", source]
        fits = subprocess.run(command, capture_output=True).returncode == 0
        if target.name == machine.target:
            assert fits
        if target.name in {"aarch64", "rv32imc", "cortex-m0", "cortex-m3", "cortex-m55"}:
            assert fits == (target.name == machine.target)


@pytest.mark.parametrize("board", EACH_BARE)
@pytest.mark.parametrize("opt", ["-O0", "-Os", "-O3"])
def test_start_up(tmp_path: Path, board: str, opt: str) -> None:
    """Data is copied, bss cleared, constructors run, the FPU is on, exit code and atexit work."""
    text = """
        #include <stdlib.h>
        static volatile int data[300] = {[7] = 5, [299] = 6};
        static volatile int bss[300];
        static volatile float x = 1.5f;
        static int constructed;
        #if defined(__riscv)
        static _Thread_local volatile int own[2] = {8, 0};
        #else
        static volatile int own[2] = {8, 0};
        #endif
        __attribute__((constructor)) static void construct(void) { constructed = 9; }
        static void at_end(void) { _Exit(40 + constructed); }
        int main(void) {
            for (int i = 0; i < 300; i++)
                if (bss[i] || data[i] != (i == 7 ? 5 : i == 299 ? 6 : 0))
                    return 1;
            if (x * 2 != 3 || own[0] != 8 || own[1])
                return 2;
            atexit(at_end);
            return 0;
        }"""
    assert run_c(tmp_path, board, text, opt=opt) == Finished(49, "")


@pytest.mark.parametrize("board", EACH_BARE)
def test_c_library(tmp_path: Path, board: str) -> None:
    """printf to both streams, the heap to its end, files: written, sought, read, appended."""
    text = r"""
        #include <errno.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        int main(void) {
            printf("hello %d %s\n", 42, "board");
            fprintf(stderr, "to stderr\n");
            void *block = malloc(1000), *huge = malloc((size_t)1 << 30);
            FILE *f = fopen("a file.txt", "w");
            fputs("one\ntwo\n", f);
            fclose(f);
            f = fopen("a file.txt", "a");
            fputs("three\n", f);
            fclose(f);
            f = fopen("a file.txt", "r");
            char line[16];
            fseek(f, 4, SEEK_SET);
            fgets(line, sizeof line, f);
            fseek(f, 0, SEEK_END);
            printf("%s %ld %d %d\n", strtok(line, "\n"), ftell(f), block != NULL, huge != NULL);
            fclose(f);
            f = fopen("missing", "r");
            printf("%d %d\n", f == NULL, errno == ENOENT);
            printf("%d", 7);
            return 200;
        }"""
    done = run_c(tmp_path, board, text)
    assert done.code == 200
    assert sorted(done.output.splitlines()) == [
        "1 1",
        "7",
        "hello 42 board",
        "to stderr",
        "two 14 1 0",
    ]
    assert (tmp_path / "a file.txt").read_text() == "one\ntwo\nthree\n"


FAULTS = {
    "write where nothing is": "*(volatile int *)0xE1000000u = 1;",
    "undefined instruction": "UNDEFINED;",
    "jump to nowhere": "((void (*)(void))0xE1000001u)();",
    "trap": "__builtin_trap();",
}


UNDEFINED = """
    #if defined(__riscv)
    #define UNDEFINED __asm__ volatile("unimp")
    #else
    #define UNDEFINED __asm__ volatile("udf #1")
    #endif
    """


@pytest.mark.parametrize("board", EACH_BARE)
@pytest.mark.parametrize("what", FAULTS)
def test_fault_is_reported(tmp_path: Path, board: str, what: str) -> None:
    text = f"{UNDEFINED}int main(void) {{ {FAULTS[what]} return 0; }}"
    done = run_c(tmp_path, board, text)
    assert done.code == FAULT
    message = r"emx: FAULT at pc 0x\w{8}, (lr 0x\w{8}, CFSR|ra 0x\w{8}, mcause) 0x\w{8}"
    assert re.fullmatch(message, done.output)


@pytest.mark.slow
def test_unaligned_access_shows_on_the_cortex_m0(tmp_path: Path) -> None:
    """It has none, so that the samples on this board prove that kernels do without."""
    text = """
        static volatile char bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        int main(int argc, char **argv) {
            (void)argv;
            return (int)*(volatile unsigned *)(void *)(bytes + 1 + argc) & 7;
        }"""
    unaligned = run_c(tmp_path, "microbit", text, "-Wno-cast-qual")
    assert unaligned.code == FAULT
    aligned = run_c(tmp_path, "microbit", text.replace("1 + argc", "4 + argc"))
    assert aligned.code == 5


@pytest.mark.parametrize("board", EACH_BARE)
def test_fault_names_the_place(tmp_path: Path, board: str) -> None:
    text = """
        __attribute__((noinline, used)) void guilty(void);
        void guilty(void) { *(volatile int *)0xE1000000u = 1; }
        int main(void) { guilty(); return 0; }"""
    done = run_c(tmp_path, board, text)
    symbols = read_symbols(tmp_path / "main.elf")
    match = re.search(r"pc 0x(\w{8})", done.output)
    assert match and 0 <= int(match[1], 16) - (symbols["guilty"] & ~1) < 32


@pytest.mark.parametrize("board", EACH_BARE)
def test_stack_overflow_is_reported_and_its_size_is_a_symbol(tmp_path: Path, board: str) -> None:
    usual = 3 << 10 if board in SMALL else 64 << 10
    text = """
        #include <string.h>
        enum { N = %d };
        volatile char sink;
        __attribute__((noinline)) static int use(void) {
            volatile char big[N];
            memset((char *)big, 1, sizeof big);
            sink = big[5];
            return big[N - 1] - 1;
        }
        int main(void) { return use(); }"""
    done = run_c(tmp_path, board, text % (usual + 900))
    assert done.code == FAULT
    assert "the stack overflowed; --defsym=__stack_size=BYTES sets it" in done.output
    assert (
        run_c(tmp_path, board, text % (usual + 900), f"-Wl,--defsym=__stack_size={2 * usual}").code
        == 0
    )
    assert run_c(tmp_path, board, text % (usual - 900)).code == 0


@pytest.mark.parametrize("board", EACH_BARE)
def test_sections_land_where_they_should(tmp_path: Path, board: str) -> None:
    """Weights are filled by the loader, arenas need no image."""
    size = 6 << 10 if board in SMALL else 3 << 20
    text = """
        #define SECTION(name) __attribute__((used, section(name)))
        SECTION(".rodata.emx_weights.m") static const char weights[N] = {[N - 1] = 3};
        SECTION(".rodata.emx_vectors.m") static const char vectors[5] = {[4] = 4};
        SECTION(".bss.emx_arena.m") static volatile char arena[N];
        SECTION(".text.dropped") void dropped(void);
        void dropped(void) {}
        int main(void) {
            const volatile char *w = weights, *v = vectors;
            arena[N - 1] = 5;
            return w[N - 1] + v[4] + arena[N - 1];
        }"""
    assert run_c(tmp_path, board, text, f"-DN={size}").code == 12
    with (tmp_path / "main.elf").open("rb") as stream:
        elf = ELFFile(stream)
        sections = {s.name: s for s in elf.iter_sections()}
        weights, arena = sections[".emx_weights"], sections[".emx_arena"]
        assert weights["sh_size"] == size and weights["sh_type"] == "SHT_PROGBITS"
        assert sections[".emx_vectors"]["sh_size"] == 5
        assert arena["sh_size"] == size and arena["sh_type"] == "SHT_NOBITS"
        assert (tmp_path / "main.elf").stat().st_size < size + (1 << 20)
        assert weights["sh_addr"] % 16 == arena["sh_addr"] % 16 == 0


@pytest.mark.parametrize("board", EACH_BARE)
def test_unused_code_goes(tmp_path: Path, board: str) -> None:
    text = "void unused(void); void unused(void) {} int main(void) { return 0; }"
    assert "unused" not in read_symbols(compile_c(tmp_path, board, text))


@pytest.mark.parametrize("board", EACH_BARE)
def test_section_that_no_one_places_is_an_error(tmp_path: Path, board: str) -> None:
    text = '__attribute__((section(".mine"))) int x = 1; int main(void) { return x; }'
    with pytest.raises(EmxError, match="cannot build the program") as caught:
        compile_c(tmp_path, board, text)
    assert "unplaced orphan section `.mine'" in str(caught.value)


@pytest.mark.parametrize("board", EACH_BARE)
def test_too_large(tmp_path: Path, board: str) -> None:
    text = "volatile char x[64 << 20]; int main(void) { return x[5]; }"
    with pytest.raises(EmxError, match=f"the program is too large for {board}") as caught:
        compile_c(tmp_path, board, text)
    assert re.search(
        r"  hint  RAM: 67,\d\d\d,\d\d\d bytes needed, [\d,]+ there$", str(caught.value)
    )


@pytest.mark.parametrize("board", EACH_COUNTING)
def test_timer_counts_instructions(tmp_path: Path, board: str) -> None:
    """Twice a million loops of two instructions are 2 million more, exactly, in every run."""
    text = r"""
        #include "emx_port.h"
        #include <stdio.h>
        static unsigned loop(unsigned n) {
            const uint64_t start = emx_port_ticks();
        #if defined(__riscv)
            __asm__ volatile("1: addi %0, %0, -1\n\tbnez %0, 1b" : "+r"(n));
        #else
            __asm__ volatile("1: subs %0, %0, #1\n\tbne 1b" : "+r"(n) : : "cc");
        #endif
            return (unsigned)(emx_port_ticks() - start);
        }
        int main(void) {
            loop(1);
            const unsigned one = loop(1000000), two = loop(2000000);
            printf("%u\n", two - one);
            return 0;
        }"""
    machine = find_machine(board)
    source = tmp_path / "main.c"
    source.write_text(text)
    program = build(machine, Program((source, machine.timer)), tmp_path / "main.elf")
    for _ in range(2):
        done = run(machine, program, cwd=tmp_path, counted=True)
        assert abs(int(done.output) * machine.timer_ns / machine.instruction_ns - 2_000_000) < 1


@pytest.mark.parametrize("name", ["host", *EACH])
def test_endless_program(tmp_path: Path, name: str) -> None:
    program = compile_c(tmp_path, name, "int main(void) { for (volatile int i = 0;; i++) {} }")
    with pytest.raises(EmxError, match=f"the program ran longer than 0.5 s on {name}"):
        run(find_machine(name), program, cwd=tmp_path, timeout=0.5)


def test_unknown_board() -> None:
    with pytest.raises(EmxError) as caught:
        find_machine("mps9")
    names = ", ".join(("host", "x86-64-v3", "x86-64-v4", *board_names()))
    assert str(caught.value) == f"there is no board 'mps9'\n  hint  programs run on: {names}"


@pytest.mark.parametrize(
    ("tool", "package"),
    [
        ("arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
        ("qemu-system-arm", "qemu-system-arm"),
        ("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf"),
        ("cc", "gcc"),
    ],
)
def test_missing_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, package: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmxError) as caught:
        if tool == "qemu-system-arm":
            run(find_machine("mps2-an386"), tmp_path / "x.elf", cwd=tmp_path)
        else:
            name = next(n for n in ("host", *board_names()) if find_machine(n).compiler == tool)
            build(find_machine(name), Program(()), tmp_path / "x.elf")
    hint = f"on Debian: apt-get install {package}"
    assert str(caught.value) == f"{tool} was not found\n  hint  {hint}"


def test_paths_with_spaces(tmp_path: Path) -> None:
    directory = tmp_path / "a b"
    directory.mkdir()
    assert run_c(directory, "mps2-an386", "int main(void) { return 5; }").code == 5


@pytest.mark.parametrize("board", EACH_BARE)
def test_our_c_has_no_warnings(tmp_path: Path, board: str) -> None:
    machine = find_machine(board)
    testing = root() / "runtime" / "testing"
    flags = ("-O3", "-std=gnu11", *STRICT, "-Werror")
    source = tmp_path / "models.c"
    source.write_text(
        '#include "emx_test.h"\nconst emx_test_model_t *const emx_test_models[1] = {0};\n'
        "const unsigned emx_test_model_count = 0;\n"
    )
    for harness in (("emx_test.c", "emx_print.c"), ("emx_bench.c",)):
        sources = (source, *(testing / name for name in harness), machine.timer)
        build(machine, Program(sources, flags=flags), tmp_path / "x.elf")


def read_symbols(program: Path) -> Mapping[str, int]:
    with program.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        return {s.name: s["st_value"] for s in table.iter_symbols()}


def test_root_is_the_tree_or_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emx import paths

    assert (root() / "boards" / "common" / "startup_cortex_m.c").is_file()
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "emx" / "paths.py"))
    assert paths.root() == tmp_path / "site-packages" / "emx"
