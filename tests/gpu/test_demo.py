"""`glowplug demo` on these cards: every claim of it, and UUIDs as libcuda sees them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cards import Fleet

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(100)]


def test_every_claim_holds_on_these_cards(fleet: Fleet, record_property):
    # Not below a test's own directory: a Unix socket there would have too long a name.
    with tempfile.TemporaryDirectory(prefix="gp-") as directory:
        done = subprocess.run(
            [sys.executable, "-m", "glowplug.cli.main", "demo"],
            env={**os.environ, "TMPDIR": directory, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        left = list(Path(directory).iterdir())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"REAL {fleet.count}× {fleet.type}\n"), done.stdout
    assert "libcuda there counts 1 device" in done.stdout
    assert "claims held" in done.stdout
    assert left == []
    for label, text in re.findall(r"^([a-z][a-z ]{10})(\S.*(?:\n {11}\S.*)*)", done.stdout, re.MULTILINE):
        record_property(label.strip(), re.sub(r"\s*\n\s*", " ", text))
