"""Every example in the documents runs.

A fenced block in a document is one of these; blocks run in their order, with one fresh directory and
one server a document:

    ```python title=hello.py        a file of that name for later commands; run by itself if none names it
    ```python                       a script of its own, run with python
    ```toml title=config.toml       any language with a title: a file for the commands after it
    ```console                      lines after "$ " are commands, which succeed; the lines below each are its
                                    output, in order, where … stands for anything and missing lines are fine
    ```console exit=1               the last command of the block fails with this status
    ```console no-run="the reason"  not run here, and why (python blocks must still parse)

Anything else (text, toml, no language) is prose.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNNABLE = {"python", "console"}
UNCHECKED = {"sh", "bash", "shell", "py", "pycon"}  # would look like an example and be none
FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>[\w-]*)(?P<options>[^\n]*)\n(?P<body>.*?)^(?P=fence)\s*$", re.M | re.S
)
COMMAND_LIMIT_S = 120
# What a command of a document finds unless it says otherwise: some of everything.
FLEET = "2xA10G,2xT4;8xH100;4xA100-80GB"


@dataclass
class Block:
    language: str
    body: str
    line: int
    options: dict[str, str] = field(default_factory=dict)


@dataclass
class Command:
    text: str
    expected: list[str] = field(default_factory=list)


def blocks(text: str) -> list[Block]:
    return [
        Block(
            language=match["language"],
            body=match["body"],
            line=text.count("\n", 0, match.start()) + 1,
            options=dict(word.partition("=")[::2] for word in shlex.split(match["options"])),
        )
        for match in FENCE.finditer(text)
    ]


def commands(body: str) -> list[Command]:
    found: list[Command] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif found and found[-1].text.endswith("\\") and not found[-1].expected:
            found[-1].text += "\n" + line.removeprefix("> ")
        elif found and line.strip():
            found[-1].expected.append(line)
    return found


def missing_line(expected: list[str], output: str) -> str | None:
    """The first expected line that does not come, in its turn, in ``output``."""
    remaining = iter(output.splitlines())
    for pattern in expected:
        wanted = re.compile(".*".join(re.escape(part.strip()) for part in pattern.split("…")))
        if not any(wanted.search(line) for line in remaining):
            return pattern
    return None


@dataclass
class Reader:
    """Someone who follows a document from its top in an empty directory."""

    directory: Path
    environment: dict[str, str]

    def run(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture
def reader() -> Iterator[Reader]:
    # Not tmp_path: a Unix socket below it would have too long a name.
    home = Path(tempfile.mkdtemp(prefix="gp-docs-"))
    (home / "here").mkdir()
    (home / "run").mkdir(mode=0o700)
    environment = {
        "HOME": str(home),
        "GLOWPLUG_HOME": str(home / "home"),
        "GLOWPLUG_GPUS": FLEET,
        "XDG_RUNTIME_DIR": str(home / "run"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }
    reader = Reader(home / "here", environment)
    yield reader
    reader.run("glowplug server stop")
    shutil.rmtree(home, ignore_errors=True)


def _follow(document: str, found: list[Block], reader: Reader) -> None:
    scripts = {block.options["title"] for block in found if "title" in block.options}
    commanded = " ".join(block.body for block in found if block.language == "console")
    for block in found:
        where = f"{document}:{block.line}"
        if block.language == "python":
            compile(block.body, where, "exec")
        if "no-run" in block.options:
            continue
        if block.language not in RUNNABLE:
            if "title" in block.options:
                _save(reader, block.options["title"], block.body)
            continue
        if block.language == "python":
            name = block.options.get("title", "example.py")
            _save(reader, name, block.body)
            if name not in scripts:
                block = Block("console", f"$ python {name}", block.line)
            elif name not in commanded:
                block = Block("console", f"$ glowplug run {name}", block.line)
            else:
                continue
        following = commands(block.body)
        assert following, f"{where}: a console block without a command"
        for command in following:
            wanted = int(block.options.get("exit", 0)) if command is following[-1] else 0
            status, output = reader.run(command.text)
            said = f"{where}: $ {command.text}\n{output}"
            assert status == wanted, f"exit status {status}, not {wanted}\n{said}"
            missing = missing_line(command.expected, output)
            assert missing is None, f"no line like {missing!r}, or too late\n{said}"


def _save(reader: Reader, name: str, body: str) -> None:
    (reader.directory / name).parent.mkdir(parents=True, exist_ok=True)
    (reader.directory / name).write_text(body)


def _documents() -> list[Path]:
    places = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted(path for path in places if "evidence" not in path.parts)


DOCUMENTS = [(str(path.relative_to(ROOT)), blocks(path.read_text())) for path in _documents()]


@pytest.mark.parametrize(("document", "found"), DOCUMENTS, ids=[name for name, _ in DOCUMENTS])
def test_no_example_escapes_the_check(document: str, found: list[Block]):
    assert not [f"{document}:{block.line}" for block in found if block.language in UNCHECKED]
    unexplained = [
        block for block in found if "no-run" in block.options and len(block.options["no-run"]) < 10
    ]
    assert not [f"{document}:{block.line}" for block in unexplained]


WITH_EXAMPLES = [
    (name, found) for name, found in DOCUMENTS if any(block.language in RUNNABLE for block in found)
]


@pytest.mark.parametrize(("document", "found"), WITH_EXAMPLES, ids=[name for name, _ in WITH_EXAMPLES])
def test_examples_run(document: str, found: list[Block], reader: Reader):
    _follow(document, found, reader)


def test_the_readme_has_examples():
    assert "README.md" in [name for name, _ in WITH_EXAMPLES]


@pytest.mark.parametrize("document", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path):
    prose = FENCE.sub("", document.read_text())
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert not [link for link in local if not (document.parent / link).exists()]


# The checker itself.


def test_a_block_is_found_with_its_line_and_options():
    text = 'Text.\n\n```python title=a.py no-run="not here, for a reason"\nx = 1\n```\n\n```\nprose\n```\n'
    first, second = blocks(text)
    assert (first.language, first.line, first.body) == ("python", 3, "x = 1\n")
    assert first.options == {"title": "a.py", "no-run": "not here, for a reason"}
    assert second.language == ""


def test_commands_take_the_lines_below_them_as_output():
    first, second = commands("$ one \\\n>   --two\nout\n\n$ three\n")
    assert first.text == "one \\\n  --two"
    assert first.expected == ["out"]
    assert (second.text, second.expected) == ("three", [])


def test_expected_lines_come_in_order_with_gaps():
    output = "a: 12 ms\nnoise\nb\n"
    assert missing_line(["a: … ms", "b"], output) is None
    assert missing_line(["b", "a: … ms"], output) == "a: … ms"
    assert missing_line(["c"], output) == "c"


def test_a_failing_example_is_reported_with_its_place(reader: Reader):
    with pytest.raises(AssertionError, match=r"doc\.md:7: \$ false"):
        _follow("doc.md", [Block("console", "$ true\n$ false\n", 7)], reader)
    _follow("doc.md", [Block("console", "$ true\n$ false\n", 7, {"exit": "1"})], reader)


def test_a_script_without_a_title_is_run_by_itself(reader: Reader):
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        _follow("doc.md", [Block("python", "1 / 0\n", 1)], reader)
