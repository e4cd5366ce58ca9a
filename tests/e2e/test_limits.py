"""cpu=, memory=, ephemeral_disk= and restrict_modal_access=: bounds that hold, and what is said at them."""

from __future__ import annotations

import pytest

from e2e.apps import sandboxed
from glowplug.backends.local import cgroups
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
