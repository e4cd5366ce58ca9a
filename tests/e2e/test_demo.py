"""`glowplug demo` as a user runs it: every claim on a virtual fleet, and nothing left, however it ends."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import glowplug.cli.demo
from commands import Finished, finish

ONE_CARD = """
from glowplug.cli import main
from glowplug.cli.demo import cards, command
command.VIRTUAL = cards.Cards(
    fleet="1xT4", preferred="", fallbacks=("B200", "T4"), one="T4", many="T4", count=1, mapped=None,
    moved="T4",
)
main.main(["demo", "--virtual"])
"""
BROKEN = """
from glowplug.cli import main
from glowplug.cli.demo import command, steps
def pigs(stage):
    steps.expect(False, "pigs do not fly")
    yield "never said"
command.STEPS = (("pigs", pigs),)
main.main(["demo", "--virtual"])
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """What the demo takes for the temp directory. Short: a socket below it has a long name already."""
    directory = Path(tempfile.mkdtemp(prefix="gp-"))
    yield directory
    shutil.rmtree(directory)


def start(temporary: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "TMPDIR": str(temporary), "GLOWPLUG_GPUS": "1xT4", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def demo(temporary: Path, *command: str) -> Finished:
    return finish(start(temporary, *command), timeout_s=120)


def processes_of(temporary: Path) -> list[str]:
    """Those whose environment names the demo's home."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str(temporary).encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_every_claim_holds_on_a_virtual_fleet(temporary: Path):
    done = demo(temporary, "-m", "glowplug.cli.main", "demo", "--virtual")
    assert done.status == 0, done.said
    assert done.stderr == ""
    text = re.sub(r"\s+", " ", done.stdout)
    for claim in (
        r"^VIRTUAL 1× T4, 2× L4, 4× A10G, 1× H100, 1× A100-80GB: functions run on the CPU virtual as asked",
        r"used by others: none of them",
        r'gpu="any" landed on T4 of virtual-1; the container counts 1 device: GPU-virtual-1-0, as allotted',
        r"ran on A100-80GB, because H100: in use by \S+ of hold_preferred \(1×H100 on virtual-4\)",
        r'gpu="L4:2" waits behind gpu="L4": L4:2: in use by \S+ of small .*, 1 of 2 free on virtual-1',
        r"had run with 2 devices of one machine",
        r'1,000 inputs over 2 containers, gpu="A10G"; after \d+ results: kill -9 \d+',
        r"died of signal 9 \(killed\)",
        r"1,000/1,000 results, each right, each once; \d+ re-run; 3 containers in all",
        r"drained while an input of a function with retries=0 ran there: moved, attempt 2 ended on virtual-",
        r'A10G supports up to 4 GPUs per container, not 5. Did you mean "A10G:4"\?',
        r"warm call \d+ µs; ProcessPoolExecutor, in turns with it, \d+ µs",
        r"\$0\.\d{4} by the list prices, as if these were real cards",
        r"left nothing: all \d+ processes of its containers are gone",
        r"9 claims held",
    ):
        assert re.search(claim, text), f"{claim}\n{done.said}"
    lines = done.stdout.splitlines()
    assert 20 <= len(lines) <= 32
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in done.stdout
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


def test_one_machine_with_one_card_shows_as_much(temporary: Path):
    done = demo(temporary, "-c", ONE_CARD)
    assert done.status == 0, done.said
    text = re.sub(r"\s+", " ", done.stdout)
    assert "ran on T4, because skipped a fallback of fall_back: no machine has" in text
    assert 'gpu="T4" waits behind gpu="T4": T4: in use by' in text
    assert "had run with 1 device" in text
    assert "without GPU (one card)" in text
    assert "ran there: it was put back; virtual-1 drains (demo); after the drain attempt 2 ended" in text


def test_a_claim_that_does_not_hold_fails_the_command(temporary: Path):
    done = demo(temporary, "-c", BROKEN)
    assert done.status == 1
    assert "this does not hold here: pigs do not fly" in done.stderr, done.said
    assert "Traceback" not in done.stderr
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_it_can_be_stopped_and_leaves_nothing(temporary: Path, number: signal.Signals):
    process = start(temporary, "-m", "glowplug.cli.main", "demo", "--virtual")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("fallback"):
            break
    os.killpg(process.pid, number)
    done = finish(process, timeout_s=60)
    assert done.status == 128 + number, done.said
    assert "Traceback" not in done.stderr, done.said
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


def test_it_needs_nothing_a_lean_environment_lacks():
    for path in Path(glowplug.cli.demo.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                package = name.partition(".")[0]
                assert package in {*sys.stdlib_module_names, "click", "glowplug", "modal"}, f"{path}: {name}"
