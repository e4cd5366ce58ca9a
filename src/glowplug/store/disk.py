"""Whether a directory may hold the journal: SQLite's locks and shared memory need a local disk."""

from __future__ import annotations

import os
from pathlib import Path

from glowplug.model import errors

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs",
        "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse",
        "fuse.davfs2", "fuse.goofys", "fuse.mount-s3", "fuse.blobfuse2", "fuse.juicefs", "fuse.smbnetfs",
    }
)  # fmt: skip


def require_local_disk(home: Path, mounts: str | None = None) -> None:
    """Raises ``InvalidError`` when ``home`` is on a network file system. ``mounts``: text of mountinfo."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            return  # no such file on this system: nothing is known, nothing is refused
    kind, source = file_system_of(os.path.realpath(home), mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise errors.InvalidError(
            f"the home {home} is on a network file system ({kind}, {source}), where a journal is not safe: "
            "its locks do not hold between machines. Set GLOWPLUG_HOME to a directory on a local disk, such "
            f"as /var/tmp/{_user_directory()}; volumes and scripts may stay where they are."
        )


def file_system_of(path: str, mounts: str) -> tuple[str, str]:
    """Type and source of the mount that holds ``path``; the later of two on one place hides the other."""
    best = ""
    found = ("", "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(rest) < 2:
            continue
        point = _unescaped(fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, found = point, (rest[0], _unescaped(rest[1]))
    return found


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def _user_directory() -> str:
    return f"glowplug-{os.getuid()}"
