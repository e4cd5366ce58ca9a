"""The SDK against real containers: one script, started in both ways scripts are started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "scripts" / "every_call.py"


def test_as_a_program(server_env):
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(SCRIPT)],
        env=server_env,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


def test_by_its_entrypoint(cli):
    done = cli("run", "--quiet", str(SCRIPT), "--word", "held", "--times", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "held held\n"
