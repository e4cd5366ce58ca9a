"""A function that means harm, as root and as an ordinary user: it sees nothing of others, writes nothing of
the host, outlives nothing, and exhausts only what is its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.apps import sandboxed
from e2e.conftest import AppStarter, own_server, run_cli
from e2e.processes import until
from e2e.users import ordinary_place, ordinary_python, ordinary_user
from glowplug.backends.local import cgroups
from glowplug.backends.local.hidden import not_for_others

pytestmark = sandboxed
grouped = pytest.mark.skipif(not cgroups.find()[0], reason="no control groups of our own here")
SCRIPT = Path(__file__).parent / "scripts" / "hostile.py"
ATTEMPTS = [
    "processes", "files", "places_of_the_server", "what_others_may_not_read", "cards", "descriptors",
    "writes", "switches", "root_of_the_first_process", "devices", "capabilities", "mounts", "system_calls",
    "strangers", "links",
]  # fmt: skip


def with_mark(mark: str) -> list[str]:
    """Command lines on the host that carry ``mark``, but for the command that was given it."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in line and b"signal.pause" in line:
            found.append(line.decode("utf-8", "replace"))
    return found


def host_of(place: Path, runtime: str, secret: Path) -> str:
    """What the function is told of the host, so that it knows where to look."""
    private = list(not_for_others("/etc"))
    pids = [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if pid > 100][:50]
    told = {"home": str(place / "home"), "runtime": runtime, "secret file": str(secret)}
    return json.dumps({**told, "private": [*private, "/etc/shadow"], "pids": pids})


@pytest.fixture(scope="module")
def secret() -> Iterator[Path]:
    """A file that everybody may read, in a directory that no script has to do with."""
    directory = Path(tempfile.mkdtemp(prefix="gp-", dir="/tmp"))
    directory.chmod(0o755)
    (directory / "secret").write_text("of the host")
    yield directory / "secret"
    shutil.rmtree(directory)


@pytest.fixture(scope="module", params=["this user", "an ordinary user"])
def got(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, secret: Path
) -> dict[str, Any]:
    """What each attempt got, and what was left running when the command had returned."""
    mark = secrets.token_hex(8)
    if request.param == "this user":
        place = tmp_path_factory.mktemp("hostile")
        (place / "scripts").mkdir()
        shutil.copy(SCRIPT, place / "scripts")
        with own_server(place) as env:
            host = host_of(place, env["XDG_RUNTIME_DIR"] + "/glowplug", secret)
            done = run_cli(["run", "scripts/hostile.py", "--mark", mark, "--host", host], env, place)
            left = with_mark(mark)
    else:
        with ordinary_place() as place, ordinary_user(place) as how:
            shutil.copy(SCRIPT, place / "scripts")
            host = host_of(place, str(place / "runtime" / "glowplug"), secret)
            python = ordinary_python(how)
            command = ["-m", "glowplug.cli.main", "run", "scripts/hostile.py", "--mark", mark, "--host", host]
            done = subprocess.run([python, *command], check=False, **how)
            left = with_mark(mark)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "left": left}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_attempt_gets_nothing(got, attempt):
    assert got[attempt] == []


def test_every_attempt_is_looked_at(got):
    assert sorted(got) == sorted([*ATTEMPTS, "left"])


def test_no_process_outlives_its_container(got):
    assert got["left"] == []


BOMB = """
import os, signal, sys
def bomb(mark):
    read, write = os.pipe()
    forks = 0
    while True:
        try:
            pid = os.fork()
        except BlockingIOError:
            break
        forks += 1
        if pid == 0:
            forks = 0
    if not forks:
        signal.pause()
    return forks
def other(): return "here"
"""


@grouped
def test_a_fork_bomb_has_an_end_and_others_go_on(tmp_path, monkeypatch):
    with own_server(tmp_path) as env:
        for name, value in {**env, "GLOWPLUG_PROCESSES": "100"}.items():
            monkeypatch.setenv(name, value)
        starter = AppStarter(tmp_path)
        app = starter(BOMB, bomb={"max_containers": 1}, other={})
        assert 0 < app.remote("bomb", "x") < 100
        assert app.remote("other") == "here"
        groups = [
            path
            for each in cgroups.find()[0]
            for path in each.base.glob(f"{cgroups.name_of(tmp_path / 'home')}/*/pids.current")
        ]
        assert max(int(path.read_text()) for path in groups) <= 100
        starter.close()
        until(lambda: not any(path.exists() for path in groups), "the end of the bomb")


IMPORTING = """
def status():
    with open("/proc/self/status") as file:
        lines = dict(line.split(":\\t") for line in file.read().splitlines() if ":\\t" in line)
    return {name: lines[name] for name in ("CapEff", "CapBnd", "Seccomp")}
AT_IMPORT = status()
def f(): return AT_IMPORT, status()
"""


@pytest.mark.parametrize("shared", ["on", "off"])
def test_what_a_module_may_while_it_is_imported(tmp_path, monkeypatch, shared):
    with own_server(tmp_path) as env:
        for name, value in {**env, "GLOWPLUG_SHARED_IMPORTS": shared}.items():
            monkeypatch.setenv(name, value)
        starter = AppStarter(tmp_path)
        (tmp_path / "script").mkdir()
        if shared == "off":  # nor by the name of a module that is imported before
            (tmp_path / "script" / "asyncio.py").write_text("raise SystemExit")
        at_import, in_function = starter(IMPORTING, f={}).remote("f")
        starter.close()
    assert in_function == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "Seccomp": "2"}
    assert (at_import == in_function) == (shared == "off")
