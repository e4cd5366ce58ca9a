"""What a user can set or call is in the documents."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Between our own processes; nothing a user sets or reads.
INTERNAL: set[str] = set()


def test_every_variable_is_documented():
    variable = re.compile(r"\b(?:GLOWPLUG|MODAL)_[A-Z][A-Z_]*[A-Z]\b")
    used = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in variable.findall(path.read_text())
        if not name.endswith("_VARIABLES")
    }
    documented = set(variable.findall((ROOT / "docs" / "running.md").read_text()))
    assert used
    assert used - documented - INTERNAL == set()
