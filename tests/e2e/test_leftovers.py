"""What a run has started ends with it, with a sandbox and without."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.apps import call, gate_of, outputs, sandboxed
from e2e.conftest import AppStarter, own_server
from e2e.processes import MARK, marked, until
from glowplug.backends.local import bubblewrap
from glowplug.model.gpu import GpuRequest

MODES = [pytest.param("auto", marks=sandboxed, id="sandboxed"), pytest.param("off", id="plain")]


# what is left of it


RUNAWAYS = """
import os, subprocess, sys, time
def leave(how):
    if how == "session":
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    elif how == "twice":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "1000"])
            os._exit(0)
        os.wait()
    elif how == "ignoring":
        subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; sleep 1000; sleep 1000"], start_new_session=True)
    elif how == "running":
        subprocess.Popen(["sleep", "1000"])
        open(os.environ["BEGUN"], "w").close()
        time.sleep(1000)
    return os.getpid()
"""


def sleepers(mark: str) -> list[str]:
    return [command for command in marked(mark).values() if command.startswith(("sleep ", "sh "))]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_a_run_has_started_outlives_it(mode, tmp_path, monkeypatch):
    mark, name = secrets.token_hex(8), secrets.token_hex(4)
    with own_server(tmp_path) as env:
        for variable, value in {**env, MARK: mark, "GLOWPLUG_SANDBOX": mode}.items():
            monkeypatch.setenv(variable, value)
        starter = AppStarter(tmp_path, str(tmp_path / "gate"))
        app = starter(RUNAWAYS, leave={"definition": {"env": {"BEGUN": f"{starter.gate_path}/{name}"}}})
        for how in ("session", "twice", "ignoring"):
            app.remote("leave", how)
        running = call(app, "leave", "running")
        until(gate_of(starter, name).exists, "the beginning")
        assert len(sleepers(mark)) >= 4
        began = time.monotonic()
        app.run.close()
        assert sleepers(mark) == []
        assert time.monotonic() - began < 30
        assert outputs(running, 1)[0].status == "error"
        starter.close()
    until(lambda: not marked(mark), "the end of all processes")


@pytest.mark.parametrize("mode", MODES)
def test_nothing_outlives_a_container_that_is_replaced(mode, tmp_path, monkeypatch):
    mark = secrets.token_hex(8)
    with own_server(tmp_path) as env:
        for variable, value in {**env, MARK: mark, "GLOWPLUG_SANDBOX": mode}.items():
            monkeypatch.setenv(variable, value)
        starter = AppStarter(tmp_path, str(tmp_path / "gate"))
        app = starter(
            f"""
import os, subprocess
def leave():
    if os.path.exists("{starter.gate_path}/again"):
        return "second"
    open("{starter.gate_path}/again", "w").close()
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    os.kill(os.getpid(), 9)
""",
            leave={},
        )
        assert app.remote("leave") == "second"
        until(lambda: sleepers(mark) == [], "the end of what the first one left")
        app.run.close()
        starter.close()


# without a sandbox


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppStarter]:
    with own_server(tmp_path) as env:
        for variable, value in {**env, "GLOWPLUG_SANDBOX": "off", "AWS_SECRET_ACCESS_KEY": "hunter2"}.items():
            monkeypatch.setenv(variable, value)
        starter = AppStarter(tmp_path, str(tmp_path / "gate"))
        yield starter
        starter.close()


def test_plain_processes_work_and_are_warned_of_once(plain):
    app = plain(
        f"""
import os
def f(x):
    with open("{plain.gate_path}/file", "a") as file:
        file.write(str(x))
    return x, sorted(os.environ), os.getcwd()
def g(): return 1
""",
        f={"gpu": (GpuRequest("T4"),)},
        g={},
    )
    value, variables, directory = app.remote("f", 3)
    assert value == 3
    assert "AWS_SECRET_ACCESS_KEY" not in variables
    assert os.path.basename(directory) == "script"
    app.remote("f", 4)
    app.remote("g")
    warnings = [text for level, text in app.sink.notices if level == "warning"]
    assert len(warnings) == 1
    assert "plain process" in warnings[0]
    assert "GLOWPLUG_SANDBOX" in warnings[0]
    assert (plain.directory / "home" / "network-file-systems" / "gate" / "file").read_text() == "34"
    app.run.close()
    again = plain("def f(): return 1", f={})
    assert again.remote("f") == 1
    assert len([text for level, text in again.sink.notices if "plain process" in text]) == 1


def test_a_sandboxed_run_is_not_warned(app):
    if not bubblewrap.probe().works:
        pytest.skip("no namespaces here")
    quiet = app("def f(): return 1", f={})
    assert quiet.remote("f") == 1
    assert quiet.sink.notices == []
