# SPDX-License-Identifier: Apache-2.0
"""The command line: arguments in, one call of the API, exit code out. docs/cli.md is its manual.

Exit codes: 0 success, 1 a defect of emx, 2 something the user can mend.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from emx import cmake_dir
from emx.cli_options import (
    add_code_options,
    add_export_options,
    add_model,
    code_options,
    export_settings,
)
from emx.depends import own_files, write_depfile
from emx.errors import EmxError
from emx.options import Options
from emx.version import VERSION

if TYPE_CHECKING:
    from emx.accuracy import AccuracyReport
    from emx.bundle import Bundle
    from emx.target import Target

Progress: TypeAlias = Callable[[str, int, int], None]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the console script and `python -m emx`."""
    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except EmxError as error:
        if getattr(args, "json", False):
            print(json.dumps(error.as_dict()))
        print(f"emx: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        traceback.print_exc()
        print(
            "emx: this is a defect of emx; please report it with the lines above", file=sys.stderr
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emx",
        description="Turn a PyTorch model into a tested C library for firmware.",
        epilog="MODEL is a torch.export archive (.pt2, .pt) or script.py:factory; "
        "a bundle (.emx) is a model exported before, for which PyTorch is not needed. "
        "Start with: emx check MODEL, then emx verify MODEL.",
    )
    parser.add_argument("--version", action="version", version=f"emx {VERSION}")
    parser.add_argument(
        "--cmake-dir", action=_Print, value=cmake_dir, help="print what to pass as -Demx_DIR=..."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_export(commands)
    _add_compile(commands)
    _add_check(commands)
    _add_verify(commands)
    _add_bench(commands)
    _add_budget(commands)
    _add_lists(commands)
    return parser


class _Print(argparse.Action):
    """An option that prints a value and ends, like --version."""

    def __init__(self, *, value: object, **settings: object) -> None:
        super().__init__(nargs=0, **settings)  # type: ignore[arg-type]
        self._value = value

    def __call__(self, *_: object) -> None:
        assert callable(self._value)
        print(self._value())
        raise SystemExit(0)


def _add_export(commands: Commands) -> None:
    p = commands.add_parser("export", help="export a model to a bundle (needs PyTorch)")
    add_model(p, "MODEL")
    p.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.emx")
    add_export_options(p)
    # One line of options serves every command; here those of code have nothing to decide.
    add_code_options(p.add_argument_group("options of compile, without effect here"))
    p.add_argument("--cache", type=Path, metavar="DIR", help="keep bundles here, by content")
    p.add_argument("--deps", type=Path, metavar="FILE", help="write the files read, a JSON list")
    p.set_defaults(run=_export)


def _add_compile(commands: Commands) -> None:
    p = commands.add_parser("compile", help="generate C and the weight blob")
    add_model(p)
    p.add_argument("-o", "--output", required=True, type=Path, metavar="DIR")
    add_export_options(p)
    target = p.add_mutually_exclusive_group()
    target.add_argument("--target", default="host", help="one of `emx targets` (default: host)")
    target.add_argument(
        "--detect-target", type=Path, metavar="FILE", help="the target of these macros (-dM -E)"
    )
    add_code_options(p)
    p.add_argument("--arena-group", metavar="G", help="share the static arena G_arena")
    p.add_argument("--test", action="store_true", help="also write NAME_test.c and its vectors")
    p.add_argument("--taps", action="store_true", help="call emx_test_tap() after every layer")
    p.add_argument("--rtol", type=float, default=Options.rtol, help="tolerance of NAME_test.c")
    p.add_argument("--atol", type=float, default=Options.atol, help="tolerance of NAME_test.c")
    p.add_argument("--plan-only", action="store_true", help="write only the manifest, NAME.json")
    p.add_argument("--depfile", type=Path, help="write what the output depends on, for make")
    p.add_argument("--deps", type=Path, metavar="FILE", help="the same as a JSON list")
    p.add_argument("--touch", action="store_true", help="new time stamps for unchanged files too")
    p.add_argument(
        "--model-hash", metavar="H", help="fail if the model is not the one of this hash"
    )
    p.set_defaults(run=_compile)


def _add_check(commands: Commands) -> None:
    p = commands.add_parser("check", help="list every problem of a model; writes nothing")
    add_model(p)
    add_export_options(p)
    p.add_argument(
        "--target", default="generic", help="a target or board of `emx targets` (default: generic)"
    )
    add_code_options(p)
    p.set_defaults(run=_check)


def _add_verify(commands: Commands) -> None:
    p = commands.add_parser("verify", help="build and run the C, compare it with PyTorch")
    add_model(p)
    add_export_options(p)
    p.add_argument("--target", default="host", help="host or a board of `emx targets`")
    add_code_options(p)
    p.add_argument("--layers", action="store_true", help="compare every layer, name the first bad")
    p.add_argument(
        "--dump", type=Path, metavar="DIR", help="leave inputs, eager and device outputs"
    )
    p.add_argument("--dataset", type=Path, metavar="FILE", help=".npz with x, and label or y")
    p.add_argument("--samples", type=int, metavar="N", help="of it on a board (default: 100)")
    p.add_argument("--rtol", type=float, default=1e-4, help="times the largest |eager| value")
    p.add_argument("--atol", type=float, default=1e-6)
    p.add_argument("--json", action="store_true")
    p.set_defaults(run=_verify)


def _add_bench(commands: Commands) -> None:
    p = commands.add_parser("bench", help="count instructions and bytes on an emulated board")
    add_model(p)
    add_export_options(p)
    p.add_argument("--target", required=True, metavar="BOARD", help="a board of `emx targets`")
    add_code_options(p)
    p.add_argument("-O", choices="0123s", default="3", help="the compiler's -O3 (default) or -Os")
    p.add_argument("--layers", action="store_true", help="instructions of every layer too")
    p.add_argument("--json", action="store_true")
    p.set_defaults(run=_bench)


def _add_budget(commands: Commands) -> None:
    p = commands.add_parser("budget", help="check the size of a compiled model; CMake calls it")
    p.add_argument("--name", required=True, help="C prefix of the model")
    p.add_argument("--objects", required=True, nargs="+", type=Path, metavar="FILE")
    p.add_argument("--max-code-bytes", type=int, metavar="N", help="more code is an error")
    p.add_argument("--max-stack-bytes", type=int, metavar="N", help="more stack is an error")
    p.add_argument("--library", type=Path, metavar="FILE", help="with the objects, for the stack")
    p.add_argument("compiler", nargs="*", help="after --: compiler and flags, for the stack")
    p.set_defaults(run=_budget)


def _add_lists(commands: Commands) -> None:
    p = commands.add_parser("ops", help="list the supported operators")
    p.add_argument("--markdown", action="store_true", help="as the page docs/operators.md")
    p.set_defaults(run=_ops)
    p = commands.add_parser("targets", help="list targets and boards")
    p.add_argument(
        "--detect", type=Path, metavar="FILE", help="the target of these macros (-dM -E)"
    )
    p.set_defaults(run=_targets)


@contextlib.contextmanager
def _progress(text: str) -> Iterator[Progress]:
    """A line while something takes long: on a terminal. In a pipe only what counts samples is
    named."""
    if not sys.stderr.isatty():
        yield _name_first
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield lambda what, done, total: status.update(f"{text}: {what} {done}/{total}")


def _name_first(what: str, done: int, total: int) -> None:
    if done == 0:
        print(f"emx: {what} with {total} samples", file=sys.stderr)


def _bundle(args: argparse.Namespace) -> Bundle:
    from emx.api import export

    with _progress(f"exporting {args.model}") as progress:
        return export(args.model, progress=progress, **export_settings(args))


def _export(args: argparse.Namespace) -> int:
    from emx.exporter import cached_export

    with _progress(f"exporting {args.model}") as progress:
        files = cached_export(
            args.model,
            args.output,
            cache_dir=args.cache,
            progress=progress,
            **export_settings(args),
        )
    if args.deps:
        own = own_files("exporter/*.py")  # also those that a cached bundle did not need
        args.deps.write_text(json.dumps([str(f) for f in (*files, *own)], indent=1) + "\n")
    return 0


def _compile(args: argparse.Namespace) -> int:
    from emx.api import generate, write
    from emx.emit import Artifacts
    from emx.report import summary
    from emx.target import find_target

    target = _detect(args.detect_target) if args.detect_target else find_target(args.target)
    bundle = _bundle(args)
    if args.model_hash and bundle.model_hash != args.model_hash:
        raise EmxError(
            f"{Path(args.model).name} changed after CMake configured the build",
            at=str(args.model),
            hint="run cmake again",
        )
    options = replace(
        code_options(args),
        arena_group=args.arena_group,
        test=args.test,
        taps=args.taps,
        rtol=args.rtol,
        atol=args.atol,
    )
    artifacts = generate(bundle, target, options)
    if args.plan_only:
        only = f"{bundle.name}.json"
        artifacts = Artifacts({only: artifacts.files[only]}, artifacts.manifest)
    write(artifacts, args.output, touch=args.touch)
    files = [Path(args.model).absolute(), *own_files("templates/*.j2")]
    if args.deps:
        args.deps.write_text(json.dumps([str(f) for f in files], indent=1) + "\n")
    if args.depfile:
        write_depfile(args.depfile, args.output / next(iter(artifacts.files)), files)
    if sys.stdout.isatty():
        print(summary(artifacts.manifest))
    return 0


def _check(args: argparse.Namespace) -> int:
    from emx.api import check
    from emx.report import summary

    artifacts = check(_bundle(args), target=args.target, options=code_options(args))
    print(f"no problems: {summary(artifacts.manifest)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from emx.api import verify

    bundle = _bundle(args)
    with _progress(f"running {bundle.name} on {args.target}"):
        report = verify(
            bundle,
            target=args.target,
            rtol=args.rtol,
            atol=args.atol,
            layers=args.layers,
            dump=args.dump,
            options=code_options(args),
        )
    worth = _accuracy(args, bundle) if args.dataset else None
    if args.json:
        dataset = {"dataset": worth.to_dict()} if worth else {}
        print(json.dumps(report.to_dict() | dataset, indent=1))
    else:
        print("\n\n".join(map(str, filter(None, (report, worth)))))
    return 0 if report.ok else 2


def _accuracy(args: argparse.Namespace, bundle: Bundle) -> AccuracyReport:
    from emx.accuracy import read_dataset
    from emx.api import evaluate
    from emx.exporter import outputs_of

    data = read_dataset(args.dataset, bundle.inputs)
    with _progress(f"running {bundle.name} on {data.count} samples"):
        known = outputs_of(args.model, data.inputs, **export_settings(args))
        return evaluate(
            bundle, data, target=args.target, samples=args.samples,
            options=code_options(args), pytorch=known,
        )  # fmt: skip


def _bench(args: argparse.Namespace) -> int:
    from emx.api import bench

    bundle, options = _bundle(args), code_options(args)
    with _progress(f"measuring {bundle.name} on {args.target}"):
        report = bench(
            bundle, target=args.target, layers=args.layers, optimize=args.O, options=options
        )
    print(json.dumps(report.to_dict(), indent=1) if args.json else report)
    return 0


def _budget(args: argparse.Namespace) -> int:
    from emx.objects import check_code, check_stack

    if args.max_code_bytes is not None:
        check_code(args.name, args.objects, args.max_code_bytes)
    if args.max_stack_bytes is not None:
        if not args.library or not args.compiler:
            raise EmxError("--max-stack-bytes needs --library FILE and, after --, the compiler")
        check_stack(args.name, args.library, args.objects, args.compiler, args.max_stack_bytes)
    return 0


def _ops(args: argparse.Namespace) -> int:
    from emx.operators_page import listing, page

    print(page() if args.markdown else listing(), end="")
    return 0


def _detect(macros: Path) -> Target:
    """The target of a compiler: `macros` is what it prints with -dM -E."""
    from emx.target import detect_target, parse_macros

    return detect_target(parse_macros(macros.read_text()))


def _targets(args: argparse.Namespace) -> int:
    from emx.build import board_names, find_machine
    from emx.target import TARGETS

    if args.detect:
        print(_detect(args.detect).name)
        return 0
    print("targets (emx compile, emx_add_model):")
    for target in TARGETS:
        print(f"  {target.name:<14}{target.about}")
    print("boards (emx verify, emx bench):")
    for name in board_names():
        board = find_machine(name)
        print(f"  {name:<14}{board.about}; target {board.target}")
    return 0
