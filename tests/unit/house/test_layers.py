"""The layers of the design hold, and the two promises import-linter cannot express: purity by allow-list, and
that what runs inside containers needs nothing installed there."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.api import read_configuration
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "src" / "glowplug"

PURE_LAYERS = ("core", "model")
# Whatever computes from its arguments alone. A clock, a draw, an id, a thread or a file is not among them.
PURE_MODULES = {
    "__future__", "abc", "base64", "bisect", "collections", "copy", "dataclasses", "difflib", "enum",
    "fractions", "functools", "hashlib", "heapq", "inspect", "itertools", "json", "math", "msgspec",
    "operator", "re", "string", "types", "typing", "warnings",  # old spellings of gpu= say that they are old
}  # fmt: skip

CONTAINER_LAYERS = ("model", "wire", "client", "sdk", "container")
CARRIED_ALONG = {"cloudpickle", "glowplug"}
# Read the user's command line, never inside a container.
COMMAND_LINE = {PACKAGE / "sdk" / "entrypoint.py"}


def _sources(*layers: str) -> list[Path]:
    found = [path for layer in layers for path in sorted((PACKAGE / layer).rglob("*.py"))]
    assert found, layers
    return found


def _imports(body: list[ast.stmt], *, everywhere: bool) -> Iterator[tuple[str, int]]:
    """Top-level packages imported; unless ``everywhere``, only those that importing the file itself needs."""
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0], node.lineno
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from _imports(node.orelse, everywhere=everywhere)
        elif everywhere:
            inner = [child for child in ast.walk(node) if isinstance(child, (ast.Import, ast.ImportFrom))]
            yield from _imports(list(inner), everywhere=True)


def test_imports_point_down_only(capsys: pytest.CaptureFixture[str]):
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None)
    assert status == 0, capsys.readouterr().out


def test_the_contract_covers_every_package():
    """``exhaustive`` makes a new package without a layer an error; this makes sure that it stays on."""
    configuration = read_configuration(str(ROOT / "pyproject.toml"))
    (layers,) = [options for options in configuration["contracts_options"] if options["id"] == "layers"]
    assert layers["exhaustive"]


@pytest.mark.parametrize("path", _sources(*PURE_LAYERS), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_core_and_model_are_pure(path: Path):
    tree = ast.parse(path.read_text())
    impure = [
        f"line {line}: {name}"
        for name, line in _imports(tree.body, everywhere=True)
        if name not in PURE_MODULES and name != "glowplug"
    ]
    assert not impure
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "hash", "exec", "eval", "__import__"}


@pytest.mark.parametrize("path", _sources(*CONTAINER_LAYERS), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_container_code_is_python_3_9_and_needs_nothing_installed(path: Path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    if any(isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AnnAssign)) for node in tree.body):
        assert any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body), (
            "from __future__ import annotations keeps annotations of later Pythons unevaluated"
        )
    allowed = CARRIED_ALONG | ({"click"} if path in COMMAND_LINE else set())
    foreign = [
        f"line {line}: {name}"
        for name, line in _imports(tree.body, everywhere=False)
        if name not in sys.stdlib_module_names and name not in allowed
    ]
    assert not foreign, "import it inside try (optional) or inside the function that needs it"
