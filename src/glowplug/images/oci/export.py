"""``python -I export.py TARGET LAYER...``: one directory out of the layers of an image, the topmost first.

Every file is a hard link to the layer's own, so a root costs a name for each file and no space; containers
never write to it. Runs by itself, inside the room of a build, where files belong to whom the image says.
Prints a line of JSON: how many entries, and digests of their names, kinds and sizes, and of the files' times.
A write to a file of a root is one to its layer: ``--check DIRECTORY...`` says the same of what is there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import sys

HIDDEN = ".wh."
"""Marks in file systems that cannot have the kernel's own: this name is gone from the layers below."""
OF_THE_NODE = ("/etc/resolv.conf", "/etc/hosts")
OPAQUE = ".wh..wh..opq"
OPAQUE_ATTRIBUTES = ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque")


def export(target: str, layers: list[str]) -> None:
    """Make ``target``, which is not there yet."""
    os.mkdir(target, 0o755)
    for layer in reversed(layers):
        lay(layer, target)
    os.chmod(target, 0o755)
    for path in OF_THE_NODE:
        make_place(target, path)


def make_place(target: str, path: str) -> None:
    """An own, empty file where the node shows its own; a link would lead out of the image."""
    place = target + path
    directory = os.path.dirname(place)
    if os.path.islink(directory) or (os.path.lexists(directory) and not os.path.isdir(directory)):
        return
    os.makedirs(directory, exist_ok=True)
    remove(place)
    with open(place, "x"):
        pass


def lay(source: str, target: str) -> None:
    """One directory of a layer over what is there already."""
    entries = sorted(os.scandir(source), key=lambda entry: entry.name)
    if is_opaque(source, entries):
        for name in os.listdir(target):
            remove(f"{target}/{name}")
    for entry in entries:
        place = f"{target}/{entry.name}"
        status = entry.stat(follow_symlinks=False)
        if entry.name == OPAQUE:
            continue
        if entry.name.startswith(HIDDEN):
            remove(f"{target}/{entry.name[len(HIDDEN) :]}")
        elif stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            remove(place)
        elif entry.is_dir(follow_symlinks=False):
            if not os.path.isdir(place) or os.path.islink(place):
                remove(place)
                os.mkdir(place)
            lay(entry.path, place)
            os.chown(place, status.st_uid, status.st_gid)
            os.chmod(place, stat.S_IMODE(status.st_mode))
            os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            remove(place)
            link(entry.path, place)


def is_opaque(path: str, entries: list[os.DirEntry[str]]) -> bool:
    """Whether nothing of the layers below shows through this directory."""
    if any(entry.name == OPAQUE for entry in entries):
        return True
    for name in OPAQUE_ATTRIBUTES:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def remove(path: str) -> None:
    if not os.path.lexists(path):
        return
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def link(source: str, place: str) -> None:
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError as error:
        # More names than a file may have, or a file system without them.
        if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP):
            raise
        shutil.copy2(source, place, follow_symlinks=False)
        status = os.lstat(source)
        os.chown(place, status.st_uid, status.st_gid, follow_symlinks=False)


def summary(root: str) -> dict[str, object]:
    """What tells a whole root from a damaged one."""
    digest = hashlib.sha256()
    times = hashlib.sha256()
    count = total = 0
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted([*names, *files]):
            path = f"{directory}/{name}"
            status = os.lstat(path)
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            digest.update(
                f"{path[len(root) :]}\0{stat.S_IFMT(status.st_mode)}\0{size}\n".encode(
                    errors="surrogateescape"
                )
            )
            if stat.S_ISREG(status.st_mode):
                times.update(status.st_mtime_ns.to_bytes(16, "big", signed=True))
            count += 1
            total += size
    return {"entries": count, "bytes": total, "digest": digest.hexdigest(), "times": times.hexdigest()}


def main() -> None:
    if sys.argv[1] == "--check":
        found = {path: summary(path) for path in sys.argv[2:]}
        sys.stdout.write(json.dumps(found) + "\n")
        return
    if sys.argv[1] == "--remove":
        for path in sys.argv[2:]:
            remove(path)
        return
    target, *layers = sys.argv[1:]
    export(target, layers)
    sys.stdout.write(json.dumps(summary(target)) + "\n")


if __name__ == "__main__":
    main()
