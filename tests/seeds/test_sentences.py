"""What the two documents say between their snippets: availability, limits, ordering, preemption, prices."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from commands import Finished, Home, finish

from glowplug.model import catalog

SCRIPTS = Path(__file__).parent / "scripts_sentences"


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    home = Home({})
    yield home
    home.close()


def on(home: Home, fleet: str, script: str, *arguments: str, name: str = "") -> Finished:
    return home.run(SCRIPTS / script, *arguments, name=name, environ={"GLOWPLUG_GPUS": fleet})


# "the first available GPU"; "either an NVIDIA Tesla T4, L4, or A10G";
# "pricing is based on which one you land on"


@pytest.mark.parametrize(
    ("fleet", "lands"),
    [
        ("1xH100,1xA10G,1xL4,1xT4", "T4:1"),
        ("1xH100,1xA10G,1xL4", "L4:1"),
        ("1xA100,1xA10G;8xH100", "A10G:1"),
        ("2xH100", "H100:1"),  # ours: a fleet with none of the three still has a first available GPU
    ],
)
def test_any_is_the_cheapest_of_the_modest_cards(home: Home, fleet: str, lands: str):
    assert on(home, fleet, "landed.py", name="anywhere").result == lands


def test_the_price_of_any_is_that_of_the_card_it_lands_on(home: Home):
    for type in ("T4", "L4", "A10G"):
        done = home.command(
            "plan", "--json", str(SCRIPTS / "landed.py"), environ={"GLOWPLUG_GPUS": f"1x{type},1xH100"}
        )
        assert done.status == 0, done.said
        planned = {each["name"]: each for each in json.loads(done.stdout)["functions"]}
        assert planned["anywhere"]["usd_per_hour"] == catalog.price_usd_per_hour(type, None)


# "Modal respects the ordering of this list and will try to allocate the most preferred GPU type before …"


@pytest.mark.parametrize(
    ("fleet", "lands"),
    [
        ("4xA100-40GB;1xH100", "H100:1"),
        ("4xA100-40GB,1xT4", "A100-40GB:2"),
    ],
)
def test_fallbacks_are_tried_in_their_order(home: Home, fleet: str, lands: str):
    assert on(home, fleet, "landed.py", name="run_on_80gb").result == lands


def test_a_list_of_which_the_fleet_has_nothing_is_refused(home: Home):
    done = home.command(
        "run", f"{SCRIPTS / 'landed.py'}::run_on_80gb", environ={"GLOWPLUG_GPUS": "1xA100-40GB,1xT4"}
    )
    assert done.status == 1
    assert "run_on_80gb" in done.stderr, done.said
    assert "H100" in done.stderr, done.said
    assert "A100-40GB:2" in done.stderr, done.said


# "H100, A100, L4, and T4 instances support up to 8 GPUs (up to 640 GB GPU RAM), and A10G instances support up
# to 4 GPUs (up to 96 GB GPU RAM)" (2023: "A10G and T4 instances both support up to 4 GPUs");
# "Modal does not distinguish between A10G GPUs and A10s"


def test_counts_up_to_the_limit_on_one_machine(home: Home):
    done = on(home, "8xH100;8xA100-80GB;8xL4;8xT4;4xA10G", "limits.py")
    granted = [tuple(line.split()) for line in done.stdout.splitlines()]
    assert [f"{count} {kind}" for kind, count, _ in granted] == [
        "8 H100", "8 A100-80GB", "8 L4", "8 T4", "4 A10G", "4 T4", "2 A10G",
    ]  # fmt: skip


@pytest.mark.parametrize(("type", "limit"), [("H100", 8), ("A100", 8), ("L4", 8), ("T4", 8), ("A10G", 4)])
def test_one_more_is_refused(home: Home, tmp_path: Path, type: str, limit: int):
    script = tmp_path / "too_many.py"
    script.write_text(
        f"import modal\napp = modal.App()\n@app.function(gpu='{type}:{limit + 1}')\ndef f(): pass\n"
    )
    done = home.command("run", str(script))
    assert done.status == 1
    assert f'Did you mean "{type}:{limit}"?' in done.stderr, done.said


def test_the_memory_that_makes():
    assert catalog.max_count("H100") * catalog.default_memory_gb("H100") == 640
    assert catalog.max_count("A100") * 80 == 640
    assert catalog.max_count("A10G") * catalog.default_memory_gb("A10G") == 96


def test_a_count_is_never_split_over_machines(home: Home):
    done = home.command("run", str(SCRIPTS / "limits.py"), environ={"GLOWPLUG_GPUS": "4xH100;4xH100"})
    assert done.status == 1
    assert "eight_h100" in done.stderr, done.said


# "requesting more than 2 GPUs per container will usually result in larger wait times";
# "you may occasionally run into larger queue times to get access to them"


def test_a_call_for_taken_cards_waits_and_says_why(home: Home, tmp_path: Path):
    release = tmp_path / "over.release"
    with begun(home, "4xA100", "taken.py", "--until", str(release)) as process:
        read_until(process.stdout, "holding")
        release.with_suffix(".held").touch()
        said = read_until(process.stderr, "my_a100_function waits")
        assert "A100:4" in said
        assert "of hold (1×A100-40GB on " in said
        release.touch()
        done = finish(process, timeout_s=60)
    assert done.status == 0, done.said
    assert "ran on 4" in done.stdout


# "in-progress inputs will be rescheduled"


def test_an_input_in_progress_is_rescheduled_when_its_machine_goes(home: Home):
    fleet = "1xA100 ; 1xA100"
    with begun(home, fleet, "preempted.py") as process:
        first = read_until(process.stdout, "attempt 1 on ").split()[-1]
        drained = home.command("node", "drain", first, environ={"GLOWPLUG_GPUS": fleet})
        assert drained.status == 0, drained.said
        done = finish(process, timeout_s=60)
    assert done.status == 0, done.said
    second = done.stdout.split()[-1]
    assert done.stdout == f"attempt 2 on {second}\nfinished on {second}\n"
    assert second != first


# "A100s are also available in 20 GB variants … These are cheaper than the 40 GB VRAM variant";
# "24 GB of GPU RAM"; "one with 40 GB of RAM and another with 80 GB of RAM"


def test_sizes_and_prices(home: Home):
    fleet = {"GLOWPLUG_GPUS": "1xA100,1xA100-80GB,1xA100-20GB,1xA10G,1xH100"}
    done = home.command("gpus", "--json", environ=fleet)
    cards = [gpu for node in json.loads(done.stdout)["nodes"] for gpu in node["gpus"]]
    price = {(gpu["type"], gpu["memory_gb"]): gpu["price_usd_per_hour"] for gpu in cards}
    assert set(price) == {("A100", 40), ("A100", 80), ("A100", 20), ("A10G", 24), ("H100", 80)}
    assert price["A100", 20] < price["A100", 40] < price["A100", 80] < price["H100", 80]
    assert price["A10G", 24] < price["A100", 40]


# "a 34B parameter language model … will require more than 40 GB";
# "Finetuning models can be particularly RAM intensive"


def test_what_fits(home: Home):
    def smallest(model: str, type: str, *options: str) -> int | None:
        done = home.command("gpus", "--fits", model, "--json", *options, environ={"GLOWPLUG_GPUS": ""})
        fits = {each["gpu"].partition(":")[0]: each["count"] for each in json.loads(done.stdout)["fits"]}
        return fits.get(type)

    assert smallest("34B", "A100-40GB") == 2
    assert smallest("34B", "A100-80GB") == 1
    assert smallest("7B", "A10G") == 1
    assert smallest("7B", "A100-40GB", "--method", "full") == 4
    assert smallest("70B", "A100-80GB", "--method", "lora") == 4
    assert smallest("405B", "H100", "--dtype", "fp8") == 8


# "any SharedVolumes attached to function with A100s"; "run your CPU-only functions in the same cloud region"


def test_a_shared_volume_lives_where_its_functions_run_and_outlives_them(home: Home):
    fleet = "2xA100 @cloud=gcp; 1xT4 @cloud=aws"
    assert on(home, fleet, "shared_volume.py").stdout == "read a loss of 0.25 in gcp\n"
    assert on(home, fleet, "shared_volume.py", "--only-read").stdout == "read a loss of 0.25 in gcp\n"


def test_a_cloud_the_fleet_does_not_have_is_refused_by_name(home: Home, tmp_path: Path):
    script = shutil.copy(SCRIPTS / "shared_volume.py", tmp_path / "elsewhere.py")
    script.write_text(script.read_text().replace("gcp", "azure"))
    done = home.command("run", str(script), environ={"GLOWPLUG_GPUS": "1xA100 @cloud=gcp"})
    assert done.status == 1
    assert "azure" in done.stderr, done.said
    assert "gcp" in done.stderr, done.said


@contextmanager
def begun(home: Home, fleet: str, script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A run that goes on beside the test, and not longer."""
    process = home.start("run", str(SCRIPTS / script), *arguments, environ={"GLOWPLUG_GPUS": fleet})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(stream: IO[str] | None, text: str) -> str:
    """The first line with ``text``. A stream that ends without it fails the test."""
    assert stream is not None
    read = []
    for line in stream:
        read.append(line)
        if text in line:
            return line.strip()
    raise AssertionError(f"{text!r} was never said, but: {''.join(read)}")
