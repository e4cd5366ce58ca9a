"""What a user can set or call is in the documents."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from glowplug.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
# Between our own processes; nothing a user sets or reads.
INTERNAL = {
    "GLOWPLUG_DECLARED_TYPES", "GLOWPLUG_BEFORE_ENTRYPOINT", "GLOWPLUG_DEVICES", "GLOWPLUG_GIT_USER",
}  # fmt: skip


def test_every_variable_is_documented():
    variable = re.compile(r"\b(?:GLOWPLUG|MODAL)_[A-Z][A-Z_]*[A-Z]\b")
    used = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in variable.findall(path.read_text())
        if not name.endswith(("_VARIABLES", "_VERSION"))
    }
    documented = set(variable.findall((ROOT / "docs" / "running.md").read_text()))
    assert used
    assert used - documented - INTERNAL == set()
    assert documented - used == set()


def test_every_command_is_documented():
    documented = set(
        re.findall(r"^\| `glowplug (\w+)", (ROOT / "docs" / "running.md").read_text(), re.MULTILINE)
    )
    assert documented == set(COMMANDS)


def test_the_table_of_options_is_up_to_date():
    spec = importlib.util.spec_from_file_location("compatibility", ROOT / "tools" / "compatibility.py")
    assert spec
    assert spec.loader
    compatibility = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compatibility)
    document = compatibility.DOCUMENT.read_text()
    assert compatibility.written(document) == document, "run `make docs`"


def test_every_decision_is_numbered_once_and_listed():
    directory = ROOT / "docs" / "decisions"
    records = sorted(path for path in directory.glob("*.md") if path.name[0].isdigit())
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    listed = (directory / "README.md").read_text()
    for path in records:
        assert path.read_text().startswith(f"# {path.name[:4]} ")
        assert f"[{path.name[:4]}]({path.name})" in listed
