"""Decorated functions keep their signatures for type checkers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).parent / "samples"
ROOT = Path(__file__).parents[2]
ADVICE = {"reportUnusedExpression", "reportUnusedCoroutine", "reportUnusedCallResult"}


def errors_by_file(tmp_path: Path) -> dict[str, set[int]]:
    """The lines that basedpyright reports as errors in each sample."""
    settings = tmp_path / "pyrightconfig.json"
    settings.write_text(
        json.dumps(
            {
                "include": [str(SAMPLES)],
                "extraPaths": [str(ROOT / "src")],
                "typeCheckingMode": "standard",
                "pythonVersion": "3.11",
            }
        )
    )
    command = [Path(sys.executable).with_name("basedpyright"), "--outputjson", "-p", settings]
    done = subprocess.run(
        [*command, "--pythonpath", sys.executable], capture_output=True, text=True, timeout=150, check=False
    )
    report = json.loads(done.stdout)
    lines: dict[str, set[int]] = {}
    for found in report["generalDiagnostics"]:
        if found["severity"] == "error" and found.get("rule") not in ADVICE:
            lines.setdefault(Path(found["file"]).name, set()).add(found["range"]["start"]["line"] + 1)
    assert report["summary"]["filesAnalyzed"] >= 2
    return lines


def test_signatures_survive_decoration(tmp_path):
    errors = errors_by_file(tmp_path)
    refused = (SAMPLES / "refused.py").read_text().splitlines()
    meant = {number for number, line in enumerate(refused, start=1) if line.endswith("# refused")}
    assert errors.get("accepted.py", set()) == set()
    assert errors["refused.py"] == meant
