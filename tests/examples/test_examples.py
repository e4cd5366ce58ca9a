"""Every program in examples/ runs by the real command line and does what it says.

Those in examples/training are run by tests/training.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import Finished, Home

EXAMPLES = Path(__file__).parents[2] / "examples"
FLEET = "8xH100;4xA100-80GB;2xA100,1xA100-20GB @cloud=gcp;2xA10G,2xT4"


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    home = Home({"GLOWPLUG_GPUS": FLEET, "OPENBLAS_NUM_THREADS": "1"})
    yield home
    home.close()


def run(home: Home, name: str, *arguments: str, fleet: str = FLEET) -> Finished:
    return home.run(EXAMPLES / name, *arguments, environ={"GLOWPLUG_GPUS": fleet})


def number_after(text: str, words: str) -> float:
    found = re.search(re.escape(words) + r" *([0-9.]+)", text)
    assert found, f"{words!r} in {text}"
    return float(found[1])


def test_every_example_is_run():
    programs = {path.name for path in EXAMPLES.glob("*.py")} - {"devices.py"}
    here = Path(__file__).read_text()
    assert programs == {name for name in programs if f'"{name}"' in here}
    listed = (EXAMPLES / "README.md").read_text()
    assert programs == {name for name in programs if f"]({name})" in listed}


def test_render_toy_story(home: Home, tmp_path: Path):
    picture = tmp_path / "toys.png"
    run(home, "render_toy_story.py", "--width", "96", "--height", "54", "--out", str(picture))
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">2I", content[16:24]) == (96, 54)
    packed_size = struct.unpack(">I", content[33:37])[0]
    rows = zlib.decompress(content[41 : 41 + packed_size])
    assert len(rows) == 54 * (1 + 3 * 96)
    sky, floor = rows[1:4], rows[-3 * 96 :]
    assert sky[2] > sky[0], "the sky is blue"
    assert len({floor[at : at + 3] for at in range(0, len(floor), 3)}) > 1, "the floor is a chessboard"


def test_diffusion(home: Home):
    said = run(home, "diffusion.py", "--updates", "250").stdout
    assert "8 devices" in said
    trained = re.search(r"train_sdxl +8 devices: loss ([0-9.]+) -> ([0-9.]+)", said)
    assert trained, said
    assert float(trained[2]) < float(trained[1])
    # Plain noise is off the ring by 0.52.
    assert number_after(said, "4 steps, off the ring by") < 0.4
    assert number_after(said, "40 steps, off the ring by") < 0.3
    assert number_after(said, "off the new ring by") < 0.3


def test_llama(home: Home):
    said = run(home, "llama.py").stdout
    assert "7B × 2 bytes (bf16) = 14 GB of 40 GB: the card" in said
    assert "34B × 2 bytes (bf16) = 68 GB of 80 GB: the words" in said
    assert "140 GB of 320 GB: 80 layers, largest error 31.9% -> 0.0%" in said
    assert "405 GB of 640 GB: layers 0–15, " in said
    assert 0 < number_after(said, "110–125; error") < 4, "8 bits cost something, and not much"


def test_a_model_too_large_for_its_card_is_refused(home: Home):
    done = home.command("run", f"{EXAMPLES / 'llama.py'}::llama_7b", "--billions", "34")
    assert done.status == 1
    assert "68 GB of weights do not fit 1 × 40 GB" in done.stderr, done.said


def test_mixtral(home: Home):
    said = run(home, "run_mixtral.py", "--prompt", "the engine", "--length", "30").stdout
    before, after = re.search(r"perplexity ([0-9.]+) -> ([0-9.]+)", said).groups()  # type: ignore[union-attr]
    assert float(after) < 2 < 20 < float(before)
    assert said.splitlines()[1].startswith("the engine ")


@pytest.mark.parametrize(
    ("fleet", "spread"),
    [(FLEET, "1 × H100, 60 GB"), ("2xA100-40GB", "2 × A100-40GB, 30 GB")],
)
def test_the_same_answer_on_one_card_or_two(home: Home, fleet: str, spread: str):
    said = run(home, "run_on_80gb.py", fleet=fleet).stdout
    assert said == f"{spread} of weights a card: [1498, 1449, 1553, 1449, 1499]\n"


def test_a_script_of_2023_goes_on_where_it_stopped(home: Home):
    first = run(home, "shared_volume_2023.py").stdout
    second = run(home, "shared_volume_2023.py").stdout
    assert first.startswith("trained for 500 steps in all\ny = 1.9")
    assert second.startswith("trained for 1000 steps in all\ny = ")
    assert "evaluated with 0 GPUs" in second


def test_many_inputs(home: Home):
    said = run(home, "many_inputs.py", "--count", "100").stdout
    assert said == "100 pages, 99 counted, in order\npage 13: FileNotFoundError: page 13 is gone\n"


def test_a_generator_its_caller_stops(home: Home):
    said = run(home, "stream_tokens.py", "--enough", "5").stdout
    assert len(said.split()) == 5


def test_async_calls(home: Home):
    said = run(home, "async_calls.py").stdout
    assert said == "nearness: 0.03\n[0.0, 0.0, 0.0, 0.0, 0.25]\n[0.0, 0.0, 0.0, 0.25, 0.0]\n"


@pytest.mark.parametrize("name", ["cuda_wheels.py", "cuda_toolkit_image.py", "cuda_compiler.py"])
def test_the_cuda_stack_without_a_card(name: str):
    """With one they are run by the tests that need a card."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a card")
    source = str(EXAMPLES.parent / "src")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("there is no NVIDIA card here")


def test_the_kernel_compiles(tmp_path: Path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on this machine")
    command = [nvcc, "-O2", "-shared", "-Xcompiler", "-fPIC", "-o", str(tmp_path / "saxpy.so")]
    subprocess.run([*command, str(EXAMPLES / "saxpy.cu")], check=True, timeout=120)
    assert (tmp_path / "saxpy.so").stat().st_size > 0
