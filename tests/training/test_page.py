"""docs/training.md shows what examples/training runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXCERPT = re.compile(r"^```python title=(\S+)[^\n]*\n(.*?)^```", re.M | re.S)
SHOWN = EXCERPT.findall((ROOT / "docs" / "training.md").read_text())


def test_every_way_is_shown():
    programs = (ROOT / "examples" / "training").glob("*.py")
    ways = {path.name for path in programs if "import modal" in path.read_text()}
    assert {name for name, _ in SHOWN} == ways


@pytest.mark.parametrize(("name", "excerpt"), SHOWN, ids=[name for name, _ in SHOWN])
def test_excerpts_are_those_of_the_programs(name: str, excerpt: str):
    assert excerpt in (ROOT / "examples" / "training" / name).read_text()
