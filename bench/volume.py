"""A volume beside the bare disk: 10,000 small files and a large one written, made durable and read by another
process; then what a commit moves after one byte was changed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import report
from server import own_server

SMALL_FILES = 10_000
SMALL_BYTES = 4096
TIMES = 2.0


def write_files(place: str, large_bytes: int) -> float:
    """Nothing in them has been stored before. Seconds."""
    block = bytearray(os.urandom(4 << 20))
    began = time.perf_counter()
    for number in range(SMALL_FILES):
        if number % 1000 == 0:
            os.makedirs(f"{place}/small/{number // 1000}", exist_ok=True)
        with open(f"{place}/small/{number // 1000}/{number}", "wb", buffering=0) as file:
            file.write(os.urandom(8) + block[: SMALL_BYTES + number % 1000])
    with open(f"{place}/large", "wb", buffering=0) as file:
        for _ in range(large_bytes // len(block)):
            block[:8] = os.urandom(8)
            file.write(block)
    return time.perf_counter() - began


def read_files(place: str) -> float:
    """Every byte. Seconds."""
    began = time.perf_counter()
    buffer = bytearray(4 << 20)
    for directory, _, names in os.walk(place):
        for name in names:
            with open(f"{directory}/{name}", "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
    return time.perf_counter() - began


def measure_bare(place: Path, large_bytes: int) -> float:
    place.mkdir()
    began = time.perf_counter()
    write_files(str(place), large_bytes)
    os.sync()
    if os.fork() == 0:
        read_files(str(place))
        os._exit(0)
    os.wait()
    took_s = time.perf_counter() - began
    shutil.rmtree(place)
    os.sync()
    return took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large-mib", type=int, default=1024)
    options = parser.parse_args()
    large_bytes = options.large_mib << 20
    rounds: list[dict[str, float]] = []
    with own_server(), tempfile.TemporaryDirectory(dir=os.environ["GLOWPLUG_HOME"]) as bare:
        import volume_functions as functions

        with functions.app.run():
            functions.read.remote()  # both containers run before anything is measured
            functions.write.remote(0)
            for number in range(options.rounds):
                found = {"bare": measure_bare(Path(bare) / str(number), large_bytes)}
                began = time.perf_counter()
                written = functions.write.remote(large_bytes)
                read = functions.read.remote()
                found["volume"] = time.perf_counter() - began
                found |= {**written, **read}
                found |= functions.change_one_byte.remote()
                rounds.append(found)
                print(found, file=sys.stderr)
                functions.clear.remote()
                os.sync()
    ratio = statistics.median(each["volume"] / each["bare"] for each in rounds)
    table = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    moved = max(each["moved_bytes"] for each in rounds)
    report.RESULTS.mkdir(exist_ok=True)
    (report.RESULTS / "volume.json").write_text(json.dumps({"rounds": rounds}))
    for name, value in table.items():
        print(f"{name:>14}  {value:,.0f} B" if name.endswith("bytes") else f"{name:>14}  {value:.2f} s")
    print(f"volume / bare disk: {ratio:.2f} (at most {TIMES:.0f}) {'met' if ratio <= TIMES else 'MISSED'}")
    print(f"after one byte: {moved:,} B moved of {large_bytes:,}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
