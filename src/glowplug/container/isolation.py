"""A forked container's own namespaces and root, made from inside a zygote's sandbox.

The zygote runs in bubblewrap with CAP_SYS_ADMIN in a user namespace of its own. A fork takes new mount and
IPC namespaces, builds a fresh root on a tmpfs out of the paths it may see, pivots into it and drops every
capability. Whatever is not bound is private and writable; nothing of it outlives the container.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import socket
import stat
import struct
import threading
from collections.abc import Callable
from typing import Any

from glowplug.wire.agreed import LAYERS, NEW_ROOT, SCRATCH

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWCGROUP = 0x02000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 36, 47, 4
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPABILITY_VERSION_3 = 0x20080522

ENTRIES_BOUND = 1000
"""Of a directory that cannot be overlaid; each costs a mount."""
PLAIN_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

libc = ctypes.CDLL(None, use_errno=True)


class IsolationError(Exception):
    """A namespace or mount was refused; the text says which."""


def unshare(flags: int) -> None:
    _check(libc.unshare(flags), "unshare", hex(flags))


def set_namespace(fd: int, flags: int) -> None:
    _check(libc.setns(fd, flags), "setns", hex(flags))


def die_with_parent(signal_number: int, parent: int) -> None:
    """``parent`` forked this process; it may have ended before anybody could be told of its end."""
    libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, which can then end them."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def enter_groups(groups: list[int]) -> Callable[[], None]:
    """Enter the control groups whose process lists are open as ``groups``; the call that is returned waits
    for it and raises ``IsolationError`` where it was refused.

    The kernel may let the first write wait for several milliseconds, in which a root can be made.
    """
    refused: list[OSError] = []

    def enter() -> None:
        try:
            for fd in groups:
                os.write(fd, b"0")
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=enter)
    thread.start()

    def wait() -> None:
        thread.join()
        for fd in groups:
            os.close(fd)
        if refused:
            raise IsolationError(f"the container's control group cannot be entered: {refused[0]}")

    return wait


def bound_processes(limit: int) -> None:
    """At most so many processes and threads of this user, where there are no control groups. The machine's
    root is exempt from it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))


def enter_root(plan: dict[str, Any], bounds: dict[str, Any]) -> None:
    """Take a private root made of ``plan["binds"]`` ([source, path, mode]; mode "ro", "rw", "overlay",
    "files": laid over what is there, or "hidden"), ``plan["links"]`` ([path, target]), ``plan["devices"]``,
    ``plan["private"]`` ([path, octal mode]), ``plan["volumes"]`` ([path, source, upper, work]; the latter two
    empty where ``source`` itself is shown) and ``plan["directories"]``, made where there is nothing.

    What is written goes to a directory in the scratch that ``bounds`` names, else to memory, at most as much
    as they say. Raises ``IsolationError``; the process is unusable as a container then.
    """
    unshare(CLONE_NEWNS | CLONE_NEWIPC)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    if bounds["scratch"]:
        mount(f"{SCRATCH}/{bounds['scratch']}", LAYERS, None, MS_BIND)
    else:
        size = f",size={bounds['memory_files_mib']}m" if bounds["memory_files_mib"] else ""
        mount("tmpfs", LAYERS, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=0700{size}")
    _make_directory(f"{LAYERS}/root", 0o755)
    mount(f"{LAYERS}/root", NEW_ROOT, None, MS_BIND)
    for path, mode in plan["private"]:
        _make_directory(NEW_ROOT + path, mode)
    _make_devices(plan["devices"])
    for path, target in plan["links"]:
        os.symlink(target, NEW_ROOT + path)
    for number, (source, path, mode) in enumerate(plan["binds"]):
        _bind(source, path, mode, number)
    for volume in plan["volumes"]:
        _mount_volume(*volume)
    for path in plan["directories"]:
        _make_directory(NEW_ROOT + path, 0o755)
    _make_directory(NEW_ROOT + "/proc", 0o555)
    try:
        mount("proc", NEW_ROOT + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except IsolationError:
        # Inside Docker and Kubernetes the outer /proc is masked and a new one is refused.
        mount("/proc", NEW_ROOT + "/proc", None, MS_BIND | MS_REC)
    _make_directory(NEW_ROOT + "/.old", 0o700)
    number = SYS_PIVOT_ROOT[os.uname().machine]
    _check(libc.syscall(number, NEW_ROOT.encode(), (NEW_ROOT + "/.old").encode()), "pivot_root", NEW_ROOT)
    os.chdir("/")
    _check(libc.umount2(b"/.old", MNT_DETACH), "umount", "/.old")
    os.rmdir("/.old")


def leave_group_namespace() -> None:
    """Control groups are seen from the container's own down. Kernels without it show only the names."""
    libc.unshare(CLONE_NEWCGROUP)


def leave_network() -> None:
    """A network of its own with nothing but the loopback, for ``block_network=True``."""
    unshare(CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def drop_privileges() -> None:
    """Give up every capability for good: bounding, ambient, permitted, effective and inheritable sets."""
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    capability = 0
    while libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    _check(libc.capset(header, sets), "capset", "no capabilities")


def _bind(source: str, path: str, mode: str, number: int) -> None:
    target = NEW_ROOT + path
    if mode == "hidden":
        _hide(target)
        return
    if os.path.isdir(source):
        _make_directory(target, 0o755)
        if mode == "files":
            if not _overlay(source, target, number, over=target):
                _lay_entries(source, target)
            return
        if mode == "overlay":
            if not _overlay(source, target, number):
                _bind_entries(source, target)
            return
    else:
        _make_directory(os.path.dirname(target), 0o755)
        _make_file(target)
    mount(source, target, None, MS_BIND | MS_REC)


def _hide(target: str) -> None:
    """Cover what an overlay shows of ``target``."""
    if os.path.isdir(target):
        mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    elif os.path.exists(target):
        mount("/dev/null", target, None, MS_BIND)


def _overlay(path: str, target: str, number: int, over: str = "") -> bool:
    """``path`` at ``target``, writable there, the writes thrown away; ``over`` shows through where ``path``
    has nothing. False when the kernel refuses."""
    layers = f"{LAYERS}/{number}"
    try:
        for name in ("upper", "work"):
            _make_directory(f"{layers}/{name}", 0o755)
        lower = f"{_escaped(path)}:{_escaped(over)}" if over else _escaped(path)
        options = f"lowerdir={lower},upperdir={layers}/upper,workdir={layers}/work,userxattr"
        mount("overlay", target, "overlay", MS_NOSUID | MS_NODEV, options)
    except (IsolationError, OSError):
        return False
    return True


def _mount_volume(path: str, source: str, upper: str, work: str) -> None:
    target = NEW_ROOT + path
    _make_directory(target, 0o755)
    if upper:
        layers = f"lowerdir={_escaped(source)},upperdir={_escaped(upper)},workdir={_escaped(work)},userxattr"
        mount("overlay", target, "overlay", MS_NOSUID | MS_NODEV, layers)
    else:
        mount(source, target, None, MS_BIND | MS_REC)


def _bind_entries(source: str, target: str) -> None:
    """Where the kernel has no overlay for this file system: a writable directory of its own that shows each
    entry of ``source``, read-only. Above the limit the whole is read-only instead."""
    names = sorted(os.listdir(source))
    if len(names) > ENTRIES_BOUND:
        mount(source, target, None, MS_BIND | MS_REC)
        return
    # It may lie in a directory that is shown read-only.
    mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    for name in names:
        path = f"{source}/{name}"
        if os.path.islink(path):
            os.symlink(os.readlink(path), f"{target}/{name}")
            continue
        if os.path.isdir(path):
            _make_directory(f"{target}/{name}", 0o755)
        else:
            _make_file(f"{target}/{name}")
        mount(path, f"{target}/{name}", None, MS_BIND | MS_REC)


def _lay_entries(source: str, target: str) -> None:
    """Each file of ``source`` over what ``target`` shows; directories that both have are gone into."""
    for name in sorted(os.listdir(source)):
        path, place = f"{source}/{name}", f"{target}/{name}"
        if os.path.islink(path):
            if not os.path.lexists(place):
                os.symlink(os.readlink(path), place)
        elif os.path.isdir(path) and os.path.isdir(place):
            _lay_entries(path, place)
        else:
            if os.path.isdir(path):
                _make_directory(place, 0o755)
            elif not os.path.exists(place):
                _make_file(place)
            mount(path, place, None, MS_BIND | MS_REC)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _make_devices(devices: list[str]) -> None:
    dev = NEW_ROOT + "/dev"
    _make_directory(dev, 0o755)
    for path in [*(f"/dev/{name}" for name in PLAIN_DEVICES), *devices]:
        if os.path.isdir(path):
            _make_directory(NEW_ROOT + path, 0o755)
        elif os.path.exists(path):
            _make_directory(os.path.dirname(NEW_ROOT + path), 0o755)
            _make_file(NEW_ROOT + path)
        else:
            continue
        mount(path, NEW_ROOT + path, None, MS_BIND)
    _make_directory(dev + "/pts", 0o755)
    try:
        mount("devpts", dev + "/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    except IsolationError:
        mount("/dev/pts", dev + "/pts", None, MS_BIND | MS_REC)
    os.symlink("pts/ptmx", dev + "/ptmx")
    os.symlink("/proc/self/fd", dev + "/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{dev}/{name}")
    _make_directory(dev + "/shm", 0o1777)
    mount("tmpfs", dev + "/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def _make_directory(path: str, mode: int) -> None:
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_directory(parent, 0o755)
    try:
        os.mkdir(path)
        os.chmod(path, stat.S_IMODE(mode))
    except OSError as error:
        raise IsolationError(
            f"{path.replace(NEW_ROOT, '', 1)} cannot be made in the container: {error}"
        ) from error


def _make_file(path: str) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    except OSError as error:
        raise IsolationError(
            f"{path.replace(NEW_ROOT, '', 1)} cannot be made in the container: {error}"
        ) from error


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    result = libc.mount(
        source.encode(),
        target.encode(),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if options is None else options.encode(),
    )
    _check(result, f"mount {kind or 'bind'}", f"{source} at {target}")


def _check(result: int, what: str, which: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise IsolationError(f"{what} {which}: {os.strerror(number)}")
