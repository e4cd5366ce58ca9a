"""The nouns over HTTP, of a real server on a real socket."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import msgspec
import pytest

from glowplug.client.http import NoServerError, request, stream
from glowplug.client.settings import read_settings
from glowplug.model.errors import ConflictError, InvalidError, NotFoundError
from glowplug.model.function import FunctionSpec
from glowplug.model.gpu import GpuRequest

T4 = {"gpu": (GpuRequest("T4"),)}
WAITS = """
def f(x):
    print("begun", x, flush=True)
    open("/gate/begun", "w").close()
    return open("/gate/go").read()

def quick(x):
    return x + 1
"""


@pytest.fixture
def begun(gate):
    """Waits until ``f`` runs."""
    path = gate("begun")
    return lambda: path.open().close()


@pytest.fixture
def go(gate):
    """Lets ``f`` return."""
    path = gate("go")
    return lambda: path.write_text("went")


@pytest.fixture
def waiting_app(start_app, begun, go):
    """An app whose ``f`` runs on a T4 until it may go."""
    app = start_app(WAITS, f=T4, quick={})
    call = app.spawn("f", 1)
    begun()
    return app, call


def test_what_a_server_says_of_itself(start_app, server_env):
    app = start_app(WAITS, quick={})
    assert app.remote("quick", 1) == 2
    status = request("GET", "/v1/status")
    settings = read_settings(server_env)
    assert (status["home"], status["socket"]) == (str(settings.home), str(settings.socket_path))
    assert (status["busy"], status["apps"]) == (True, [{"app_id": app.run.app_id, "name": "toy"}])
    assert status["config"] == {"GLOWPLUG_GPUS": "2xT4"}
    assert status["config_digest"] == settings.config_digest
    assert status["banner"].startswith("VIRTUAL 2× T4")
    assert status["pid"] == app.client.server_pid
    app.run.close()
    assert request("GET", "/v1/status")["busy"] is False


def test_nodes_name_who_holds_a_gpu(waiting_app, go):
    _, call = waiting_app
    (node,) = request("GET", "/v1/nodes")["nodes"]
    held, free = (gpu["held_by"] for gpu in node["gpus"])
    assert (held["app"], held["function"]) == ("toy", "f")
    assert held["user"]
    assert free is None
    (container,) = [each for each in request("GET", "/v1/containers")["containers"] if each["gpu_uuids"]]
    assert container["container_id"] == held["container_id"]
    assert container["gpu_uuids"] == [node["gpus"][0]["uuid"]]
    assert container["running"] == [f"in-{call.call_id[3:]}-0"]
    status = Path(f"/proc/{container['host_pids'][0]}/status").read_text()
    assert "\nNSpid:\t" + str(container["host_pids"][0]) in status
    go()
    assert call.next().status == "success"


def test_functions_say_what_waits_and_why(start_app, begun, go):
    app = start_app(WAITS, f={**T4, "max_containers": 1})
    call = app.spawn("f", 1, 2)
    begun()
    (row,) = request("GET", "/v1/functions?app=toy")["functions"]
    assert (row["running"], row["queued"], row["gpu"]) == (1, 1, ["T4"])
    assert row["waiting"]["code"] == "max-containers"
    explained = request("GET", "/v1/explain/f")
    assert explained["kind"] == "function"
    assert explained["waiting"] == row["waiting"]
    running, waiting = (request("GET", f"/v1/explain/in-{call.call_id[3:]}-{n}") for n in (0, 1))
    assert running["now"].startswith("running f in ct-")
    assert running["waiting"] is None
    assert waiting["waiting"]["code"] == "max-containers"
    assert any("accepted" in line for line in running["story"])
    of_call = request("GET", f"/v1/explain/{call.call_id}")
    assert of_call["now"].startswith("2 inputs of f")


def test_explaining_what_nobody_knows_names_what_is_near(start_app):
    start_app(WAITS, quick={})
    with pytest.raises(NotFoundError, match=r"nothing is known of 'quik'; there is quick"):
        request("GET", "/v1/explain/quik")


def test_a_plan_sees_what_runs(waiting_app, go):
    specs = [
        FunctionSpec("", "", "g", gpu=(GpuRequest("T4"),)),
        FunctionSpec("", "", "h", gpu=(GpuRequest("T4", count=2),)),
    ]
    planned = request("POST", "/v1/plan", {"functions": [spec.to_wire() for spec in specs]})
    g, h = planned["functions"]
    assert planned["virtual"] is True
    assert (g["starts_now"], g["gpu_count"], g["usd_per_hour"] > 0) == (True, 1, True)
    assert h["starts_now"] is False
    assert "f" in h["waits_for"]
    (node,) = request("GET", "/v1/nodes")["nodes"]
    assert g["gpu_uuids"] == [node["gpus"][1]["uuid"]]


def test_a_node_is_drained_and_used_again(waiting_app, begun, go):
    _, call = waiting_app
    (node,) = request("GET", "/v1/nodes")["nodes"]
    path = f"/v1/nodes/{node['id']}"
    drained = request("POST", f"{path}/drain", {"grace_s": 0, "reason": "a new disk"})
    assert drained["draining"] == "a new disk"
    (shown,) = request("GET", "/v1/nodes")["nodes"]
    assert shown["draining"] == "a new disk"
    assert request("POST", f"{path}/undrain")["draining"] == ""
    begun()
    go()
    output = call.next()
    assert output.status == "success"
    assert request("GET", "/v1/apps/toy")["rerun"] == 1


def test_a_drain_needs_a_node_and_a_time(start_app):
    start_app(WAITS, quick={})
    with pytest.raises(NotFoundError, match="no node is called 'box'; there is virtual-1"):
        request("POST", "/v1/nodes/box/drain", {})
    with pytest.raises(InvalidError, match="grace_s=-1"):
        request("POST", "/v1/nodes/virtual-1/drain", {"grace_s": -1})
    with pytest.raises(InvalidError, match=r"does not fit: Expected `float`.*openapi.json"):
        request("POST", "/v1/nodes/virtual-1/drain", {"grace_s": "soon"})


def test_an_app_is_listed_while_it_runs_and_after(waiting_app, go):
    app, call = waiting_app
    (row,) = request("GET", "/v1/apps")["apps"]
    assert (row["name"], row["state"], row["running"], row["connected"]) == ("toy", "running", 1, True)
    go()
    call.next()
    app.run.close()
    assert request("GET", "/v1/apps")["apps"] == []
    (ended,) = request("GET", "/v1/apps?ended=1")["apps"]
    assert (ended["app_id"], ended["state"], ended["reason"]) == (app.run.app_id, "ended", "the run ended")
    assert ended["inputs"] == 1
    assert ended["gpu_seconds"]["T4"] > 0


def test_an_app_that_is_stopped_fails_its_client_and_stays_ended(waiting_app):
    app, call = waiting_app
    stopped = request("POST", "/v1/apps/toy/stop", {"reason": "enough"})
    assert (stopped["state"], stopped["reason"], stopped["containers"]) == ("ended", "enough", 0)
    output = call.next()
    assert (output.status, output.error, output.message) == (
        "error",
        "ExecutionError",
        "app toy was stopped: enough",
    )
    later = app.spawn("f", 2).next()
    assert later.message == "app toy was stopped: enough"
    assert request("GET", "/v1/containers")["containers"] == []
    with pytest.raises(NotFoundError, match="no app 'toy' runs here"):
        request("POST", "/v1/apps/toy/stop", {})


def test_lines_are_followed_until_the_app_ends(waiting_app, go):
    app, call = waiting_app
    lines = stream("/v1/apps/toy/logs?follow=1")
    first = next(lines)
    assert (first["function"], first["stream"], first["text"]) == ("f", "stdout", "begun 1")
    assert first["input_id"] == f"in-{call.call_id[3:]}-0"
    go()
    call.next()
    app.run.close()
    assert list(lines) == []
    assert [line["text"] for line in stream(f"/v1/apps/{app.run.app_id}/logs")] == ["begun 1"]
    assert list(stream("/v1/apps/toy/logs?lines=0")) == []


def test_logs_of_what_is_not_there(start_app):
    start_app(WAITS, quick={})
    with pytest.raises(NotFoundError, match="no app 'tory' runs here; there is toy"):
        next(stream("/v1/apps/tory/logs"))
    with pytest.raises(NotFoundError, match="app toy has no function 'quack'; there is quick"):
        next(stream("/v1/apps/toy/logs?function=quack"))


def test_two_apps_of_one_name_are_told_apart_by_id(start_app):
    first = start_app(WAITS, quick={})
    second = start_app(WAITS, quick={})
    with pytest.raises(ConflictError) as refused:
        request("GET", "/v1/apps/toy")
    assert first.run.app_id in str(refused.value)
    assert second.run.app_id in str(refused.value)
    with pytest.raises(ConflictError, match="several functions are called 'quick'"):
        request("GET", "/v1/explain/quick")
    assert request("GET", f"/v1/apps/{second.run.app_id}")["app_id"] == second.run.app_id


def test_metrics_are_what_prometheus_reads(waiting_app, go):
    text = request("GET", "/metrics")
    assert 'glowplug_gpus{node="virtual-1",state="held",type="T4"} 1.0' in text
    assert 'glowplug_inputs_running{app="toy",function="f"} 1.0' in text
    assert 'glowplug_containers{app="toy",function="f",state="ready"} 1.0' in text


def test_what_the_api_answers_is_what_it_describes(waiting_app):
    described = request("GET", "/openapi.json")
    answers = {
        path: request("GET", path)
        for path, verbs in described["paths"].items()
        if "get" in verbs and "{" not in path and path != "/metrics"
    }
    assert len(answers) >= 5
    for path, answer in answers.items():
        content = described["paths"][path]["get"]["responses"]["200"]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert set(answer) == set(described["components"]["schemas"][name]["properties"]), path


def test_what_is_not_there_is_refused_in_the_same_words(start_app):
    start_app(WAITS, quick={})
    with pytest.raises(NotFoundError, match=r"GET /v2/nodes: not found; /openapi.json lists"):
        request("GET", "/v2/nodes")
    with pytest.raises(InvalidError, match="method not allowed"):
        request("DELETE", "/v1/nodes")
    with pytest.raises(InvalidError, match="ended='maybe' is neither 0 nor 1"):
        request("GET", "/v1/apps?ended=maybe")


def test_without_a_server_nothing_is_started(server_env, monkeypatch, tmp_path):
    for name, value in server_env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        NoServerError, match=rf"no server runs for {tmp_path}/home. `glowplug run` starts one"
    ):
        request("GET", "/v1/status")
    assert not os.path.exists(tmp_path / "home")
    assert request("GET", "/v1/status", start=True)["busy"] is False


def test_two_requests_on_one_connection(start_app, server_env):
    start_app(WAITS, quick={})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(read_settings(server_env).socket_path))
        sock.sendall(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
        sock.sendall(b"GET /v1/nodes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received = b""
        while part := sock.recv(65536):
            received += part
    bodies = [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK")[1:]]
    assert "uptime_s" in json.loads(bodies[0])
    assert "nodes" in msgspec.json.decode(bodies[1])
