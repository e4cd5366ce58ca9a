"""docs/gpu.md says what the catalog and the grammar say."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from glowplug.model import catalog
from glowplug.model.errors import InvalidError
from glowplug.model.gpu import parse_gpu

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_reference", ROOT / "tools" / "gpu_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def document() -> str:
    return (ROOT / "docs" / "gpu.md").read_text()


def rows(document: str, header: str) -> list[list[str]]:
    """The cells of the table that begins with ``header``."""
    _, _, table = document.partition(header)
    assert table, header
    lines = [line for line in table.partition("\n\n")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_document_is_up_to_date(tool: ModuleType, document: str) -> None:
    assert tool.written(document) == document, "run `make docs`"


def test_a_missing_section_is_noticed(tool: ModuleType, document: str) -> None:
    with pytest.raises(ValueError, match="sections"):
        tool.written(document.replace("<!-- sizes:", "<!-- size:"))


def test_every_type_has_a_row(document: str) -> None:
    for gpu_type in catalog.GPU_TYPES:
        row = rf"^\| `{re.escape(gpu_type.name)}`.*\| {gpu_type.architecture} \|"
        assert len(re.findall(row, document, re.M)) == 1


def test_every_string_the_table_of_forms_shows_is_valid(document: str) -> None:
    values = [
        ast.literal_eval(code)
        for cells in rows(document, "| value | meaning |")
        for code in re.findall(r"`([^`]+)`", cells[0])
        if re.fullmatch(r'"[^"]*"|\[[^…]*\]|None|False', code)
    ]
    assert len(values) >= 18
    for value in values:
        assert parse_gpu(value, known_types=["FOO-X99"]) or value in (None, False)


def test_every_error_it_quotes_is_what_is_said(document: str) -> None:
    quoted = rows(document, "| value | what the error says |")
    assert len(quoted) >= 5
    for value, message in quoted:
        text = ast.literal_eval(value.strip("`"))
        with pytest.raises(InvalidError) as caught:
            parse_gpu(text)
        assert str(caught.value) == f"gpu={text!r}: {message}"


def test_every_size_it_lists_is_a_valid_request(document: str) -> None:
    cells = [cell for row in rows(document, "| type | a whole card") for cell in row]
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(names) > 50
    for name in names:
        assert len(parse_gpu(name)) == 1


def test_it_names_the_reading(document: str) -> None:
    assert "Tim Dettmers" in document
    assert "Full Stack Deep Learning" in document
