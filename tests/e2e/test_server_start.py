"""Finding and starting the server: dead sockets, races, other builds and configurations, places that are no
good. Every failure is one clear error, and the next command works."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from e2e.conftest import SOURCE, stop_server
from glowplug.client import launch
from glowplug.client.launch import connect, dial_server, start_server
from glowplug.client.session import AppSpec, Client
from glowplug.client.settings import Settings, make_private_directory, read_settings
from glowplug.model import errors

RACERS = 20


class Silent:
    def on_log(self, line) -> None: ...

    def on_notice(self, level: str, text: str) -> None: ...

    def on_waiting(self, function: str, text: str | None) -> None: ...

    def on_build(self, event: object) -> None: ...


@pytest.fixture
def settings(server_env, monkeypatch) -> Settings:
    for name, value in server_env.items():
        monkeypatch.setenv(name, value)
    return read_settings()


def pid_of_server(settings: Settings) -> int:
    sock, (pid, _) = dial_server(settings)
    sock.close()
    return pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until_gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(20_000), f"process {pid} is still there"
    os.close(descriptor)


def test_a_second_command_finds_the_first_ones_server(settings):
    assert pid_of_server(settings) == pid_of_server(settings)


def test_the_server_is_no_child_of_its_starter(settings):
    """A long-lived starter would otherwise collect a dead process when the server ends."""
    pid = pid_of_server(settings)
    with open(f"/proc/{pid}/stat") as stat:
        parent = int(stat.read().rpartition(")")[2].split()[1])
    assert parent != os.getpid()


@pytest.mark.parametrize("what", ["dead socket", "file"])
def test_what_lies_at_the_sockets_place_is_replaced(settings, what):
    make_private_directory(settings.runtime_directory)
    if what == "file":
        settings.socket_path.write_text("left behind")
    else:
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(settings.socket_path))
        dead.close()
    assert is_alive(pid_of_server(settings))


def test_after_a_killed_server_the_next_command_has_another(settings):
    first = pid_of_server(settings)
    os.kill(first, signal.SIGKILL)
    until_gone(first)
    assert settings.socket_path.exists()
    second = pid_of_server(settings)
    assert second != first
    assert is_alive(second)


def test_many_starters_at_once_get_one_server(settings):
    reading, writing = os.pipe()
    children = []
    for _ in range(RACERS):
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writing, b"%d\n" % pid_of_server(settings))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(pid)
    os.close(writing)
    with open(reading) as told:
        pids = told.read().split()
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * RACERS
    assert len(pids) == RACERS
    assert len(set(pids)) == 1


# others


def start_app(name: str = "toy") -> Client:
    """A run without functions keeps its server busy."""
    client = Client.connect()
    client.start_app(AppSpec(name, []), Silent())
    return client


@pytest.fixture
def another_build(server_env, tmp_path) -> dict[str, str]:
    """The environment of the same code in another place."""
    shutil.copytree(SOURCE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    return {**server_env, "PYTHONPATH": str(tmp_path / "copy")}


def run_client(env: dict[str, str], code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)


PRINT_PID = "from glowplug.client.launch import dial_server; print(dial_server()[1][0])"


def test_an_idle_server_of_another_build_makes_room(settings, another_build):
    theirs = int(run_client(another_build, PRINT_PID).stdout)
    ours = pid_of_server(settings)
    assert ours != theirs
    until_gone(theirs)
    assert pid_of_server(settings) == ours


def test_a_busy_one_of_another_build_stays(settings, another_build):
    client = start_app("training")
    said = run_client(another_build, PRINT_PID)
    assert said.returncode != 0
    last = said.stderr.strip().splitlines()[-1]
    assert "VersionError" in last
    assert f"pid {client.server_pid}" in last
    assert "training" in last
    assert "glowplug server stop" in last
    assert is_alive(client.server_pid)
    client.close()


def test_an_idle_server_of_another_configuration_makes_room(settings, monkeypatch):
    first = pid_of_server(settings)
    monkeypatch.setenv("GLOWPLUG_GPUS", "1xH100")
    second = pid_of_server(read_settings())
    assert second != first
    until_gone(first)


def test_a_busy_one_is_a_conflict_that_names_both(settings, monkeypatch):
    client = start_app("training")
    monkeypatch.setenv("GLOWPLUG_GPUS", "1xH100")
    with pytest.raises(errors.ConflictError) as caught:
        dial_server()
    for part in (
        "GLOWPLUG_GPUS=2xT4",
        "GLOWPLUG_GPUS=1xH100",
        "training",
        f"pid {client.server_pid}",
        "--force",
    ):
        assert part in str(caught.value)
    monkeypatch.delenv("GLOWPLUG_GPUS")
    with pytest.raises(errors.ConflictError, match="no GLOWPLUG_GPUS"):
        dial_server()
    client.close()


def test_a_server_that_does_not_answer_is_said_to(settings, monkeypatch):
    pid = pid_of_server(settings)
    os.kill(pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(launch, "HELLO_TIMEOUT_S", 0.2)
        with pytest.raises(errors.ConnectionError, match=r"did not answer.*--force"):
            dial_server(settings)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert pid_of_server(settings) == pid


def test_something_else_that_answers_is_no_server(settings, monkeypatch):
    make_private_directory(settings.runtime_directory)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(settings.socket_path))
        other.listen()
        pid = os.fork()
        if pid == 0:
            end, _ = other.accept()
            end.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
            end.recv(1)
            os._exit(0)
        try:
            with pytest.raises(errors.ConnectionError, match=r"no Glowplug server|not a Glowplug"):
                dial_server(settings)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


# places


@pytest.fixture
def homed(server_env, monkeypatch):
    """``homed(path)``: settings with that home."""
    made = []

    def make(home: Path) -> Settings:
        for name, value in server_env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("GLOWPLUG_HOME", str(home))
        made.append(read_settings())
        return made[-1]

    yield make
    for each in made:
        stop_server(each)


def test_a_home_that_cannot_be_made(homed, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(errors.ConnectionError, match=r"file/home.*GLOWPLUG_HOME"):
        dial_server(homed(tmp_path / "file" / "home"))


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written(homed, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(errors.ConnectionError, match=r"closed.*GLOWPLUG_HOME"):
        dial_server(homed(tmp_path / "closed"))


@pytest.fixture
def full_disk(tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can mount a disk to fill")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr}")
    try:
        with pytest.raises(OSError, match="No space"):
            (place / "filler").write_bytes(b"x" * (1 << 20))
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_as_home(homed, full_disk):
    """It runs, or says why not; it does not hang and shows no traceback."""
    settings = homed(full_disk)
    try:
        sock, _ = dial_server(settings)
    except errors.ConnectionError as error:
        said = str(error)
    else:
        said = "it runs all the same, the disk is full or not"
        sock.close()
    assert "disk is full" in said
    assert "Traceback" not in said


@pytest.fixture
def broken_start(tmp_path, monkeypatch, settings):
    """``broken_start(code)``: every server runs ``code`` before anything else."""

    def make(code: str) -> Settings:
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(
            f"import os, sys, time\nif 'glowplug.assembly.local_server' in sys.orig_argv:\n    {code}\n"
        )
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{SOURCE}")
        return settings

    return make


def test_a_server_that_dies_at_its_start_is_shown_by_its_log(broken_start):
    broken = broken_start("os.write(2, b'the driver took me down\\n'); os._exit(3)")
    with pytest.raises(errors.ConnectionError, match="the driver took me down"):
        start_server(broken)


def test_only_what_this_start_wrote_is_shown(broken_start):
    broken = broken_start("os.write(2, b'%d\\n' % time.time_ns()); os._exit(3)")
    broken.home.mkdir()
    broken.server_log_path.write_text("an error of last week\n")
    with pytest.raises(errors.ConnectionError) as caught:
        start_server(broken)
    assert "last week" not in str(caught.value)


def test_one_that_never_comes_up_is_ended(broken_start, monkeypatch):
    monkeypatch.setattr(launch, "START_TIMEOUT_S", 1.0)
    broken = broken_start("time.sleep(1000)")
    with pytest.raises(errors.ConnectionError, match="not ready within"):
        start_server(broken)
    assert connect(broken) is None


def test_a_configuration_it_cannot_serve_is_told_in_its_words(settings, monkeypatch):
    monkeypatch.setenv("GLOWPLUG_GPUS", "2xT5000")
    with pytest.raises(errors.Error, match="T5000") as caught:
        dial_server(read_settings())
    assert "Traceback" not in str(caught.value)
    monkeypatch.setenv("GLOWPLUG_GPUS", "2xT4")
    assert is_alive(pid_of_server(read_settings()))
