"""Images of Python packages: building with a warm cache, knowing that one is built, starting containers."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import report
from rounds import Contestant, measure
from server import own_server

import glowplug
from glowplug.client.http import UnixConnection, request
from glowplug.client.settings import read_settings
from glowplug.images.uv import uv_path

Call = Callable[[], object]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = {"operation": "base", "fields": {"kind": "debian_slim", "python_version": PYTHON}}
NUMBERS = itertools.count()


def numpy(different: str = "") -> list[dict[str, Any]]:
    """The steps of debian_slim().pip_install("numpy"), each ``different`` another image."""
    variables = {"BENCH": different}
    return [BASE, {"operation": "python_packages", "fields": {"packages": ["numpy"]}, "variables": variables}]


def have_built(steps: list[dict[str, Any]]) -> None:
    connection = UnixConnection(read_settings().socket_path)
    connection.request("POST", "/v1/images", json.dumps({"spec": {"steps": steps}}))
    answer: http.client.HTTPResponse = connection.getresponse()
    *_, last = (json.loads(line) for line in answer)
    connection.close()
    assert last["event"] == "built", last


@contextlib.contextmanager
def build() -> Iterator[Call]:
    yield lambda: have_built(numpy(f"{next(NUMBERS)}"))


@contextlib.contextmanager
def known() -> Iterator[Call]:
    yield lambda: have_built(numpy("known"))


@contextlib.contextmanager
def uv_alone() -> Iterator[Call]:
    directory = tempfile.mkdtemp()

    def call() -> None:
        venv = f"{directory}/{next(NUMBERS)}"
        subprocess.run([uv_path(), "venv", "-q", "--python", PYTHON, venv], check=True)
        subprocess.run([uv_path(), "pip", "install", "-q", "-p", f"{venv}/bin/python", "numpy"], check=True)

    yield call
    shutil.rmtree(directory)


@contextlib.contextmanager
def first_container() -> Iterator[Call]:
    """Each time another working directory, and so another root: nothing to fork from is there."""

    def call() -> None:
        app = glowplug.App("bench-image")
        image = glowplug.Image.debian_slim(python_version=PYTHON).workdir(f"/w{next(NUMBERS)}")
        zero = app.function(image=image, serialized=True)(_zero())
        with app.run():
            assert zero.remote() == 0

    yield call


def _zero() -> Callable[[], int]:
    def zero() -> int:
        return 0

    return zero


@contextlib.contextmanager
def bare_interpreter() -> Iterator[Call]:
    executable = os.path.realpath(sys.executable)
    yield lambda: subprocess.run([executable, "-c", "pass"], check=True)


def further_container(package: str) -> Callable[[], contextlib.AbstractContextManager[Call]]:
    @contextlib.contextmanager
    def start() -> Iterator[Call]:
        if not package:
            raise ImportError("--torch names none")
        os.environ.update(BENCH_TORCH=package, BENCH_PYTHON=PYTHON)
        from torch_image_functions import app, torch_sum

        with app.run():
            yield lambda: torch_sum.remote()

    return start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="turns of each contestant (10)")
    parser.add_argument("--torch", default="", help='a PyTorch that is quick to install: "torch==2.13.0+cpu"')
    options = parser.parse_args()
    numpy_image = Contestant('Glowplug, `debian_slim().pip_install("numpy")`', build, ("glowplug",))
    alone = Contestant("`uv venv` and `uv pip install numpy`", uv_alone, ("uv",))
    unchanged = Contestant("Glowplug, an image that is built", known)
    first = Contestant("Glowplug, an app's start and its first container", first_container)
    bare = Contestant("`python -c pass`", bare_interpreter)
    further = Contestant("Glowplug, a further container with torch", further_container(options.torch))
    contestants = [numpy_image, alone, unchanged, first, bare, further]
    for each in contestants:
        each.warm_up = 0
    further.warm_up = 1
    with own_server():
        request("GET", "/v1/status", start=True)
        measure(contestants, options.rounds, calls=1)
    with_torch = None if further.absent else further.median_s
    targets = [
        report.Target("numpy's image with a warm cache", numpy_image.median_s, 1.0, unit="s"),
        report.Target("to know that an image is built", unchanged.median_s, 0.050, unit="s"),
        report.Target("further container with torch", with_torch, 0.070, unit="s"),
    ]
    title = "Images of Python packages, with uv's cache warm"
    report.finish(report.Report("image", title, contestants, numpy_image, targets))


if __name__ == "__main__":
    main()
