"""A process that has imported what containers need and forks them on demand.

A plain zygote has the runtime only; one that was told a module has imported it, without touching a GPU.
A fork gets a PID namespace whose first process reaps and, when the container ends, takes every descendant
with it.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any

from glowplug.container import guard, isolation
from glowplug.container.forkable import import_module_watched, why_not_forkable
from glowplug.container.frames import FrameSocket
from glowplug.container.process import run_container
from glowplug.container.remount import remount
from glowplug.container.watched_environ import watched_environ

IMPORT_OUTPUT_BYTES = 64 << 10
"""The end of what an import printed; more is dropped."""
CONTAINER_FDS = 6
"""data, control, client, stdout, stderr, status; after these the control groups it is to enter"""
IDLE_S = 0.1
"""Nothing was asked for that long: time to import what later containers may need."""


def serve(sock: socket.socket, sandboxed: bool, preload: Sequence[str] = ()) -> None:
    """Obey the server until it closes the connection. The first containers do not wait for ``preload``, names
    of modules that are imported while nothing else is to be done."""
    zygote = Zygote(FrameSocket(sock), sandboxed, preload)
    zygote.stream.send({"op": "ready"})
    zygote.serve()


class Zygote:
    def __init__(self, stream: FrameSocket, sandboxed: bool, preload: Sequence[str] = ()) -> None:
        self.stream = stream
        self.sandboxed = sandboxed
        self.preload = list(preload)
        self.children: set[int] = set()
        """Those it has forked; whatever else becomes its child was left by a container that was killed."""
        self.containers: dict[str, int] = {}
        """The first process of each container."""
        self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if sandboxed else -1
        if sandboxed:
            guard.prepare()

    def serve(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not self.sandboxed:
            isolation.become_subreaper()
            self.children = set(_children_of(os.getpid()))
        signal.signal(signal.SIGCHLD, self._reap)
        while True:
            self._preload_while_idle()
            try:
                request = self.stream.receive()
            except (EOFError, OSError):
                os._exit(0)
            if request["op"] == "fork":
                self.fork_container(request)
            elif request["op"] == "import":
                self.fork_zygote(request)
            elif request["op"] == "remount":
                self.remount(request)

    def _preload_while_idle(self) -> None:
        idle_s = IDLE_S
        while self.preload and not self.stream.wait(idle_s):
            try:
                importlib.import_module(self.preload.pop(0))
            except Exception:  # a container that needs it says what is wrong
                pass
            idle_s = 0

    def fork_zygote(self, request: dict[str, Any]) -> None:
        """A child that imports a module and then is a zygote itself."""
        (fd,) = self.stream.take_fds(1)
        gc.freeze()
        own_pid = os.getpid()
        pid = self._fork()
        if pid:
            os.close(fd)
            self._tell_forked({"op": "importing"}, pid)
            return
        try:
            if not self.sandboxed:
                isolation.die_with_parent(signal.SIGKILL, own_pid)
            self.stream.sock.close()
            self.stream = FrameSocket(socket.socket(fileno=fd))
            verdict = self.import_module(request)
            self.stream.send(verdict)
            if verdict["op"] == "unforkable":
                os._exit(0)  # what its import took, memory of a card perhaps, is for containers
            gc.collect()
            self.serve()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            os._exit(1)

    def import_module(self, request: dict[str, Any]) -> dict[str, Any]:
        os.environ.update(request["env"])
        with _captured_output() as output, watched_environ() as read:
            try:
                started_threads = import_module_watched(request["module"], request["source"])
            except BaseException as error:
                reason = f"its import failed: {type(error).__name__}: {error}"
                return {"op": "unforkable", "reason": reason, "read": sorted(read)}
        reason = why_not_forkable(
            started_threads, own_fds={self.stream.sock.fileno(), self.own_pid_namespace}
        )
        if reason:
            return {"op": "unforkable", "reason": reason, "read": sorted(read)}
        return {"op": "ready", "output": output.text(), "read": sorted(read)}

    def fork_container(self, request: dict[str, Any]) -> None:
        fds = self.stream.take_fds(CONTAINER_FDS)
        groups = self.stream.take_fds(request["groups"])
        gc.freeze()
        if self.sandboxed:
            # The next child is the first process of a new PID namespace; this process stays where it is.
            try:
                isolation.unshare(isolation.CLONE_NEWPID)
            except isolation.IsolationError as error:
                for fd in (*fds, *groups):
                    os.close(fd)
                told = {"container_id": request["container_id"], "pid": 0, "reason": str(error)}
                self.stream.send({"op": "forked", **told})
                return
        own_pid = os.getpid()
        pid = self._fork()
        if pid == 0:
            _run_first_process(request, fds, groups, self, own_pid)
        if self.sandboxed:
            isolation.set_namespace(self.own_pid_namespace, isolation.CLONE_NEWPID)
        for fd in (*fds, *groups):
            os.close(fd)
        self.containers[request["container_id"]] = pid
        self._tell_forked({"op": "forked", "container_id": request["container_id"], "pid": pid}, pid)

    def remount(self, request: dict[str, Any]) -> None:
        """Show a container another view of a volume; a child does it, and leaves this namespace."""
        pid = self.containers.get(request["container_id"], 0)
        problem = "the container has ended"
        if pid in self.children:
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            if self._fork() == 0:
                try:
                    os.write(theirs, remount(pid, request["view"]).encode())
                finally:
                    os._exit(0)
            os.close(theirs)
            with open(ours, "rb") as said:
                problem = said.read().decode("utf-8", "replace")
        self.stream.send({"op": "remounted", "problem": problem})

    def _fork(self) -> int:
        """A child is known before its end, or that of another, can be heard of."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid:
            self.children.add(pid)
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        return pid

    def _reap(self, *_: Any) -> None:
        while True:
            try:
                pid, _status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self.children.discard(pid)
            for name in [name for name, known in self.containers.items() if known == pid]:
                del self.containers[name]
        if not self.sandboxed:
            for pid in _children_of(os.getpid()):
                if pid not in self.children:
                    _kill(pid)

    def _tell_forked(self, reply: dict[str, Any], pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:  # it has ended already
            self.stream.send(reply)
            return
        self.stream.send(reply, [pidfd])
        os.close(pidfd)


class _captured_output:
    """What the import prints, by Python or not, so that the first container can show it."""

    def __enter__(self) -> _captured_output:
        self._file = os.memfd_create("import-output")
        for fd in (1, 2):
            os.dup2(self._file, fd)
        return self

    def text(self) -> str:
        """What was printed; asked for once."""
        size = os.fstat(self._file).st_size
        raw = os.pread(self._file, IMPORT_OUTPUT_BYTES, max(0, size - IMPORT_OUTPUT_BYTES))
        os.close(self._file)
        return raw.decode("utf-8", "replace")

    def __exit__(self, *_: object) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (1, 2):
            os.dup2(null, fd)
        os.close(null)


def _run_first_process(
    request: dict[str, Any], fds: list[int], groups: list[int], zygote: Zygote, zygote_pid: int
) -> None:
    """Process 1 of the container: makes its root, forks the container, reaps, reports how it ended."""
    status_fd = fds[-1]
    try:
        zygote.stream.sock.close()
        entering = isolation.enter_groups(groups)
        if zygote.sandboxed:
            os.close(zygote.own_pid_namespace)
            isolation.enter_root(request["root"], request["bounds"])
            entering()
            isolation.leave_group_namespace()
            guard.cover_proc()
            if request["root"]["block_network"]:
                isolation.leave_network()
            isolation.drop_privileges()
            guard.filter_system_calls()
        else:
            entering()
            isolation.become_subreaper()
            signal.signal(signal.SIGTERM, _end_descendants_and_exit)
            isolation.die_with_parent(signal.SIGTERM, zygote_pid)
        if request["bounds"]["processes"]:
            isolation.bound_processes(request["bounds"]["processes"])
        os.setsid()
        own_pid = os.getpid()
        container = os.fork()
        if container == 0:
            os.close(status_fd)
            _run_container_process(request, fds, own_pid)
        for fd in fds[:-1]:
            os.close(fd)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        status = _reap_until(container)
        if not zygote.sandboxed:
            _end_descendants()
        os.write(status_fd, struct.pack("<i", status))
    except BaseException as error:
        os.write(status_fd, f"error {type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)


def _run_container_process(request: dict[str, Any], fds: list[int], first_pid: int) -> None:
    code = 1
    try:
        isolation.die_with_parent(signal.SIGKILL, first_pid)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        data, control, client, stdout, stderr, _ = fds
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        for fd in (null, stdout, stderr):
            os.close(fd)
        code = run_container(
            request["container_id"],
            FrameSocket(socket.socket(fileno=data)),
            FrameSocket(socket.socket(fileno=control)),
            socket.socket(fileno=client),
        )
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def _reap_until(container: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == container:
            return status


def _end_descendants() -> None:
    """Kill every child until none is left; orphans become children of this process, a subreaper."""
    while True:
        children = _children_of(os.getpid())
        if not children:
            return
        for pid in children:
            _kill(pid)
        for pid in children:  # and no others: the orphans of these are children now, and still alive
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass


def _end_descendants_and_exit(*_: Any) -> None:
    _end_descendants()
    os._exit(0)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _children_of(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []
