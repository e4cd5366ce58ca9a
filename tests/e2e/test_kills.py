"""Containers, the server and the client are killed at random moments of a running map: no input of a living
client is lost, each has one output, no GPU stays allocated, no process stays behind.

GLOWPLUG_KILLS says how many of each (100 before a release), GLOWPLUG_KILLS_SEED which moments.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import AppStarter, LiveApp, own_server
from e2e.processes import MARK, marked, until
from glowplug.client.http import request
from glowplug.client.serializer import pack, unpack
from glowplug.client.session import Output
from glowplug.client.settings import read_settings
from glowplug.model import errors
from glowplug.model.gpu import GpuRequest

KILLS = int(os.environ.get("GLOWPLUG_KILLS", "6"))
SEED = int(os.environ.get("GLOWPLUG_KILLS_SEED", "20261122"))
IN_FLIGHT = 60
PROGRESS_TIMEOUT_S = 60.0
WORK = """
import os, subprocess, time
def work(number):
    if number % 20 == 0:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    time.sleep(0.001 * (number % 5))
    return number, b"x" * (number % 7 * 200_000)
"""
pytestmark = pytest.mark.timeout(120 + 12 * KILLS)


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    made = secrets.token_hex(8)
    monkeypatch.setenv(MARK, made)
    return made


@pytest.fixture
def start(tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppStarter]:
    with own_server(tmp_path) as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        starter = AppStarter(tmp_path, str(tmp_path / "gate"))
        yield starter
        starter.close()
    until(lambda: not marked(mark), "the end of every process")


def start_work(start: AppStarter) -> LiveApp:
    return start(WORK, work={"gpu": (GpuRequest("T4"),)})


class Map(threading.Thread):
    """A map that goes on until it is told that it has been long enough; then it is finished and checked."""

    def __init__(self, app: LiveApp) -> None:
        super().__init__()
        self.answered: list[int] = []
        self.error: BaseException | None = None
        self._app = app
        self._enough = threading.Event()
        self._call = app.run.call(app.run.function_ids["work"])

    def run(self) -> None:
        try:
            sent = 0
            while not self._enough.is_set() or len(self.answered) < sent:
                if not self._enough.is_set():
                    more = IN_FLIGHT - (sent - len(self.answered))
                    self._call.add([pack(((number,), {})) for number in range(sent, sent + more)])
                    sent += more
                self.answered.append(checked(self._call.next(PROGRESS_TIMEOUT_S)))
        except BaseException as error:
            self.error = error

    def wait_for_progress(self, outputs: int) -> None:
        wanted = len(self.answered) + outputs
        until(lambda: len(self.answered) >= wanted or self.error, "progress of the map", PROGRESS_TIMEOUT_S)
        if self.error is not None:
            raise self.error

    def finish(self) -> None:
        self._enough.set()
        self.join(2 * PROGRESS_TIMEOUT_S)
        assert not self.is_alive(), f"the map hangs after {len(self.answered)} outputs"
        if self.error is not None:
            raise self.error
        with pytest.raises(TimeoutError):
            self._call.next(0)
        assert sorted(self.answered) == list(range(len(self.answered)))


def checked(output: Output) -> int:
    """The index of an output that is what it should be."""
    assert output.status == "success", (output.index, output.error, output.message)
    number, filling = unpack(output.payload)
    assert (number, len(filling)) == (output.index, output.index % 7 * 200_000)
    return output.index


def assert_nothing_is_held(mark: str) -> None:
    """No run, no container, no GPU in the server's own books, and none of what functions have started."""

    def held() -> list[Any]:
        apps = [each for each in request("GET", "/v1/apps")["apps"] if each["state"] != "ended"]
        containers = request("GET", "/v1/containers")["containers"]
        nodes = request("GET", "/v1/nodes")["nodes"]
        gpus = [gpu["held_by"] for node in nodes for gpu in node["gpus"] if gpu["held_by"]]
        sleeping = [command for command in marked(mark).values() if command.startswith("sleep")]
        return [*apps, *containers, *gpus, *sleeping]

    until(lambda: not held(), "the end of everything that was held")


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def test_containers_are_killed(start, mark):
    chance = random.Random(SEED)
    app = start_work(start)
    work = Map(app)
    work.start()
    killed = 0
    while killed < KILLS:
        work.wait_for_progress(chance.randint(1, 40))
        time.sleep(chance.uniform(0, 0.01))
        rows = request("GET", "/v1/containers")["containers"]
        victims = [pid for row in rows for pid in row["host_pids"]]  # the container, and what watches over it
        killed += bool(victims) and kill(chance.choice(victims))
    work.finish()
    summary = app.run.close()
    assert summary.inputs == len(work.answered)
    assert_nothing_is_held(mark)


def test_the_server_is_killed(start, mark):
    chance = random.Random(SEED + 1)
    app = start_work(start)
    work = Map(app)
    work.start()
    pids = set()
    while len(pids) < KILLS:
        # Sometimes the next one dies before anything came of it, but not for ever.
        if len(pids) % 5 != 4:
            work.wait_for_progress(chance.randint(1, 40))
        time.sleep(chance.uniform(0, 0.05))
        pid = app.client.server_pid
        if pid not in pids and kill(pid):
            pids.add(pid)
    work.finish()
    app.run.close()
    assert_nothing_is_held(mark)
    # Nothing of any of the servers before is left: no zygote, no container.
    server = app.client.server_pid
    until(
        lambda: {ancestor_of(pid) for pid in marked(mark)} == {server},
        "the end of earlier servers' processes",
    )


def ancestor_of(pid: int) -> int:
    """The ancestor whose parent is nobody's here: the server a process belongs to."""
    while True:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
            with open(f"/proc/{parent}/cmdline", "rb") as cmdline:
                named = cmdline.read()
        except OSError:
            return pid
        if b"glowplug" not in named and b"bwrap" not in named:
            return pid
        pid = parent


def test_the_client_is_killed(start, mark):
    chance = random.Random(SEED + 2)
    for _ in range(KILLS):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            be_a_client(start, writing)
        os.close(writing)
        try:
            if chance.random() < 0.8:  # else it dies while it connects or opens its app
                assert os.read(reading, 1) == b"1"
            time.sleep(chance.uniform(0, 0.3))
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reading)
    settings = read_settings()
    try:
        server = request("GET", "/v1/status", settings=settings)["pid"]
    except errors.ConnectionError:
        return  # every client died before it had a server
    assert_nothing_is_held(mark)
    # The same server serves the next one.
    app = start(WORK, work={})
    assert app.remote("work", 1)[0] == 1
    assert app.client.server_pid == server


def be_a_client(start: AppStarter, begun: int) -> None:
    """The life of a client until it is killed."""
    try:
        app = start_work(start)
        call = app.run.call(app.run.function_ids["work"])
        call.add([pack(((number,), {})) for number in range(20_000)])
        call.next()
        os.write(begun, b"1")
        while True:
            call.next()
    finally:
        os._exit(1)
