"""The nouns of a running server, asked over HTTP on its Unix socket. Synchronous, one request a connection.

A server's refusal is raised as the error it names, with the server's text.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glowplug.client.launch import dial_server
from glowplug.client.settings import Settings, read_settings
from glowplug.model import errors

ANSWER_TIMEOUT_S = 60.0
"""Stopping an app takes as long as its containers' exit handlers."""
OK = 200


class NoServerError(errors.ConnectionError):
    """No server runs for this home."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, socket_path: Path | str, timeout_s: float | None = ANSWER_TIMEOUT_S) -> None:
        super().__init__("localhost")
        self._socket_path = str(socket_path)
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self._timeout_s)
            self.sock.connect(self._socket_path)
        except OSError:
            self.sock.close()
            raise


def request(
    method: str,
    path: str,
    body: Any = None,
    start: bool = False,
    settings: Settings | None = None,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> Any:
    """The server's JSON answer. ``start``: have a server started, with the configuration asked for, if none
    runs.

    Raises ``NoServerError`` when none runs, ``ConnectionError`` when it does not answer, else what it refuses
    with.
    """
    settings = settings or read_settings()
    if start:
        sock, _ = dial_server(settings)
        sock.close()
    connection, response = _ask(settings, method, path, body, timeout_s)
    try:
        return _read(response, method, path)
    finally:
        connection.close()


def stream(path: str, settings: Settings | None = None) -> Iterator[Any]:
    """Asks at once; gives JSON lines as they come, until the server ends. Raises as ``request`` does."""
    connection, response = _ask(settings or read_settings(), "GET", path, None, None)
    if response.status != OK:
        try:
            _read(response, "GET", path)
        finally:
            connection.close()
    return _lines(connection, response, path)


def _lines(connection: UnixConnection, response: http.client.HTTPResponse, path: str) -> Iterator[Any]:
    try:
        for line in response:
            yield json.loads(line)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise errors.ConnectionError(f"the server broke off GET {path}: {error}") from None
    finally:
        connection.close()


def _ask(
    settings: Settings, method: str, path: str, body: Any, timeout_s: float | None
) -> tuple[UnixConnection, http.client.HTTPResponse]:
    connection = UnixConnection(settings.socket_path, timeout_s)
    try:
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        connection.request(method, path, content, headers)
        return connection, connection.getresponse()
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise NoServerError(
            f"no server runs for {settings.home}. `glowplug run` starts one, `glowplug server start` as "
            "well; GLOWPLUG_HOME names another home."
        ) from None
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise errors.ConnectionError(
            f"the server on {settings.socket_path} did not answer {method} {path}: "
            f"{error or type(error).__name__}. `glowplug server logs` may say why; `glowplug server stop "
            "--force` ends it."
        ) from None


def _read(response: http.client.HTTPResponse, method: str, path: str) -> Any:
    try:
        content = response.read()
        answer = (
            json.loads(content) if "json" in response.headers.get("content-type", "") else content.decode()
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise errors.ConnectionError(
            f"the server's answer to {method} {path} cannot be read: {error}"
        ) from None
    if response.status == OK:
        return answer
    if isinstance(answer, dict) and "error" in answer:
        raise errors.error_class(answer["error"])(answer.get("message", ""))
    raise errors.ServiceError(f"the server answered {method} {path} with {response.status}: {answer}")
