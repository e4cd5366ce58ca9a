"""Which file or module `glowplug run` means, and what is said when it cannot be that."""

from __future__ import annotations

import re
import sys

import pytest

from glowplug.cli.script import load_script
from glowplug.model.errors import InvalidError, NotFoundError


@pytest.fixture(autouse=True)
def _nothing_left(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("modal.py", "another module named 'modal' is imported already; rename the script"),
        ("glowplug.py", "another module named 'glowplug' is imported already"),
        ("json.py", "the name of Python's own module 'json'"),
        ("my.script.py", "which has no dot"),
        ("script", "its name must end in .py"),
        ("notes.txt", "its name must end in .py"),
    ],
)
def test_a_name_that_cannot_be_imported(name, said, tmp_path):
    (tmp_path / name).write_text("import modal\napp = modal.App()\n")
    with pytest.raises(InvalidError, match=re.escape(said)):
        load_script(name)


def test_no_file_of_that_name():
    with pytest.raises(NotFoundError, match=r"no file 'nowhere\.py'"):
        load_script("nowhere.py")


def test_a_script_without_an_app(tmp_path):
    (tmp_path / "plain_script.py").write_text("x = 1\n")
    with pytest.raises(InvalidError, match="has no App"):
        load_script("plain_script.py")
