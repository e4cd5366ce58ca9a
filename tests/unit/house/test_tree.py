"""The tree speaks for the project alone: no path of anyone's machine, its own words for its own things."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "src" / "glowplug"

# One word a thing: these say nothing, or belong to others. Ray's words stay in its backend.
BANNED = {"worker", "task", "job", "instance", "manager", "helper", "utils", "data", "info"}
# Names that existing scripts catch or call.
COMPATIBLE = {"DataLossError"}
RAY = PACKAGE / "backends" / "ray"


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def test_no_path_of_a_machine():
    """Tests may invent a home, nothing else names one; nobody names the checkout or the interpreter."""
    somebody = re.compile(r"/(?:home|Users)/(?!user\b|you\b)[a-z][\w-]*|/root/\.\w+")
    here = re.compile(
        "|".join(re.escape(path) for path in (str(ROOT), sys.prefix) if path.count("/") > 1) or "$^"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in _tracked()
        for number, line in enumerate(_text(path).splitlines(), 1)
        if here.search(line) or (somebody.search(line) and ROOT / "tests" not in path.parents)
    ]
    assert not found


def test_nothing_large_is_tracked():
    assert not [str(path) for path in _tracked() if path.stat().st_size > 1_000_000]


def test_no_links_are_tracked():
    """A link that stands in for somebody's own directory would replace that wherever it is checked out."""
    _tracked()  # skips where there is no git
    listed = subprocess.run(
        ["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not [line for line in listed.stdout.splitlines() if line.startswith("120000 ")]


def test_scripts_are_executable():
    scripts = [path for path in _tracked() if _text(path).startswith("#!")]
    assert scripts
    assert not [str(path) for path in scripts if not path.stat().st_mode & 0o100]


def _own_names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    defined = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    }
    return defined | {path.stem}


def _words(name: str) -> set[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return {word for word in spaced.split("_") if word}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_names_use_the_words_of_the_glossary(path: Path):
    if RAY in path.parents:
        pytest.skip("Ray's words")
    assert not {name for name in _own_names(path) if _words(name) & BANNED} - COMPATIBLE
