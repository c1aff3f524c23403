# SPDX-License-Identifier: Apache-2.0
"""Weights that a program binds at run time: what fits is used, all else is refused, and why."""

from __future__ import annotations

import struct
import subprocess
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import emx
from emx.blob import literals
from emx.build import CONTRACT, find_tool
from emx.bundle import AtenNode, Ref, Vectors
from emx.ir import Origin, TensorType
from emx.paths import root

N = 4
X = np.arange(N, dtype=np.float32) - 1
HEADER = 80  # bytes, by the specification in docs/output-format.md
STATUS = ("OK", "TOO_SHORT", "MISALIGNED", "NOT_A_BLOB", "OTHER_FORMAT", "OTHER_MODEL")
# run FILE:OFFSET:BYTES...: for each, read FILE to an aligned address + OFFSET, bind that many BYTES
# (0: all), print what the call said, run, print the outputs. Without arguments: only run.
MAIN = """
#include "net.h"
#include <stdio.h>
static unsigned char memory[8][4096] __attribute__((aligned(16)));
static void run(void)
{
    const float x[NET_X_LEN] = {-1, 0, 1, 2};
    float y[NET_Y_LEN];
    net_run(x, y);
    printf(" %.9g %.9g %.9g %.9g\\n", (double)y[0], (double)y[1], (double)y[2], (double)y[3]);
}
int main(int count, char **arguments)
{
    if (count == 1)
        run();
    for (int i = 1; i < count; i++) {
        char path[1000];
        unsigned offset, bytes;
        sscanf(arguments[i], "%999[^:]:%u:%u", path, &offset, &bytes);
        FILE *file = fopen(path, "rb");
        const size_t got = fread(memory[i] + offset, 1, sizeof memory[i] - offset, file);
        fclose(file);
        printf("%d", net_bind_weights(memory[i] + offset, bytes ? bytes : got));
        run();
    }
    return 0;
}
"""


def network(weight: float, *, activation: str = "aten.relu.default", line: int = 7) -> emx.Bundle:
    """y = activation(weight * x + 1), said in some line of net.py."""
    t = TensorType((1, N))
    w, b = weight * np.eye(N, dtype=np.float32), np.ones(N, np.float32)
    origin = Origin("fc", f"net.py:{line}", "y = self.fc(x)")
    x, y = X.reshape(1, 1, N), np.maximum(weight * X + 1, 0).reshape(1, 1, N)
    return emx.Bundle(
        name="net",
        inputs=(("x", t),),
        outputs=(("y", Ref("y")),),
        nodes=(
            AtenNode("z", "aten.linear.default", (Ref("x"), Ref("w"), Ref("b")), {}, (t,), origin),
            AtenNode("y", activation, (Ref("z"),), {}, (t,), origin),
        ),
        tensors={"w": w, "b": b},
        vectors=Vectors({"x": x}, {"y": y}),
    )


def blob(bundle: emx.Bundle, directory: Path) -> bytes:
    """NAME_weights.bin as the build of this model would ship it."""
    emx.compile(bundle, out_dir=directory, options=EXTERNAL)
    return (directory / f"{bundle.name}_weights.bin").read_bytes()


@dataclass(frozen=True)
class Device:
    """A program with the code of network(2), which binds whatever it is given."""

    program: Path
    good: bytes

    def run(self, directory: Path, *blobs: bytes | tuple[bytes, int, int]) -> list[list[float]]:
        """[status, y...] for each blob, or (blob, offset, bytes)."""
        arguments = []
        for i, entry in enumerate(blobs):
            data, offset, size = entry if isinstance(entry, tuple) else (entry, 0, 0)
            (directory / f"{i}.bin").write_bytes(data)
            arguments.append(f"{i}.bin:{offset}:{size}")
        done = subprocess.run(
            [self.program, *arguments], cwd=directory, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [[float(v) for v in line.split()] for line in done.stdout.splitlines()]


EXTERNAL = emx.Options(weights="external")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    directory = tmp_path_factory.mktemp("device")
    good = blob(network(2), directory)
    (directory / "main.c").write_text(MAIN)
    program = directory / "run"
    include = f"-I{root() / 'runtime' / 'include'}"
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", CONTRACT, include)
    command = [find_tool("gcc"), *flags, "main.c", "net.c", "-lm", "-o", str(program)]
    subprocess.run(command, cwd=directory, check=True)
    return Device(program, good)


def y(weight: float) -> list[float]:
    return [float(v) for v in np.maximum(weight * X + 1, 0)]


def changed(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def test_header_is_as_specified(tmp_path: Path) -> None:
    """Read by offsets, against the manifest, and the blob that the assembler would embed."""
    data = blob(network(2), tmp_path / "external")
    emx.compile(network(2), out_dir=tmp_path / "incbin")
    embedded = (tmp_path / "incbin" / "net_weights.bin").read_bytes()
    manifest = emx.compile(network(2), out_dir=tmp_path / "again", options=EXTERNAL).manifest
    magic, version, size, crc = struct.unpack_from("<4s3I", data)
    assert (magic, version, size, crc) == (b"EMXW", 1, len(embedded), zlib.crc32(embedded))
    assert data[16:48].hex() == manifest["code_hash"]
    assert data[48:80].hex() == manifest["model_hash"] == network(2).model_hash
    assert data[HEADER:] == embedded
    assert len(data) == manifest["weights_file_bytes"]
    assert not (tmp_path / "external/net_weights.c").exists()


def test_weights_of_the_same_network_are_taken(device: Device, tmp_path: Path) -> None:
    """Trained again, with lines moved in the script: new weights need no new firmware. What lies
    behind the blob, in a larger partition, does not matter."""
    again = blob(network(-3, line=99), tmp_path)
    assert again != device.good
    results = device.run(tmp_path, device.good, again, device.good + bytes(7))
    assert results == [[0, *y(2)], [0, *y(-3)], [0, *y(2)]]


def refused(good: bytes, directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """Status -> (blob, offset, bytes) that must be refused with it."""
    other = blob(network(2, activation="aten.relu6.default"), directory)
    newer = changed(good, 4, struct.pack("<I", 2))
    return {
        "TOO_SHORT": (good, 0, len(good) - 1),
        "TOO_SHORT header": (good, 0, HEADER - 1),
        "MISALIGNED": (good, 4, 0),
        "NOT_A_BLOB": (changed(good, 0, b"\x7fELF"), 0, 0),
        "OTHER_FORMAT": (newer, 0, 0),
        "OTHER_MODEL": (other, 0, 0),
        "OTHER_MODEL length": (changed(good, 8, struct.pack("<I", 1 << 20)), 0, 0),
        "OTHER_MODEL hash": (changed(good, 47, bytes([good[47] ^ 1])), 0, 0),
    }


def test_what_does_not_fit_is_refused(device: Device, tmp_path: Path) -> None:
    """Each by its reason; the weights that were bound before stay."""
    for reason, entry in refused(device.good, tmp_path).items():
        status = STATUS.index(reason.split()[0])
        assert device.run(tmp_path, device.good, entry) == [[0, *y(2)], [status, *y(2)]], reason


def test_a_run_without_weights_traps(device: Device) -> None:
    done = subprocess.run([device.program], capture_output=True, check=False)
    assert done.returncode < 0 or b"SIG" in done.stderr
    assert not done.stdout


def test_nothing_to_bind(tmp_path: Path) -> None:
    t = TensorType((N,))
    x = np.ones((1, N), np.float32)
    bundle = replace(
        network(2),
        nodes=(AtenNode("y", "aten.relu.default", (Ref("x"),), {}, (t,)),),
        inputs=(("x", t),),
        tensors={},
        vectors=Vectors({"x": x}, {"y": x}),
    )
    with pytest.raises(emx.EmxError, match="net has no weights to bind"):
        emx.compile(bundle, out_dir=tmp_path, options=EXTERNAL)


def test_string_literals_are_the_blob(tmp_path: Path) -> None:
    """All byte values next to all others, where an escape could run into what follows."""
    pairs = np.array([[a, b] for a in range(256) for b in range(256)], np.uint8)
    rows = literals(pairs.tobytes())
    text = "const unsigned char data[] =\n" + "\n".join(rows) + ";\n"
    (tmp_path / "data.c").write_text(text)
    subprocess.run(["gcc", "-c", "data.c"], cwd=tmp_path, check=True)
    command = ["objcopy", "-O", "binary", "-j", ".rodata", "data.o", "data.bin"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "data.bin").read_bytes() == pairs.tobytes() + b"\0"


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["string", "external"])
def test_right_on_a_board(weights: str) -> None:
    options = emx.Options(weights=weights, weights_section=".rodata.emx_weights.elsewhere")
    report = emx.verify(network(2), target="mps2-an386", layers=True, options=options)
    assert report.ok, str(report)
