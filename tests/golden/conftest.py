"""Output kept as files beside the tests. ``UPDATE_GOLDEN=1`` writes them anew, for a diff to be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden("cli/gpus_real.txt", text)``: the text is what that file holds."""

    def compare(name: str, text: str) -> None:
        path = Path(request.path).parent / name
        if os.environ.get("UPDATE_GOLDEN"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text(), f"{path.name} differs; UPDATE_GOLDEN=1 writes it anew"

    return compare
