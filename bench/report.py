"""What a benchmark found: a table for people, JSON under results/, and whether each target was met."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rounds import Contestant, ratio

RESULTS = Path(__file__).parent / "results"


@dataclass
class Target:
    """``value`` is to be at most (or at least) ``limit``. A target whose peer is absent has no value."""

    what: str
    value: float | None
    limit: float
    at_least: bool = False
    unit: str = "×"

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "met" if met else "MISSED"


@dataclass
class Report:
    """One benchmark's result. Ratios are to ``base``, whose own is 1."""

    name: str
    title: str
    contestants: Sequence[Contestant]
    base: Contestant
    targets: Sequence[Target]
    inputs: int = 1
    """Inputs of one measured call: a rate is shown when there are several."""

    def write(self) -> Path:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        path.write_text(json.dumps(self._fields(), indent=1) + "\n")
        return path

    def _fields(self) -> dict[str, object]:
        return {
            "name": self.name,
            "title": self.title,
            "machine": machine(),
            "inputs": self.inputs,
            "rows": [self._row(each) for each in self.contestants],
            "targets": [{**asdict(target), "verdict": target.verdict} for target in self.targets],
        }

    def _row(self, contestant: Contestant) -> dict[str, object]:
        row: dict[str, object] = {"name": contestant.name, "versions": versions(contestant.versions)}
        if contestant.absent:
            return {**row, "absent": contestant.absent}
        return {
            **row,
            "median_s": contestant.median_s,
            "p99_s": contestant.p99_s,
            "ratio": ratio(contestant, self.base),
            "calls": len(contestant.calls_s),
            "turns_s": contestant.turns,
        }


def target_ratio(what: str, of: Contestant, to: Contestant, limit: float, at_least: bool = False) -> Target:
    value = None if of.absent or to.absent else ratio(of, to)
    return Target(what, value, limit, at_least)


def arguments(description: str | None, rounds: int, calls: int | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of each contestant ({rounds})")
    if calls is not None:
        parser.add_argument("--calls", type=int, default=calls, help=f"calls of a turn ({calls})")
    return parser.parse_args()


def finish(report: Report) -> None:
    """Write the JSON and show the table."""
    path = report.write()
    print(machine_line(machine()), "", table(json.loads(path.read_text())), sep="\n")


def table(result: dict) -> str:
    """Markdown, so that the same text stands in README.md."""
    several = result["inputs"] > 1
    head = ["", "median", "p99", "× Glowplug", *(["inputs/s"] if several else [])]
    lines = [f"**{result['title']}**", "", _line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for row in result["rows"]:
        named = " ".join([row["name"], *(f"({text})" for text in [", ".join(row["versions"])] if text)])
        if "absent" in row:
            lines.append(_line([named, f"absent ({row['absent']})", *[""] * (len(head) - 2)]))
            continue
        rate = [f"{result['inputs'] / row['median_s']:,.0f}"] if several else []
        cells = [named, duration(row["median_s"]), duration(row["p99_s"]), f"{row['ratio']:.2f}", *rate]
        lines.append(_line(cells))
    lines += ["", _line(["target", "limit", "measured", ""]), _line(["---", "---:", "---:", "---"])]
    for target in result["targets"]:
        sign = "≥" if target["at_least"] else "≤"
        value = "–" if target["value"] is None else quantity(target["value"], target["unit"])
        lines.append(
            _line(
                [
                    target["what"],
                    f"{sign} {quantity(target['limit'], target['unit'])}",
                    value,
                    target["verdict"],
                ]
            )
        )
    return "\n".join(lines) + "\n"


def machine_line(facts: dict[str, object]) -> str:
    return (
        f"{facts['date']}: {facts['cores']} cores ({facts['processor']}), {facts['memory_gb']} GB, "
        f"Linux {facts['kernel']}, Python {facts['python']}, Glowplug {facts['glowplug']}"
    )


def machine() -> dict[str, object]:
    return {
        "date": datetime.date.today().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "glowplug": importlib.metadata.version("glowplug"),
    }


def versions(distributions: Sequence[str]) -> list[str]:
    found = []
    for name in distributions:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def quantity(value: float, unit: str) -> str:
    return duration(value) if unit == "s" else f"{value:.2f} {unit}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
