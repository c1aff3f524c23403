# SPDX-License-Identifier: Apache-2.0
"""What the network costs and is worth on a board, with floats and with 8-bit integers.

    python compare.py [BOARD]      (default: mps2-an386, an emulated Cortex-M4F)

after train.py.
"""

import sys
from pathlib import Path

import emx

HERE = Path(__file__).parent
BUILDS = {
    "float": {},
    "int8": {"quantize": "int8", "calibration": HERE / "calibration.npz"},
}


def column(name: str, board: str) -> list[str]:
    """The figures of one build: its name, accuracy, bytes of flash and RAM, instructions."""
    bundle = emx.export(HERE / "model.pt2", name="digits", **BUILDS[name])
    cost = emx.bench(bundle, target=board)
    *_, on_board = emx.evaluate(bundle, HERE / "held_out.npz", target=board, samples=1000).scores
    flash = cost.code_bytes + cost.weights_bytes
    ram = cost.ram_bytes + cost.stack_bytes
    return [name, str(on_board), *(f"{n:,}" for n in (flash, ram, cost.instructions))]


def main(board: str) -> None:
    head = [board, "accuracy", "flash, bytes", "RAM, bytes", "instructions a digit"]
    for row in zip(head, *(column(name, board) for name in BUILDS), strict=True):
        print(f"{row[0]:<22}" + "".join(f"{cell:>12}" for cell in row[1:]))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "mps2-an386")
