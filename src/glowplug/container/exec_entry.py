"""``python -I -S exec_entry.py FD``: runs one command inside a container, alone with the standard library.

The channel is a Unix socket with a JSON object a line. First comes {"command", "pty", "size", "variables",
"directory"} with the descriptors of stdin, stdout and stderr beside it, unless a terminal is wanted: then one
is made here, where its name means something, and its other end is sent back. Later {"signal": number} may
come. Back go {"started": true}, then {"exit": code} or {"failed": why}. When the other end closes the
channel, and when the command has ended, every process it left behind is killed.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
RECEIVE_BYTES = 1 << 20
STDIO_FDS = 3
SHELLS = ("/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh")


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    if os.fork():
        os._exit(0)
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        request, fds = _receive_request(channel)
        code = _run(channel, request, fds)
        _tell(channel, {"exit": code})
    except _Failed as error:
        _tell(channel, {"failed": str(error)})
    except BaseException as error:
        _kill_descendants()
        _tell(channel, {"failed": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)


class _Failed(Exception):
    """The command could not be started; the text says why."""


def _run(channel: socket.socket, request: dict[str, Any], fds: list[int]) -> int:
    """The exit code as shells count it: 128 and the signal for one that was killed."""
    if request["pty"]:
        master, slave = os.openpty()
        _set_size(slave, request["size"])
        _tell(channel, {"terminal": True}, master)
        os.close(master)
        fds = [slave, slave, slave]
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(request, fds, tell)
    for fd in {*fds, tell}:
        os.close(fd)
    with open(told, "rb") as pipe:
        problem = pipe.read().decode()
    if problem:
        os.waitpid(pid, 0)
        raise _Failed(problem)
    _tell(channel, {"started": True})
    _wait(channel, pid)
    # Its status is read first: what is left behind is killed together with its zombie otherwise.
    _, status = os.waitpid(pid, 0)
    _kill_descendants()
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _wait(channel: socket.socket, pid: int) -> None:
    """Until the command has ended, by itself or because nobody is at the other end any more."""
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(channel, select.POLLIN)
    pending = b""
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if ended in ready:
            return
        try:
            received = channel.recv(RECEIVE_BYTES)
        except ConnectionError:
            received = b""
        if not received:
            # First what is said to programs whose terminal is gone, so that a shell saves its history.
            _signal_group(pid, signal.SIGHUP)
            _kill_descendants()
            os._exit(0)
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            _signal_group(pid, json.loads(line)["signal"])


def _become(request: dict[str, Any], fds: list[int], tell: int) -> None:
    """In the child: a session of its own, then the command. What fails is told through ``tell``."""
    try:
        os.setsid()
        for number, fd in enumerate(_above_stdio(fds)):
            os.dup2(fd, number)
        if request["pty"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for number in range(1, signal.NSIG):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                continue
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        environ = {**os.environ, **request.get("variables", {})}
        directory = request.get("directory")
        if directory:
            try:
                os.chdir(directory)
            except OSError:
                os.write(tell, f"there is no directory {directory!r} in the container".encode())
                os._exit(127)
        command = request["command"] or [_shell()]
        os.execvpe(command[0], command, environ)
    except OSError as error:
        name = (request["command"] or ["sh"])[0]
        if error.errno == errno.ENOENT:
            why = f"there is no program {name!r} in the container"
        else:
            why = f"{name!r} cannot be run: {error.strerror}"
        os.write(tell, why.encode())
    finally:
        os._exit(127)


def _above_stdio(fds: list[int]) -> list[int]:
    """Copies that putting one in its place does not overwrite; closed by the exec."""
    return [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, STDIO_FDS) for fd in fds]


def _shell() -> str:
    return next((path for path in SHELLS if os.access(path, os.X_OK)), SHELLS[-1])


def _set_size(fd: int, size: list[int]) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def _kill_descendants() -> None:
    """Until none is left: orphans become children of this process."""
    while True:
        children = _children()
        if not children:
            return
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for pid in children:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass


def _children() -> list[int]:
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def _receive_request(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    received = b""
    fds = array.array("i")
    while not received.endswith(b"\n"):
        some, ancillary, _, _ = channel.recvmsg(RECEIVE_BYTES, socket.CMSG_SPACE(STDIO_FDS * fds.itemsize))
        if not some:
            os._exit(0)  # nobody wants it any more
        received += some
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
    return json.loads(received), list(fds)


def _tell(channel: socket.socket, message: dict[str, Any], fd: int | None = None) -> None:
    raw = json.dumps(message).encode() + b"\n"
    try:
        if fd is None:
            channel.sendall(raw)
        else:
            channel.sendmsg([raw], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    except OSError:
        pass  # nobody hears it


if __name__ == "__main__":
    main()
