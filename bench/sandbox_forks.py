"""Forks as a zygote does, without a function: told of by ``sandbox.py``."""

from __future__ import annotations

import os
import socket
import sys

from glowplug.container import guard, isolation
from glowplug.container.frames import FrameSocket


def main() -> None:
    stream = FrameSocket(socket.socket(fileno=int(sys.argv[1])))
    stream.send("ready")
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    while True:
        try:
            request = stream.receive()
        except EOFError:
            return
        groups = stream.take_fds(request["groups"])
        if request["root"] is not None:
            isolation.unshare(isolation.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            first_process(stream, request, groups)
        if request["root"] is not None:
            isolation.set_namespace(own, isolation.CLONE_NEWPID)
        for fd in groups:
            os.close(fd)
        os.waitpid(pid, 0)
        stream.send("gone")


def first_process(stream: FrameSocket, request: dict, groups: list[int]) -> None:
    if request["root"] is not None:
        entering = isolation.enter_groups(groups)
        isolation.enter_root(request["root"], request["bounds"])
        entering()
        isolation.leave_group_namespace()
        guard.cover_proc()
        isolation.drop_privileges()
        guard.filter_system_calls()
        if os.fork():
            os.wait()
            os._exit(0)
    stream.send("here")
    os._exit(0)


if __name__ == "__main__":
    main()
