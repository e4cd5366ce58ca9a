"""Another view of a volume put into a running container: the new mount is made in the zygote's namespace,
where volumes lie, carried into the container's, and takes the place of the old one if nothing of that is in
use.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

from glowplug.container.isolation import CLONE_NEWNS, set_namespace
from glowplug.wire.agreed import BUSY

# The same number on every architecture: they came after these were made one.
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 428, 429, 430, 431, 432
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6
CLOEXEC = 1
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 2, 4
MOVE_MOUNT_F_EMPTY_PATH = 4
UMOUNT_NOFOLLOW = 8
AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


def remount(pid: int, view: dict[str, Any]) -> str:
    """Show ``view`` (path, source, upper, work) in the container of the process ``pid``. "" when it is done,
    ``BUSY`` when something of the old view is in use, else what the kernel refused.

    The calling process is in the container's mount namespace afterwards, and good for nothing else.
    """
    try:
        mount = _overlay(view) if view["upper"] else _open_tree(view["source"])
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        set_namespace(namespace, CLONE_NEWNS)
        path = view["path"].encode()
        if _libc.umount2(path, UMOUNT_NOFOLLOW) != 0:
            number = ctypes.get_errno()
            return BUSY if number == errno.EBUSY else f"umount {view['path']}: {os.strerror(number)}"
        _call("move_mount", SYS_MOVE_MOUNT, mount, b"", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH)
    except Exception as error:
        return str(error) or type(error).__name__
    return ""


def _overlay(view: dict[str, Any]) -> int:
    context = _call("fsopen", SYS_FSOPEN, b"overlay", CLOEXEC)
    # A colon in the lower directory would begin another one.
    lower = view["source"].replace("\\", "\\\\").replace(":", "\\:")
    for name, value in (("lowerdir", lower), ("upperdir", view["upper"]), ("workdir", view["work"])):
        _call("fsconfig", SYS_FSCONFIG, context, FSCONFIG_SET_STRING, name.encode(), value.encode(), 0)
    _call("fsconfig", SYS_FSCONFIG, context, FSCONFIG_SET_FLAG, b"userxattr", None, 0)
    _call("fsconfig", SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
    return _call("fsmount", SYS_FSMOUNT, context, CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)


def _open_tree(source: str) -> int:
    return _call("open_tree", SYS_OPEN_TREE, AT_FDCWD, source.encode(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)


def _call(name: str, number: int, *arguments: Any) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result
