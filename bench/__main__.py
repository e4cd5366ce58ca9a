"""Every benchmark in a process of its own, then one table: ``python bench``, which is ``make bench``."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import report

HERE = Path(__file__).parent
README = HERE / "README.md"
BENCHMARKS = ("call", "map", "fork", "sandbox", "cold", "arrays")
MEASURED = re.compile(r"(<!-- measured -->\n).*(<!-- end of measured -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run every benchmark and show one table.")
    parser.add_argument("--rounds", type=int, help="of each benchmark, instead of its own number")
    parser.add_argument("--readme", action="store_true", help="write the table into bench/README.md too")
    options = parser.parse_args()
    rounds = [] if options.rounds is None else ["--rounds", str(options.rounds)]
    for name in BENCHMARKS:
        print(f"bench/{name}.py", file=sys.stderr)
        subprocess.run([sys.executable, HERE / f"{name}.py", *rounds], check=True, stdout=subprocess.DEVNULL)
    results = [json.loads((report.RESULTS / f"{name}.json").read_text()) for name in BENCHMARKS]
    text = "\n".join([report.machine_line(results[0]["machine"]), "", *map(report.table, results)])
    print(text)
    if options.readme:
        README.write_text(MEASURED.sub(lambda marks: f"{marks[1]}\n{text}\n{marks[2]}", README.read_text()))


if __name__ == "__main__":
    main()
