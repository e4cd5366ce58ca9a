"""cpu=, memory=, ephemeral_disk= and restrict_modal_access=: bounds that hold, and what is said at them."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from e2e.apps import sandboxed
from e2e.conftest import AppStarter, own_server, run_cli
from e2e.processes import until
from e2e.users import ordinary_place, ordinary_python, ordinary_user
from glowplug.backends.local import cgroups
from glowplug.cli.server import _running_pid
from glowplug.client.settings import read_settings
from glowplug.model import errors

grouped = pytest.mark.skipif(not cgroups.find()[0], reason="no control groups of our own here")

HOGS = {
    "heap": "return len(bytearray(512 << 20))",
    "a file in /tmp": "open('/tmp/large', 'wb').write(bytes(512 << 20))",
    "a file in /dev/shm": "open('/dev/shm/large', 'wb').write(bytes(512 << 20))",
    "a memory file": "os.write(os.memfd_create('large'), bytes(512 << 20))",
    "a child process": (
        "pid = os.fork()\n"
        "    if pid == 0:\n"
        "        bytearray(512 << 20)\n"
        "        os._exit(0)\n"
        "    os.waitpid(pid, 0); signal.pause()"
    ),
}


@grouped
@sandboxed
@pytest.mark.parametrize("kind", HOGS)
def test_more_memory_than_the_limit_ends_the_container(app, kind):
    hungry = app(
        f"import os, signal\ndef hog():\n    {HOGS[kind]}\ndef other(): return 'here'",
        hog={"definition": {"memory": (64, 128)}},
        other={},
    )
    said = r"ran out of memory and was killed: it used more than its limit of 128 MiB \(memory=\(64, 128\)\)"
    with pytest.raises(errors.RemoteError, match=said):
        hungry.remote("hog")
    assert hungry.remote("other") == "here"


@grouped
def test_a_function_within_its_limits(app):
    modest = app(
        "def f(): return len(bytearray(32 << 20))", f={"definition": {"memory": (64, 256), "cpu": (0.5, 1)}}
    )
    assert modest.remote("f") == 32 << 20
    [row] = json.loads(run_cli(["container", "list", "--json"], dict(os.environ)).stdout)
    assert row["memory_limit_mib"] == 256
    assert 0 < row["memory_mib"] < 256
    assert row["processes"] >= 2


@grouped
def test_cores_are_bounded_by_the_kernel(app, start):
    """What the quota took is counted by the kernel: no clock decides."""
    busy = app(
        """
import time
def burn():
    while time.process_time() < 1:
        pass
    return time.process_time()
""",
        burn={"definition": {"cpu": (0.2, 0.5)}},
    )
    assert busy.remote("burn") >= 1
    name = cgroups.name_of(start.directory / "home")
    stat = [path.read_text() for each in cgroups.find()[0] for path in each.base.glob(f"{name}/*/cpu.stat")]
    assert any("nr_throttled 0" not in text for text in stat)


def test_more_than_the_machine_has_is_refused_at_the_start(app):
    with pytest.raises(errors.InvalidError, match="asks for memory=1000000000 MiB, and no machine here has"):
        app("def f(): pass", f={"definition": {"memory": (1e9, None)}})


def test_no_access_to_the_server(app):
    restricted = app(
        """
from glowplug.client import context
def f():
    try:
        context.current_run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
""",
        f={"definition": {"restrict_modal_access": True}},
    )
    assert "PermissionDeniedError: this container has no connection" in restricted.remote("f")
    assert "restrict_modal_access=True" in restricted.remote("f")


SMALL_ROOT = """
def fill(path):
    with open(path, "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
"""


@sandboxed
@pytest.mark.parametrize("path", ["/tmp/large", "/root/large", "/var/tmp/large", "large"])
def test_what_a_container_writes_is_bounded(app, path):
    small = app(SMALL_ROOT, fill={"definition": {"ephemeral_disk": 16}})
    with pytest.raises(OSError, match="No space left"):
        small.remote("fill", path)
    assert any("ephemeral_disk=" in line.text for line in small.sink.lines)


@sandboxed
def test_a_large_ephemeral_disk_is_on_disk_watched_and_removed(app, start):
    on_disk = app(
        """
import os, signal
def write(mib):
    for path in ("/tmp/file", "beside"):
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, mib << 20)
    if mib > 300:
        signal.pause()
    return os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize >> 20
""",
        write={"definition": {"ephemeral_disk": 600}, "max_containers": 1},
    )
    assert on_disk.remote("write", 1) > 600, "it is not in memory"
    scratch = start.directory / "home" / "scratch"
    assert len(list(scratch.glob("*/*"))) == 1
    with pytest.raises(
        errors.RemoteError, match=r"it wrote 8\d+ MiB, more than its ephemeral_disk=600; raise"
    ):
        on_disk.remote("write", 400)
    on_disk.run.close()
    until(lambda: not list(scratch.glob("*/*")), "the end of what it wrote")


WATCHED = """
import json, os, signal
import modal

app = modal.App("watched")
BOUND = (64, 192)


@app.function(memory=BOUND)
def heap():
    held = bytearray(512 << 20)
    signal.pause()


@app.function(memory=BOUND)
def file():
    with open("/tmp/large", "wb") as large:
        large.write(bytes(128 << 20))
        large.write(bytes(128 << 20))
    signal.pause()


@app.function(memory=BOUND)
def memory_file():
    fd = os.memfd_create("large")
    os.posix_fallocate(fd, 0, 512 << 20)
    import mmap
    mapped = mmap.mmap(fd, 512 << 20)
    for at in range(0, 512 << 20, 4096):
        mapped[at] = 1
    signal.pause()


@app.function()
def other():
    return "here"


@app.local_entrypoint()
def main():
    said = {}
    for function in (heap, file, memory_file):
        try:
            function.remote()
        except Exception as error:
            said[function.name] = str(error)
    said["other"] = other.remote()
    print(json.dumps(said))
"""


@sandboxed
def test_memory_is_bounded_for_an_ordinary_user():
    """Who may use no control groups has containers that are looked at."""
    with ordinary_place() as place, ordinary_user(place) as how:
        (place / "scripts" / "watched.py").write_text(WATCHED)
        command = [ordinary_python(how), "-m", "glowplug.cli.main", "run", "scripts/watched.py"]
        done = subprocess.run(command, check=False, **how)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("other") == "here"
    assert sorted(said) == ["file", "heap", "memory_file"]
    for text in said.values():
        assert "ran out of memory and was killed: it used" in text
        assert "more than its limit of 192 MiB (memory=(64, 192)); raise the limit in memory=" in text


def test_a_volume_without_a_sandbox_is_no_link_that_stays(tmp_path, monkeypatch):
    path = tmp_path / "seen"
    with own_server(tmp_path) as env:
        for name, value in {**env, "GLOWPLUG_SANDBOX": "off"}.items():
            monkeypatch.setenv(name, value)
        starter = AppStarter(tmp_path, gate_path=str(path))
        app = starter("def write(where): open(where + '/file', 'w').close()", write={})
        app.remote("write", str(path))
        assert path.is_symlink()
        starter.close()
        assert run_cli(["server", "stop"], dict(os.environ)).returncode == 0
        until(lambda: not path.is_symlink(), "the end of the link")


@grouped
@sandboxed
def test_a_killed_server_leaves_no_groups_behind_for_long(tmp_path, monkeypatch):
    def groups() -> set[str]:
        name = cgroups.name_of(tmp_path / "home")
        return {path.name for each in cgroups.find()[0] for path in each.base.glob(f"{name}/*/")}

    with own_server(tmp_path) as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        starter = AppStarter(tmp_path)
        starter("def f(): pass", f={"min_containers": 1}).remote("f")
        before = groups()
        assert before
        pid = _running_pid(read_settings(env))
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        starter.close()
        again = AppStarter(tmp_path)
        again("def g(): pass", g={}).remote("g")
        assert not before & groups()
        again.close()
        assert run_cli(["server", "stop"], dict(os.environ)).returncode == 0
        until(lambda: not groups(), "the end of all groups")
