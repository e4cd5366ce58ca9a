"""Every snippet of the two documents the product was ordered from, run as its reader would run it.

The interface is theirs (decorators, names, calls); what the functions do is ours: they say where they ran.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Home

HERE = Path(__file__).parent
FLEET = "; ".join(
    [
        "8xH100 @cloud=aws",
        "1xT4,2xA10G,1xL4 @cloud=aws",
        "4xA100-80GB @cloud=gcp",
        "2xA100-40GB,1xA100-20GB @cloud=gcp",
    ]
)
SCRIPTS_2024 = sorted(path for path in (HERE / "scripts_2024").glob("*.py") if path.name != "train.py")
SCRIPTS_2023 = sorted((HERE / "scripts_2023").glob("*.py"))


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    home = Home({"GLOWPLUG_GPUS": FLEET})
    yield home
    home.close()


@pytest.mark.parametrize("script", SCRIPTS_2024, ids=lambda path: path.stem)
def test_2024(script: Path, home: Home):
    done = home.run(script)
    assert " ran " in done.stdout or "trained on 2 devices" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS_2023, ids=lambda path: path.stem)
def test_2023(script: Path, home: Home):
    done = home.run(script)
    assert " ran on " in done.stdout
    assert done.stderr.count("modal.Stub is now modal.App") == 1, done.said


def test_a_name_used_twice_means_the_last_and_warns_once(home: Home):
    done = home.run(HERE / "scripts_2024" / "all_in_one.py")
    for name in ("finetune_sdxl", "train_sdxl"):
        assert done.stderr.count(f"two functions called {name}") == 1, done.said


def test_object_forms_warn_and_work(home: Home):
    done = home.run(HERE / "scripts_2024" / "four_a100.py")
    assert "DeprecationError" in done.stderr
    assert 'gpu="A100-80GB:4"' in done.stderr, "it shows the form to write instead"


def test_the_subprocess_runs_the_file_beside_the_script(home: Home):
    done = home.run(HERE / "scripts_2024" / "training.py")
    assert done.stdout == "trained on 2 devices, loss 0.0053\n"
