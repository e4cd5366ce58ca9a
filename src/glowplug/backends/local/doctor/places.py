"""Places: the home, its disk and file system, shared memory, and where GPU locks lie."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from glowplug.backends.local.doctor.check import Check, Patient
from glowplug.backends.local.inventory.locks import shared_directory

GIB = 2**30
DISK_WANTED_GIB = 10
DISK_NEEDED_GIB = 1
SHARED_MEMORY_WANTED_GIB = 1

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "beegfs", "ceph", "glusterfs", "gpfs", "lustre"}
    | {
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "fuse.rclone",
        "fuse.juicefs",
    }
)
"""Where SQLite's locking and write-ahead log cannot be trusted."""

SHARED_FOLDERS = frozenset({"9p", "virtiofs", "vboxsf", "drvfs", "fakeowner", "fuse.grpcfuse"})
"""A host's directory seen from a virtual machine: often slow, and locks may not reach the host."""

ELSEWHERE = "export GLOWPLUG_HOME=/a/directory/on/a/local/disk"

Free = Callable[[Path], int]
"""Bytes free for this user on the file system of a path."""


def free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def examine(patient: Patient, free: Free = free_bytes) -> list[Check]:
    return [_home(patient, free), _shared_memory(patient, free), _locks()]


def _home(patient: Patient, free: Free) -> Check:
    existing = _nearest_existing(patient.home)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check("home", "fail", f"{patient.home} cannot be written: {existing} is not yours", ELSEWHERE)
    file_system = _file_system(patient, existing)
    if file_system in NETWORK_FILE_SYSTEMS:
        return Check(
            "home",
            "fail",
            f"{patient.home} is on a network file system ({file_system}), where the journal is not safe",
            ELSEWHERE,
        )
    if file_system in SHARED_FOLDERS:
        what = (
            f"{patient.home} is in a folder shared with a host ({file_system}): slow, and locks may not hold"
        )
        return Check("home", "warn", what, ELSEWHERE)
    free_gib = free(existing) / GIB
    what = f"{patient.home} ({file_system or 'unknown file system'}), {free_gib:,.1f} GiB free"
    if free_gib < DISK_NEEDED_GIB:
        return Check("home", "fail", f"{what}: too little to work", ELSEWHERE)
    if free_gib < DISK_WANTED_GIB:
        return Check("home", "warn", f"{what}: environments and results may not fit", ELSEWHERE)
    return Check("home", "ok", what)


def _nearest_existing(path: Path) -> Path:
    for candidate in (path, *path.parents):
        if candidate.exists():
            return candidate
    return Path("/")


def _file_system(patient: Patient, path: Path) -> str:
    """The type of the file system that holds ``path``, by the longest mount point above it."""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in patient.read("proc/self/mounts").splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # a later mount on the same point hides the earlier one
            best, kind = point, fields[2]
    return kind


def _shared_memory(patient: Patient, free: Free) -> Check:
    path = patient.root / "dev/shm"
    if not path.is_dir():
        return Check(
            "shared memory",
            "warn",
            "there is no /dev/shm: large arguments and results go through files in the home",
            "sudo mount -t tmpfs -o size=50% tmpfs /dev/shm",
        )
    free_gib = free(path) / GIB
    what = f"/dev/shm has {free_gib:,.1f} GiB free"
    if free_gib < SHARED_MEMORY_WANTED_GIB:
        fix = (
            "docker run --shm-size=8g …"
            if patient.in_container
            else "sudo mount -o remount,size=50% /dev/shm"
        )
        why = "large arguments and results go through files in the home"
        return Check("shared memory", "warn", f"{what}: {why}", fix)
    return Check("shared memory", "ok", what)


def _locks() -> Check:
    directory = shared_directory()
    mode = stat.S_IMODE(os.stat(directory).st_mode)
    if mode != 0o1777:
        return Check(
            "gpu locks",
            "warn",
            f"{directory} is not for all users (mode {mode:o}): servers of two users could share a card",
            f"sudo chmod 1777 {directory}",
        )
    return Check("gpu locks", "ok", f"in {directory}, shared by all users of this machine")
