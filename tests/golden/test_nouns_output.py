"""What the commands about plans, apps, nodes, stories and the server print; the HTTP API's description."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import glowplug.client.http
from glowplug.cli import app, explain, node, plan, server, table
from glowplug.client.settings import read_settings
from glowplug.model.function import FunctionSpec
from glowplug.model.gpu import parse_gpu
from glowplug.server.http import api, openapi

NOW = 1_795_000_000.0
STATUS = {
    "pid": 4711,
    "version": "0.1.0",
    "build_id": "ab",
    "started_at": NOW - 7300,
    "uptime_s": 7300.0,
    "banner": "REAL 2× RTX-4090",
    "config": {},
    "config_digest": "of another configuration",
    "home": "/home/ann/.local/share/glowplug",
    "socket": "/run/user/1000/glowplug/glowplug-0123.sock",
    "busy": True,
    "apps": [{"app_id": "ap-1", "name": "train"}],
    "containers": 3,
}
APP = {
    "app_id": "ap-0123456789abcdef",
    "name": "train",
    "state": "running",
    "detached": False,
    "connected": True,
    "started_at": NOW - 65,
    "ended_at": None,
    "reason": "",
    "functions": 2,
    "containers": 3,
    "queued": 12,
    "running": 2,
    "inputs": 1000,
    "attempts": 1003,
    "rerun": 3,
    "gpu_seconds": {"RTX-4090": 118.25},
    "cost_usd": 0.0128,
}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """``run(command, *arguments, answer=...)``: what it prints when the server gives that answer."""
    monkeypatch.setenv("GLOWPLUG_HOME", str(tmp_path))
    monkeypatch.setenv("GLOWPLUG_GPUS", "2xT4")
    monkeypatch.setattr("time.time", lambda: NOW)

    def run(command, *arguments, answer, exit_code=0):
        monkeypatch.setattr(glowplug.client.http, "request", lambda *args, **options: answer)
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == exit_code, result.output
        return result.output.replace(str(tmp_path), "/home/ann/.local/share/glowplug")

    return run


def test_the_api_is_described(golden):
    described = openapi.describe(api.ROUTES, api.Failure)
    golden("openapi.json", json.dumps(described, indent=1, ensure_ascii=False) + "\n")


def test_apps(run, golden):
    ended = {
        **APP,
        "app_id": "ap-fedcba9876543210",
        "name": "render",
        "state": "ended",
        "ended_at": NOW - 90_000,
        "started_at": NOW - 93_600,
        "reason": "the run ended",
        "containers": 0,
        "queued": 0,
        "running": 0,
        "inputs": 4,
        "gpu_seconds": {},
    }
    detached = {**ended, "state": "running", "detached": True, "ended_at": None, "started_at": NOW - 4000}
    golden("cli/app_list.txt", run(app.app, "list", "--all", answer={"apps": [APP, detached, ended]}))
    assert run(app.app, "list", answer={"apps": []}).startswith("no app runs; `glowplug app list --all`")
    assert json.loads(run(app.app, "list", "--json", answer={"apps": [APP]})) == [APP]


def test_the_server(run, golden):
    golden("cli/server_status.txt", run(server.server, "status", answer=STATUS))
    assert json.loads(run(server.server, "status", "--json", answer=STATUS))["running"] is True


def test_nodes(run, golden, monkeypatch):
    from glowplug.cli import fleet

    gpu = {
        "type": "A100",
        "memory_gb": 80,
        "is_slice": False,
        "healthy": True,
        "foreign": [],
        "locked_by": "",
    }
    free, held = {**gpu, "held_by": None}, {**gpu, "held_by": {"app": "train"}}
    part = {**free, "memory_gb": 20, "is_slice": True}
    nodes = [
        {
            "id": "box-1",
            "gpus": [held, held, free],
            "labels": {"cloud": "gcp"},
            "containers": 2,
            "draining": "",
        },
        {"id": "box-2", "gpus": [part], "labels": {}, "containers": 0, "draining": "a new disk"},
    ]
    monkeypatch.setattr(fleet, "load_fleet", lambda: {"banner": "REAL 3× A100-80GB", "nodes": nodes})
    golden("cli/node_list.txt", run(node.node, "list", answer=None))
    assert json.loads(run(node.node, "list", "--json", answer=None)) == nodes


def test_draining(run):
    answer = {"node_id": "box-1", "draining": "x", "containers": []}
    assert run(node.node, "drain", "box-1", answer=answer) == (
        "box-1 is empty; nothing starts there until `glowplug node undrain box-1`\n"
    )
    busy = {**answer, "containers": [{"container_id": "ct-1"}]}
    assert run(node.node, "drain", "box-1", "--grace", "2m", "--no-wait", answer=busy) == (
        "box-1 drains; 120 s for 1 container\n"
    )
    assert "'soon' is no time" in run(
        node.node, "drain", "box-1", "--grace", "soon", answer=busy, exit_code=2
    )


def test_a_story(run, golden):
    answer = {
        "subject": "fu-1-0",
        "kind": "function",
        "now": "fit of train: 2 inputs running, 12 waiting, 2 containers",
        "waiting": {
            "text": "all 2 GPUs are in use",
            "code": "gpu-busy",
            "unblocks": "one of them becomes free",
        },
        "story": ["+0.000 s  app train started", "          → start ct-1 on box-1"],
    }
    golden("cli/explain.txt", run(explain.explain, "fit", answer=answer))
    still = {**answer, "waiting": None, "story": []}
    assert run(explain.explain, "fit", answer=still) == (
        "function fu-1-0: fit of train: 2 inputs running, 12 waiting, 2 containers\n"
    )


def test_a_plan(golden, tmp_path):
    """Of a real, virtual fleet, with every kind of remark."""
    settings = read_settings(
        {
            "GLOWPLUG_HOME": str(tmp_path),
            "XDG_RUNTIME_DIR": str(tmp_path),
            "GLOWPLUG_GPUS": "2xA10G,1xT4;8xH100 @cloud=gcp",
        }
    )

    def spec(name, gpu=None, **options):
        return FunctionSpec("", "", name, gpu=parse_gpu(gpu) if gpu else (), **options)

    specs = [
        spec("embed", "any", max_containers=4),
        spec("train", "H100:8", min_containers=1),
        spec("serve", ["B200", "h100:2"]),
        spec("mapped", "L4", gpu_map={"L4": "T4"}),
        spec("impossible", "A10G:3"),
        spec("prepare"),
    ]
    found = plan.ask(settings, specs)
    golden("cli/plan.txt", "\n".join(plan.lines_of(found, specs)) + "\n")
    nothing = {"banner": "NO GPU", "functions": [], "gpus": {}, "note": ""}
    assert plan.lines_of(nothing, [])[-1] == "the script has no functions"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h 0 min"), (93_600, "1 d 2 h")],
)
def test_durations(seconds, text):
    assert table.duration(seconds) == text
