"""Arguments and results are opened by the two ends alone: whoever unpickles one of these leaves its name."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from glowplug.wire.payload import INLINE_LIMIT_BYTES

TATTLE = """
class Tattle:
    def __init__(self, size=0):
        self.ballast = b"." * size

    def __reduce__(self):
        return tell, (self.ballast,)

def tell(ballast):
    import os, sys
    who = getattr(sys.modules["__main__"].__spec__, "name", "?")
    for gate in ("/gate", os.environ.get("GATE_ON_HOST", "")):
        if os.path.isdir(gate):
            with open(gate + "/opened_by", "a") as names:
                names.write(who + "\\n")
    return len(ballast)
"""
SOURCE = f"""{TATTLE}
def give(size):
    return Tattle(size)

def take(size):
    return size
"""


@pytest.mark.parametrize("size", [0, 2 * INLINE_LIMIT_BYTES], ids=["inline", "by descriptor"])
def test_only_the_ends_open_a_payload(start_app, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int):
    gate = tmp_path / "home" / "network-file-systems" / "gate"
    monkeypatch.setenv("GATE_ON_HOST", str(gate))
    app = start_app(SOURCE, give={}, take={})
    here = types.ModuleType("toymod")
    exec(SOURCE, here.__dict__)
    monkeypatch.setitem(sys.modules, "toymod", here)

    assert app.remote("take", here.Tattle(size)) == size
    assert app.remote("give", size) == size

    kept = app.spawn("take", here.Tattle(size))
    assert kept.next(timeout_s=30).status == "success"

    opened_by = (gate / "opened_by").read_text().split()
    assert len(opened_by) == 3
    assert not [who for who in opened_by if who.startswith(("glowplug.assembly", "glowplug.server"))]
