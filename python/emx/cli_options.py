# SPDX-License-Identifier: Apache-2.0
"""The options that commands share: how a model is exported, and what C is made of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from emx.options import CHOICES, INPUT, SCHEMES, Options


def add_model(p: argparse.ArgumentParser, metavar: str = "MODEL_OR_BUNDLE") -> None:
    p.add_argument("model", metavar=metavar)


def add_export_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--name", help="C prefix of everything generated (default: the file's name)")
    p.add_argument(
        "--inputs",
        nargs="+",
        default=(),
        metavar="X=TYPE",
        help="fix open shapes: x=f32[1x3x32x32]",
    )
    p.add_argument("--example-inputs", type=Path, metavar="FILE", help=".npz, .npy or .pt")
    p.add_argument("--vectors", type=int, default=4, metavar="N", help="test vectors (default: 4)")
    p.add_argument("--seed", type=int, default=0, metavar="S", help="of generated test vectors")
    p.add_argument(
        "--allow-pickle",
        action="store_true",
        help="run the code in a pickled model: trust it first",
    )
    p.add_argument("--quantize", choices=SCHEMES, help="quantise the model after training")
    p.add_argument(
        "--calibration", metavar="FILE", help="typical inputs: .npz, .pt or script.py:batches"
    )
    p.add_argument(
        "--keep-float",
        nargs="+",
        default=(),
        metavar="MODULE",
        help="layers that stay in float, by the paths of their modules",
    )


def add_code_options(p: argparse._ActionsContainer) -> None:
    p.add_argument("--io-arena", action="store_true", help="inputs and outputs live in the arena")
    _add_choice(p, "arena")
    _add_choice(p, "weights")
    p.add_argument("--weights-section", metavar="S")
    p.add_argument("--arena-section", metavar="S")
    p.add_argument("--max-arena-bytes", type=int, metavar="N", help="a larger arena is an error")
    p.add_argument("--max-weights-bytes", type=int, metavar="N", help="more weights are an error")
    _add_choice(p, "optimize", "what for (default: balanced)")
    _add_choice(p, "ram", "how far to go for less memory")
    p.add_argument(
        "--no-slim", dest="slim", action="store_false", help="keep channels that change nothing"
    )
    _add_choice(p, "io", "inputs and outputs of a quantised model (default: int8)")
    p.add_argument("--input", choices=INPUT, default="whole", help="all at once, or row by row")
    p.add_argument("--strict", action="store_true", help="no layer of an int8 model stays float")
    p.add_argument(
        "--check-passes", action="store_true", help="interpret the graph after each pass"
    )
    p.add_argument("--dump-ir", type=Path, metavar="DIR", help="write the graph after each pass")


def _add_choice(p: argparse._ActionsContainer, name: str, text: str | None = None) -> None:
    """An option of code that is one of a few words; the first is the default."""
    p.add_argument(f"--{name}", choices=CHOICES[name], default=CHOICES[name][0], help=text)


def code_options(args: argparse.Namespace) -> Options:
    return Options(
        io_arena=args.io_arena,
        arena=args.arena,
        weights=args.weights,
        weights_section=args.weights_section,
        arena_section=args.arena_section,
        max_arena_bytes=args.max_arena_bytes,
        max_weights_bytes=args.max_weights_bytes,
        optimize=args.optimize,
        ram=args.ram,
        slim=args.slim,
        io=args.io,
        input_rows=args.input == "rows",
        strict=args.strict,
        check_passes=args.check_passes,
        dump_ir=args.dump_ir,
    )


def export_settings(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "name": args.name,
        "inputs": tuple(args.inputs),
        "example_file": args.example_inputs,
        "vectors": args.vectors,
        "seed": args.seed,
        "allow_pickle": args.allow_pickle,
        "quantize": args.quantize,
        "calibration": args.calibration,
        "keep_float": tuple(args.keep_float),
    }
