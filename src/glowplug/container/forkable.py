"""Whether a process that imported a module may be forked, and if not, why and which line is to blame.

Not forkable are Python threads other than the main one, an initialised CUDA driver, open sockets and a
native thread pool that was already used: a forked child that meets such a pool waits for threads it does
not have.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from typing import Any

PROBE_DEADLINE_S = 5.0
_CUDA_NOT_INITIALIZED = 3
_NVML_SUCCESS, _NVML_UNINITIALIZED = 0, 1


def import_module_watched(name: str, source: dict[str, Any]) -> list[str]:
    """Import ``name`` as a container would. Returns the lines that started threads."""
    from glowplug.container.imports import import_module

    started: list[str] = []
    start = threading.Thread.start

    def start_watched(self: threading.Thread) -> None:
        started.append(_blamed_line())
        start(self)

    threading.Thread.start = start_watched  # type: ignore[method-assign]
    try:
        import_module(name, source)
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
    return started


def why_not_forkable(started_threads: list[str], own_fds: set[int]) -> str:
    """The reason, empty when this process may be forked."""
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        line = f" (started at {started_threads[0]})" if started_threads else ""
        return f"its import leaves the thread {others[0].name!r} running{line}"
    if cuda_initialized():
        return "its import initialises CUDA; move that into a function"
    if not release_nvml():
        return "its import initialises NVML; move nvmlInit() into a function"
    sockets = [fd for fd in _open_sockets() if fd not in own_fds]
    if sockets:
        return f"its import leaves {len(sockets)} socket(s) open"
    if len(os.listdir("/proc/self/task")) > 1 and not _product_survives_fork():
        return "its import has used a native thread pool (a matrix product at import time, for example)"
    return ""


def cuda_initialized() -> bool:
    """Whether ``cuInit`` has run in this process, without running it."""
    with open("/proc/self/maps") as maps:
        if "libcuda.so" not in maps.read():
            return False
    try:
        libcuda = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    count = ctypes.c_int()
    return libcuda.cuDeviceGetCount(ctypes.byref(count)) != _CUDA_NOT_INITIALIZED


def release_nvml() -> bool:
    """Close NVML where a question like ``torch.cuda.is_available()`` has opened it; False when the module
    itself did. It holds every card that it has seen open, and a fork would see those instead of its own."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1", mode=os.RTLD_NOLOAD)
    except OSError:
        return True
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == _NVML_UNINITIALIZED:
        return True
    if getattr(sys.modules.get("pynvml"), "_nvmlLib_refcount", 0) > 0:
        return False
    while nvml.nvmlShutdown() == _NVML_SUCCESS:
        pass
    return True


def _open_sockets() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.append(int(name))
        except OSError:
            continue
    return found


def _product_survives_fork() -> bool:
    """Let a child multiply matrices with every library that is loaded; it hangs where a pool is broken."""
    pid = os.fork()
    if pid == 0:
        try:
            for name in ("numpy", "torch"):
                library = sys.modules.get(name)
                if library is not None:
                    square = library.ones((256, 256))
                    _ = square @ square
        finally:
            os._exit(0)
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        survived = bool(poll.poll(PROBE_DEADLINE_S * 1000))
    finally:
        os.close(pidfd)
    if not survived:
        os.kill(pid, signal.SIGKILL)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # the zygote's SIGCHLD handler was quicker
        pass
    return survived


def _blamed_line() -> str:
    """The innermost line outside the standard library and site-packages, else the innermost of all."""
    import sysconfig
    import traceback

    stack = traceback.extract_stack()[:-2]
    library = tuple(filter(None, (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))))
    runtime = os.path.dirname(os.path.dirname(__file__))
    for frame in reversed(stack):
        if not frame.filename.startswith((*library, runtime, "<frozen")):
            return f"{frame.filename}:{frame.lineno}"
    return f"{stack[-1].filename}:{stack[-1].lineno}"
