"""The commands about plans, apps, nodes and the server, as a user runs them, against real servers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from e2e.conftest import run_cli
from glowplug.client.http import request, stream
from glowplug.client.settings import read_settings

SCRIPT = """
import modal

app = modal.App("toy")

@app.function(gpu="T4")
def on_card(x):
    print("on a card", x)
    return x * 2

@app.function(gpu="A100")
def elsewhere():
    pass

@app.function()
def waits():
    print("begun")
    import time
    time.sleep(3600)

@app.local_entrypoint()
def main(hold: bool = False):
    print(on_card.remote(21))
    if hold:
        waits.remote()
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "toy.py"
    path.write_text(SCRIPT.replace('"A100"', '"T4"'))
    return str(path)


@pytest.fixture
def holding(script, server_env, monkeypatch):
    """`glowplug run` with a function that does not return, once that has begun."""
    for name, value in server_env.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "glowplug.cli.main", "run", "-q", script, "--hold"]
    run = subprocess.Popen(command, env=server_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    lines = [run.stdout.readline() for _ in range(3)]
    assert lines == ["on a card 21\n", "42\n", "begun\n"]
    yield run
    run.kill()
    run.communicate()


def test_a_plan_needs_no_server_and_starts_none(cli, tmp_path):
    (tmp_path / "toy.py").write_text(SCRIPT)
    planned = cli("plan", "toy.py")
    assert planned.returncode == 1, planned.stderr
    assert "on_card" in planned.stdout
    assert "elsewhere: function elsewhere asks for gpu='A100': no machine has an A100" in planned.stdout
    one = cli("plan", "toy.py::elsewhere", "--json", "--gpu-map", "A100=T4")
    (function,) = json.loads(one.stdout)["functions"]
    assert one.returncode == 0
    assert (function["gpu_type"], function["starts_now"]) == ("T4", True)
    assert not (tmp_path / "home").exists()
    missing = cli("plan", "toy.py::nothing")
    assert missing.returncode == 1
    assert "has no function 'nothing'; it has: on_card, elsewhere, waits" in missing.stderr


def test_an_error_of_the_script_is_shown_as_its_own(cli, tmp_path):
    (tmp_path / "broken.py").write_text("import modal\n\napp = modal.App()\n1 / 0\n")
    planned = cli("plan", "broken.py")
    assert planned.returncode == 1
    assert planned.stderr.splitlines()[1].strip().endswith('broken.py", line 4, in <module>')
    assert "ZeroDivisionError" in planned.stderr


def test_a_plan_asks_the_server_that_a_run_would_use(cli, holding, script):
    asked = json.loads(cli("plan", script, "--json").stdout)
    assert asked["server"] is True
    other = cli("plan", script, "--json", GLOWPLUG_GPUS="8xT4")
    assert json.loads(other.stdout)["server"] is False
    assert json.loads(other.stdout)["functions"][0]["most_containers"] == 8
    assert "busy with toy" in json.loads(other.stdout)["note"]


def test_an_app_is_listed_read_and_stopped(cli, holding):
    (listed,) = json.loads(cli("app", "list", "--json").stdout)
    assert (listed["name"], listed["state"], listed["running"]) == ("toy", "running", 1)
    assert cli("app", "logs", "toy").stdout == "on a card 21\nbegun\n"
    assert cli("app", "logs", "toy", "--function", "waits", "-n", "1").stdout == "begun\n"
    (row,) = [line for line in cli("app", "list").stdout.splitlines() if "toy" in line]
    assert listed["app_id"] in row
    stopped = cli("app", "stop", "toy")
    assert stopped.stdout == f"app toy ({listed['app_id']}) ended; nothing of it runs any more\n"
    _, told = holding.communicate()
    assert holding.returncode == 1
    assert told.splitlines()[0] == "glowplug: app toy was stopped: stopped with `glowplug app stop`"
    ended = cli("app", "list", "--all").stdout
    assert "ended: stopped with `glowplug app stop`" in ended


def test_a_busy_server_is_stopped_with_force_only(cli, holding, server_env):
    refused = cli("server", "stop")
    assert refused.returncode == 1
    assert "is busy with toy" in refused.stderr
    assert "glowplug server stop --force" in refused.stderr
    pid = request("GET", "/v1/status")["pid"]
    (container,) = [each for each in request("GET", "/v1/containers")["containers"] if each["running"]]
    assert container["function"] == "waits"
    stopped = cli("server", "stop", "--force")
    assert stopped.stdout == f"the server (pid {pid}) ended\n"
    _, told = holding.communicate()
    assert holding.returncode == 1
    assert told.splitlines()[0] == "glowplug: app toy was stopped: the server was stopped"
    status = cli("server", "status")
    assert status.returncode == 1
    assert status.stdout.startswith(f"no server runs for {server_env['GLOWPLUG_HOME']}")
    assert not read_settings(server_env).socket_path.exists()


def test_a_server_is_started_looked_at_and_ended(cli, server_env):
    nobody = cli("server", "stop")
    assert (nobody.returncode, nobody.stdout) == (0, f"no server runs for {server_env['GLOWPLUG_HOME']}\n")
    assert json.loads(cli("server", "status", "--json").stdout)["running"] is False
    assert "there is no log yet" in cli("server", "logs").stderr
    started = cli("server", "start")
    assert started.stdout.startswith("the server runs (pid ")
    assert started.stdout.endswith("): VIRTUAL 2× T4: functions run on the CPU\n")
    assert cli("server", "start").stdout == started.stdout
    status = json.loads(cli("server", "status", "--json").stdout)
    assert (status["running"], status["busy"]) == (True, False)
    shown = cli("server", "status", GLOWPLUG_GPUS="8xH100").stdout
    assert (
        "note        this shell asks for GLOWPLUG_GPUS=8xH100: a `glowplug run` from here replaces" in shown
    )
    assert f"(pid {status['pid']}): VIRTUAL 2× T4" in cli("server", "logs").stdout
    assert cli("server", "stop").returncode == 0
    assert cli("server", "logs", "-n", "1").stdout.endswith(" ended\n")


def test_what_needs_a_server_says_how_to_get_one(cli, server_env):
    for arguments in (
        ("app", "list"),
        ("app", "stop", "x"),
        ("app", "logs", "x"),
        ("explain", "f"),
        ("node", "drain", "x"),
    ):
        refused = cli(*arguments)
        assert refused.returncode == 1, arguments
        assert refused.stdout == ""
        assert refused.stderr.startswith(
            f"glowplug: no server runs for {server_env['GLOWPLUG_HOME']}. `glowplug run`"
        )


def test_a_node_is_listed_drained_and_used_again(cli, holding):
    (node,) = json.loads(cli("node", "list", "--json").stdout)
    assert (node["id"], node["containers"]) == ("virtual-1", 2)
    drained = cli("node", "drain", "virtual-1", "--grace", "0")
    assert drained.stdout.splitlines()[-1] == (
        "virtual-1 is empty; nothing starts there until `glowplug node undrain virtual-1`"
    )
    assert "draining: drained with `glowplug node drain`" in cli("node", "list").stdout
    assert request("GET", "/v1/explain/waits")["waiting"]["code"] == "draining"
    explained = cli("explain", "waits").stdout.splitlines()
    assert explained[0].startswith("function fu-")
    assert explained[1].startswith("waits: ")
    lines = stream("/v1/apps/toy/logs?follow=1&lines=0")
    assert cli("node", "undrain", "virtual-1").stdout == "virtual-1 takes containers again\n"
    assert next(lines)["text"] == "begun"
    lines.close()


def test_gpus_of_a_running_server_name_their_holder(start_app, cli):
    from glowplug.model.gpu import GpuRequest

    app = start_app("def f(x):\n    return x\n", f={"gpu": (GpuRequest("T4"),)})
    assert app.remote("f", 1) == 1
    assert "held by toy.f (ct-" in cli("gpus").stdout


@pytest.mark.parametrize(
    "command",
    [("plan",), ("app", "logs"), ("app", "list"), ("node", "drain"), ("explain",), ("server", "stop")],
)
def test_help_shows_an_example(cli, command, server_env):
    shown = run_cli([*command, "--help"], server_env).stdout
    assert "Example:" in shown
    assert f"glowplug {' '.join(command)}" in shown.partition("Example:")[2]
