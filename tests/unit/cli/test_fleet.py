"""Where ``glowplug gpus`` learns the fleet from."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from glowplug.cli.fleet import ask_server, load_fleet
from glowplug.client.settings import read_settings


@pytest.fixture
def settings(tmp_path):
    home = tmp_path / "home"
    return read_settings(
        {"HOME": "/", "GLOWPLUG_HOME": str(home), "XDG_RUNTIME_DIR": str(tmp_path), "GLOWPLUG_GPUS": "2xH100"}
    )


@pytest.fixture
def server(settings):
    """A server that gives one answer: its status line and JSON."""
    settings.socket_path.parent.mkdir(parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(settings.socket_path))
    listening.listen()
    threads = []

    def answer(body, status="200 OK"):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()

        def serve():
            connection, _ = listening.accept()
            with connection:
                asked.append(connection.recv(65536).split(b"\r\n")[0].decode())
                head = f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + raw)

        asked: list[str] = []
        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return asked

    yield answer
    for thread in threads:
        thread.join()
    listening.close()


def test_from_the_server(settings, server):
    shown = {"banner": "REAL 1× H100", "nodes": [], "config_digest": settings.config_digest}
    asked = server(shown)
    assert load_fleet(settings) == shown
    assert asked == ["GET /v1/nodes HTTP/1.1"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"banner": "REAL", "nodes": [], "config_digest": "other"}, "200 OK"),
        ({}, "404 Not Found"),
        (b"not json", "200 OK"),
    ],
)
def test_from_the_inventory_when_the_server_cannot_say(settings, server, body, status):
    server(body, status)
    shown = load_fleet(settings)
    assert shown["banner"].startswith("VIRTUAL 2× H100")
    assert [gpu["held_by"] for gpu in shown["nodes"][0]["gpus"]] == [None, None]


def test_without_a_server(settings):
    assert load_fleet(settings)["banner"].startswith("VIRTUAL 2× H100")


def test_the_socket_of_a_dead_server(settings):
    settings.socket_path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(settings.socket_path))
    assert ask_server(settings.socket_path, "/v1/nodes") is None
