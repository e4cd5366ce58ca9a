"""Every benchmark in a process of its own, then one table: ``python bench``, which is ``make bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import report

HERE = Path(__file__).parent
BENCHMARKS = ("call", "map", "fork", "cold", "arrays")


def main() -> None:
    rounds = sys.argv[1:]  # as each of them takes them: --rounds 3
    for name in BENCHMARKS:
        print(f"bench/{name}.py", file=sys.stderr)
        subprocess.run([sys.executable, HERE / f"{name}.py", *rounds], check=True, stdout=subprocess.DEVNULL)
    results = [json.loads((report.RESULTS / f"{name}.json").read_text()) for name in BENCHMARKS]
    text = "\n".join([report.machine_line(results[0]["machine"]), "", *map(report.table, results)])
    (report.RESULTS / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
