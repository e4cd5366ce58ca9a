"""The nouns of a running server, asked over HTTP on its Unix socket. Synchronous, one request a connection.

A server's refusal is raised as the error it names, with the server's text.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from glowplug.client import context
from glowplug.client.launch import dial_server
from glowplug.client.settings import Settings, read_settings
from glowplug.model import errors

ANSWER_TIMEOUT_S = 60.0
"""Stopping an app takes as long as its containers' exit handlers."""
UPLOAD_ANSWER_TIMEOUT_S = 600.0
"""A commit waits for the disk, and for the one before it."""
OK = 200
UPLOAD_CHUNK_BYTES = 1 << 20


class NoServerError(errors.ConnectionError):
    """No server runs for this home."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, socket_path: Path | str, timeout_s: float | None = ANSWER_TIMEOUT_S) -> None:
        super().__init__("localhost")
        self._socket_path = str(socket_path)
        self._timeout_s = timeout_s

    def connect(self) -> None:
        run = context.current_run()
        if run is not None:  # inside a container: over its own connection, for what it may ask
            self.sock = run.client.open_http()
            self.sock.settimeout(self._timeout_s)
            return
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
    if start and context.is_local():
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


class LineStream:
    """JSON lines in answer to a request with a body. ``close`` ends it from any thread: the server sees that
    nobody waits any more."""

    def __init__(self, method: str, path: str, body: Any, settings: Settings | None = None) -> None:
        self._method = method
        self._path = path
        self._body = body
        self._settings = settings or read_settings()
        self._closed = False
        self._socket: socket.socket | None = None

    def __iter__(self) -> Iterator[Any]:
        connection, response = _ask(
            self._settings, self._method, self._path, self._body, None, on_connect=self._connected
        )
        if response.status != OK:
            try:
                _read(response, self._method, self._path)
            finally:
                connection.close()
        return _lines(connection, response, self._path, self._method)

    def close(self) -> None:
        self._closed = True
        if self._socket is not None:
            _shut(self._socket)

    def _connected(self, sock: socket.socket) -> None:
        self._socket = sock
        if self._closed:
            _shut(sock)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is over already


class UploadedFile:
    """A file that is read for an upload, telling how far it is. ``stopped``: asked before each piece."""

    def __init__(
        self, file: BinaryIO, on_bytes: Callable[[int], None], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._file = file
        self._on_bytes = on_bytes
        self._stopped = stopped

    def read(self, size: int = UPLOAD_CHUNK_BYTES) -> bytes:
        if self._stopped():
            raise errors.ConnectionError("the upload was ended.")
        content = self._file.read(size)
        self._on_bytes(len(content))
        return content


def send(
    method: str,
    path: str,
    body: bytes | Iterator[bytes],
    content_type: str,
    settings: Settings | None = None,
) -> Any:
    """Bytes as they are. Raises as ``request`` does."""
    headers = {"content-type": content_type}
    connection, response = _send(
        settings or read_settings(), method, path, body, headers, UPLOAD_ANSWER_TIMEOUT_S
    )
    try:
        return _read(response, method, path)
    finally:
        connection.close()


def upload(method: str, path: str, content: UploadedFile, size: int, settings: Settings | None = None) -> Any:
    """Send ``size`` bytes, streamed. Raises as ``request`` does."""
    settings = settings or read_settings()
    headers = {"content-type": "application/octet-stream", "content-length": str(size)}
    connection, response = _send(settings, method, path, content, headers, ANSWER_TIMEOUT_S)
    try:
        return _read(response, method, path)
    finally:
        connection.close()


def content(path: str, settings: Settings | None = None) -> Iterator[bytes]:
    """Asks at once; gives a body's bytes as they come. Raises as ``request`` does."""
    connection, response = _ask(settings or read_settings(), "GET", path, None, ANSWER_TIMEOUT_S)
    if response.status != OK:
        try:
            _read(response, "GET", path)
        finally:
            connection.close()
    return _parts(connection, response, path)


def _parts(connection: UnixConnection, response: http.client.HTTPResponse, path: str) -> Iterator[bytes]:
    try:
        while True:
            part = response.read1(UPLOAD_CHUNK_BYTES)
            if not part:
                break
            yield part
        if response.length:
            raise errors.DataLossError(
                f"the server broke off GET {path}, {response.length} bytes before its end: "
                "`glowplug server logs` says why"
            )
    except (OSError, http.client.HTTPException) as error:
        raise errors.ConnectionError(f"the server broke off GET {path}: {error}") from None
    finally:
        connection.close()


def _lines(
    connection: UnixConnection, response: http.client.HTTPResponse, path: str, method: str = "GET"
) -> Iterator[Any]:
    try:
        for line in response:
            yield json.loads(line)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise errors.ConnectionError(f"the server broke off {method} {path}: {error}") from None
    finally:
        connection.close()


def _ask(
    settings: Settings,
    method: str,
    path: str,
    body: Any,
    timeout_s: float | None,
    on_connect: Callable[[socket.socket], None] | None = None,
) -> tuple[UnixConnection, http.client.HTTPResponse]:
    content = None if body is None else json.dumps(body, default=_base64).encode()
    headers = {} if body is None else {"content-type": "application/json"}
    return _send(settings, method, path, content, headers, timeout_s, on_connect)


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} in a request")


def _send(
    settings: Settings,
    method: str,
    path: str,
    content: Any,
    headers: dict[str, str],
    timeout_s: float | None,
    on_connect: Callable[[socket.socket], None] | None = None,
) -> tuple[UnixConnection, http.client.HTTPResponse]:
    connection = UnixConnection(settings.socket_path, timeout_s)
    connection.blocksize = UPLOAD_CHUNK_BYTES
    try:
        connection.connect()
        if on_connect is not None:
            on_connect(connection.sock)
        try:
            connection.request(method, path, content, headers)
        except BrokenPipeError:
            pass  # refused before all of it was read: the answer says why
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
