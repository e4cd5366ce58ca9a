"""What of the kernel a container must not reach: covers over /proc, and a filter of system calls.

Outside, a container's root may be the machine's root, without any capability. Capabilities are not all that
the kernel asks for: what /proc lets root write goes by the number of the user.
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import struct

from glowplug.container.isolation import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    libc,
    mount,
)

NOT_SHOWN = ("keys", "key-users", "kcore", "kmsg", "sched_debug", "timer_list")
"""Of /proc, readable by all or not."""

EPERM, ENOSYS = 1, 38
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1, 4
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
NEW_NAMESPACES = 0x7E020080
"""Of clone and unshare: user, mount, PID, IPC, UTS, network, control group and time namespaces."""
CLONE_ONLY = 0x7E020000
"""The bit of time namespaces is part of clone's exit signal."""
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
X32_BIT = 0x40000000

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
SYSCALLS = {
    "x86_64": {"seccomp": 317, "clone": 56, "unshare": 272, "ioctl": 16},
    "aarch64": {"seccomp": 277, "clone": 220, "unshare": 97, "ioctl": 29},
}
REFUSED = {
    "x86_64": {
        "mount": 165, "umount2": 166, "pivot_root": 155, "swapon": 167, "swapoff": 168, "reboot": 169,
        "init_module": 175, "delete_module": 176, "finit_module": 313, "quotactl": 179, "acct": 163,
        "kexec_load": 246, "kexec_file_load": 320, "add_key": 248, "request_key": 249, "keyctl": 250,
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "open_by_handle_at": 304, "setns": 308,
        "settimeofday": 164, "clock_settime": 227, "syslog": 103, "vhangup": 153, "iopl": 172, "ioperm": 173,
    },
    "aarch64": {
        "mount": 40, "umount2": 39, "pivot_root": 41, "swapon": 224, "swapoff": 225, "reboot": 142,
        "init_module": 105, "delete_module": 106, "finit_module": 273, "quotactl": 60, "acct": 89,
        "kexec_load": 104, "kexec_file_load": 294, "add_key": 217, "request_key": 218, "keyctl": 219,
        "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "open_by_handle_at": 265, "setns": 268,
        "settimeofday": 170, "clock_settime": 112, "syslog": 116, "vhangup": 58,
    },
}  # fmt: skip
REFUSED_ANYWHERE = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442, "quotactl_fd": 443, "open_tree_attr": 467,
}  # fmt: skip
MISSING = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "clone3": 435}
"""Answered as by a kernel without them, for which programs are prepared: what they ask for lies in memory,
where a filter cannot look."""


def prepare() -> None:
    """Work out before the first fork what is the same for all."""
    covers()
    if os.uname().machine in ARCHITECTURES:
        program(os.uname().machine)


@functools.cache
def covers() -> tuple[tuple[str, bool], ...]:
    """Paths in /proc and whether they are shown, read-only then."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() or entry.is_symlink():
            continue
        mode = entry.stat().st_mode
        if entry.name in NOT_SHOWN or not mode & stat.S_IROTH:
            found.append((entry.path, False))
        elif stat.S_ISDIR(mode) or mode & 0o222:
            found.append((entry.path, True))
    return tuple(found)


def cover_proc() -> None:
    """In /proc only processes are left writable, and what is not for everybody is empty."""
    read_only = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
    for path, is_shown in covers():
        if is_shown:
            mount(path, path, None, MS_BIND | MS_REC)
            mount("none", path, None, read_only)
        else:
            mount("/dev/null", path, None, MS_BIND)


def filter_system_calls() -> bool:
    """Refuse for good what no function needs and attacks on the kernel start with. False where the kernel or
    this machine's kind of processor has no such filter."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        return False
    raw = program(machine)
    code = ctypes.create_string_buffer(raw, len(raw))
    length = len(raw) // 8
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", length, ctypes.addressof(code)))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    number = SYSCALLS[machine]["seccomp"]
    # Without the flag older kernels would slow down every process that has a filter.
    if libc.syscall(number, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, header) == 0:
        return True
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) == 0)


@functools.cache
def program(machine: str) -> bytes:
    """The filter for a machine: instructions of 8 bytes each."""
    calls = SYSCALLS[machine]
    code = [_step(LOAD, ARCHITECTURE_AT), _step(JUMP_EQUAL, ARCHITECTURES[machine], 1, 0), _refuse(ENOSYS)]
    code.append(_step(LOAD, NUMBER_AT))
    if machine == "x86_64":
        code += [_step(JUMP_AT_LEAST, X32_BIT, 0, 1), _refuse(ENOSYS)]
    for number in sorted({**REFUSED[machine], **REFUSED_ANYWHERE}.values()):
        code += [_step(JUMP_EQUAL, number, 0, 1), _refuse(EPERM)]
    for number in sorted(MISSING.values()):
        code += [_step(JUMP_EQUAL, number, 0, 1), _refuse(ENOSYS)]
    for name, bits in (("clone", CLONE_ONLY), ("unshare", NEW_NAMESPACES)):
        code += [
            _step(JUMP_EQUAL, calls[name], 0, 4),
            _step(LOAD, ARGUMENTS_AT),
            _step(JUMP_ANY_BIT, bits, 0, 1),
            _refuse(EPERM),
            _step(RETURN, ALLOW),
        ]
    code += [
        _step(JUMP_EQUAL, calls["ioctl"], 0, 4),
        _step(LOAD, ARGUMENTS_AT + 8),
        _step(JUMP_EQUAL, TIOCSTI, 1, 0),
        _step(JUMP_EQUAL, TIOCLINUX, 0, 1),
        _refuse(EPERM),
        _step(RETURN, ALLOW),
    ]
    return b"".join(code)


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)


def _refuse(number: int) -> bytes:
    return _step(RETURN, ERRNO | number)
