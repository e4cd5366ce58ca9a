"""Finding this user's server, or starting it: hello, replacement of an idle one, the race of two starters."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from typing import Any

from glowplug.client.settings import Settings, build_id, make_private_directory, read_settings
from glowplug.model import errors
from glowplug.wire import messages
from glowplug.wire.codec import FrameError, FrameReader, frame
from glowplug.wire.receive import raise_file_limit

SERVER_MODULE = "glowplug.assembly.local_server"
START_TIMEOUT_S = 30.0
HELLO_TIMEOUT_S = 10.0
ATTEMPT_LIMIT = 20
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 16 << 10
RESTART = "restart"
"""The refusal of an idle server that differs: it is on its way out, start another."""


def dial_server(settings: Settings | None = None) -> tuple[socket.socket, tuple[int, str]]:
    """A greeted connection to the server of these settings, started if need be, and (its pid, its banner).

    Raises ``ConnectionError`` when it does not come up, ``ConflictError`` when a busy server runs with
    another configuration, ``VersionError`` when a busy one runs other code.
    """
    settings = settings or read_settings()
    raise_file_limit()
    for _ in range(ATTEMPT_LIMIT):
        sock = connect(settings)
        if sock is None:
            start_server(settings)
            continue
        try:
            welcome = _greet(sock, settings)
        except BaseException:
            sock.close()
            raise
        if welcome is not None:
            return sock, welcome
        sock.close()
        _wait_until_gone(settings)
    raise errors.ConnectionError(
        f"no server came up for {settings.home}; the last lines of {settings.server_log_path}:\n"
        f"{_log_tail(settings)}"
    )


def connect(settings: Settings) -> socket.socket | None:
    """A raw connection to a running server, None when none listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(settings.socket_path))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except OSError as error:
        sock.close()
        raise errors.ConnectionError(
            f"the server's socket {settings.socket_path} cannot be used: {error}. "
            "Set GLOWPLUG_HOME or XDG_RUNTIME_DIR to directories of your own on a local disk."
        ) from error
    return sock


def start_server(settings: Settings) -> None:
    """Start a detached server and wait until it listens. A second starter finds the first one's lock
    and leaves; both then connect to the same server."""
    if sys.version_info < (3, 11):
        raise errors.VersionError(
            f"the server needs Python 3.11 or newer; this is {sys.version.split()[0]}. "
            "Install Glowplug with a newer interpreter."
        )
    make_private_directory(settings.runtime_directory)
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = open(settings.server_log_path, "ab")  # noqa: SIM115 - closed below, once the child has it
    except OSError as error:
        raise errors.ConnectionError(
            f"the home of the server cannot be used: {error}. Set GLOWPLUG_HOME to a directory you can write."
        ) from error
    log_start = log.tell()
    ready_read, ready_write = os.pipe()
    try:
        with log:
            starting = subprocess.Popen(
                [sys.executable, "-m", SERVER_MODULE, "--ready-fd", str(ready_write)],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[ready_write],
                start_new_session=True,
                env=_server_environ(settings),
            )
        os.close(ready_write)
        ready_write = -1
        said = _read_all(ready_read, START_TIMEOUT_S)
        if said is None:
            starting.kill()
        starting.wait()  # it left the server to itself at once
    finally:
        os.close(ready_read)
        if ready_write >= 0:
            os.close(ready_write)
    if said is None:
        raise errors.ConnectionError(
            f"the server was not ready within {START_TIMEOUT_S:.0f} s; its log says:\n"
            f"{_log_tail(settings, log_start)}"
        )
    if said not in (b"ready", b"running"):
        reason = said.decode("utf-8", "replace").strip() or _log_tail(settings, log_start)
        raise errors.ConnectionError(f"the server did not start: {reason}")


def _server_environ(settings: Settings) -> dict[str, str]:
    environ = {**os.environ, "GLOWPLUG_HOME": str(settings.home)}
    # The directory of the code that runs here, also when it is not installed.
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    return environ


def _greet(sock: socket.socket, settings: Settings) -> tuple[int, str] | None:
    """Say hello. The server's (pid, banner), or None when it makes room for another."""
    hello = [
        messages.HELLO,
        messages.PROTOCOL,
        build_id(),
        settings.config_digest,
        settings.config_text,
        os.getpid(),
    ]
    try:
        sock.sendall(frame(hello))
        answer = _read_message(sock, HELLO_TIMEOUT_S)
    except OSError:
        return None
    if answer is None:
        return None
    if answer[0] == messages.WELCOME:
        return answer[1], answer[2]
    if answer[1] == RESTART:
        return None
    raise errors.error_class(answer[1])(answer[2])


def _read_message(sock: socket.socket, timeout_s: float) -> list[Any] | None:
    reader = FrameReader()
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        received = sock.recv(65536)
        if not received:
            return None
        try:
            for message in reader.feed(received):
                return message
        except FrameError:
            raise errors.ConnectionError(
                f"what listens at {sock.getpeername()} is no Glowplug server; "
                "end it or set another GLOWPLUG_HOME"
            ) from None
    raise errors.ConnectionError(
        f"the server did not answer within {timeout_s:.0f} s; `glowplug server stop --force` ends it"
    )


def _wait_until_gone(settings: Settings) -> None:
    """Wait until the old server's socket refuses; it unlinks it as its last act."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        sock = connect(settings)
        if sock is None:
            return
        sock.close()
        time.sleep(0.02)


def _read_all(fd: int, timeout_s: float) -> bytes | None:
    """What is written until the last writer closes; None when that takes longer."""
    said = b""
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        part = os.read(fd, 4096)
        if not part:
            return said
        said += part


def _log_tail(settings: Settings, start: int = 0) -> str:
    """The last lines that were written behind ``start``."""
    try:
        with open(settings.server_log_path, "rb") as log:
            log.seek(max(start, os.path.getsize(settings.server_log_path) - LOG_TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:]
            return "\n".join(lines) or "(nothing)"
    except OSError as error:
        return f"({error})"
