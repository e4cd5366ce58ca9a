"""What a directory that a container writes to says has changed: the upper layer of its overlay, or a shared
directory compared with a commit.

The container may write while this reads, and may mean harm: every step is taken from an open directory and
follows no link.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from glowplug.store.volumes.deposit import Deposit
from glowplug.store.volumes.manifest import DIRECTORY, FILE, LINK, Change, Entries, Entry

OPAQUE = "user.overlay.opaque"
UNSETTLED_NS = 50_000_000
"""Clocks of file systems are coarse: a file changed within this before it was read is read again."""
_READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
F_SETSIG = 10

Signature = tuple[int, int, int]
Known = dict[str, tuple[Signature, Entry | None]]
"""By path: what was committed of it, and how its file looked then. None: its removal was."""


@dataclass
class Scan:
    """What was found. ``known`` replaces the one before once the commit stands."""

    changes: list[Change] = field(default_factory=list[Change])
    known: Known = field(default_factory=dict[str, "tuple[Signature, Entry | None]"])
    skipped: list[str] = field(default_factory=list[str])
    """Neither files, directories nor links."""
    unsettled: int = 0
    """Files left for later, since somebody writes them."""


def scan_upper(
    upper: Path,
    known: Known,
    seen: Entries,
    deposit: Deposit,
    *,
    prefix: str = "",
    only_settled: bool = False,
) -> Scan:
    """The changes in an overlay's upper layer since ``known``; new content goes into ``deposit``.

    ``seen``: the commit it lies on; ``prefix``: the directory of the volume it lies on; ``only_settled``:
    leave files alone that somebody has open for writing.
    """
    scan = Scan()
    root = os.open(upper, _READ_DIRECTORY)
    try:
        for path, name, fd, status in _walk(root, prefix):
            _look_at(scan, path, name, fd, status, known, seen, deposit, only_settled)
    finally:
        os.close(root)
    _add_vanished(scan, known, prefix)
    return scan


def scan_shared(directory: Path, known: Known, committed: Entries, deposit: Deposit) -> Scan:
    """How a shared directory differs from ``committed``."""
    scan = Scan()
    known = dict(known)
    root = os.open(directory, _READ_DIRECTORY)
    found: set[str] = set()
    try:
        for path, name, fd, status in _walk(root, ""):
            found.add(path)
            before = committed.get(path)
            if path not in known and before is not None and _looks_like(status, before):
                known[path] = (status.st_ino, status.st_ctime_ns, status.st_size), before
            _look_at(scan, path, name, fd, status, known, committed, deposit, False)
    finally:
        os.close(root)
    scan.changes = [
        each
        for each in scan.changes
        if each.entry is None or not _is_same(each.entry, committed.get(each.path))
    ]
    gone = sorted((path for path in committed if path not in found), reverse=True)
    scan.changes += [Change(path, None) for path in gone]
    return scan


def _looks_like(status: os.stat_result, entry: Entry) -> bool:
    """Its own writer of this directory gave it the entry's size and time."""
    return (
        entry.kind == FILE
        and stat.S_ISREG(status.st_mode)
        and (status.st_size, status.st_mtime_ns, stat.S_IMODE(status.st_mode))
        == (entry.size, entry.mtime_ns, entry.mode)
    )


def _is_same(entry: Entry, before: Entry | None) -> bool:
    if entry.kind == DIRECTORY:
        return entry.same_content(before)
    return entry == before


def _walk(directory: int, prefix: str) -> Iterator[tuple[str, str, int, os.stat_result]]:
    """(path, name, descriptor of its directory, status) of everything below, directories first."""
    with os.scandir(directory) as listed:
        entries = sorted(listed, key=lambda each: each.name)
    for entry in entries:
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        try:
            status = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield path, entry.name, directory, status
        if stat.S_ISDIR(status.st_mode):
            try:
                fd = _open_directory(entry.name, directory, status)
            except (FileNotFoundError, NotADirectoryError):
                continue  # it was replaced meanwhile
            except OSError as error:
                if error.errno == errno.ELOOP:
                    continue
                raise
            try:
                yield from _walk(fd, path)
            finally:
                os.close(fd)


def _open_directory(name: str, directory: int, status: os.stat_result) -> int:
    try:
        return os.open(name, _READ_DIRECTORY, dir_fd=directory)
    except PermissionError:
        with _made_readable(name, directory, 0o700):
            return os.open(name, _READ_DIRECTORY, dir_fd=directory)


def _look_at(
    scan: Scan,
    path: str,
    name: str,
    directory: int,
    status: os.stat_result,
    known: Known,
    seen: Entries,
    deposit: Deposit,
    only_settled: bool,
) -> None:
    signature = (status.st_ino, status.st_ctime_ns, status.st_size)
    before = known.get(path)
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:  # the overlay's mark of something removed
        scan.known[path] = signature, None
        if before is None or before[1] is not None:
            scan.changes.append(Change(path, None))
    elif stat.S_ISDIR(status.st_mode):
        _look_at_directory(scan, path, name, directory, status, before, seen)
    elif before is not None and before[0] == signature:
        scan.known[path] = before
    elif stat.S_ISLNK(status.st_mode):
        entry = Entry(
            LINK, 0o777, 0, status.st_mtime_ns, b"", os.fsencode(os.readlink(name, dir_fd=directory))
        )
        _add(scan, path, entry, signature, before)
    elif stat.S_ISREG(status.st_mode):
        _look_at_file(scan, path, name, directory, before, deposit, only_settled)
    else:
        scan.skipped.append(path)


def _look_at_directory(
    scan: Scan,
    path: str,
    name: str,
    directory: int,
    status: os.stat_result,
    before: tuple[Signature, Entry | None] | None,
    seen: Entries,
) -> None:
    opaque = _is_opaque(name, directory)
    signature = (status.st_ino, int(opaque), 0)
    entry = Entry(DIRECTORY, stat.S_IMODE(status.st_mode), 0, status.st_mtime_ns)
    if opaque and path in seen and (before is None or before[0] != signature):
        scan.changes.append(Change(path, None))
    scan.known[path] = signature, entry
    last = before[1] if before is not None else seen.get(path)
    if (opaque and (before is None or before[0] != signature)) or not entry.same_content(last):
        scan.changes.append(Change(path, entry))


def _look_at_file(
    scan: Scan,
    path: str,
    name: str,
    directory: int,
    before: tuple[Signature, Entry | None] | None,
    deposit: Deposit,
    only_settled: bool,
) -> None:
    try:
        fd = _open_file(name, directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return  # it was replaced meanwhile
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return
        if only_settled and is_being_written(fd):
            scan.unsettled += 1
            if before is not None:
                scan.known[path] = before
            return
        now_ns = time.time_ns()
        entry = deposit.file(fd, status.st_size, stat.S_IMODE(status.st_mode), status.st_mtime_ns)
        settled = status.st_ctime_ns < now_ns - UNSETTLED_NS
        signature = (status.st_ino, status.st_ctime_ns if settled else -1, status.st_size)
        _add(scan, path, entry, signature, before)
    finally:
        os.close(fd)


def _open_file(name: str, directory: int) -> int:
    try:
        return os.open(name, _READ_FILE, dir_fd=directory)
    except PermissionError:
        with _made_readable(name, directory, 0o400):
            return os.open(name, _READ_FILE, dir_fd=directory)


@contextlib.contextmanager
def _made_readable(name: str, directory: int, mode: int) -> Iterator[None]:
    """What is ours may have a mode that keeps us out. Its mode is changed by descriptor: by name, somebody
    could put a link to another file there in between."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "it was replaced", name)
        place = f"/proc/self/fd/{fd}"
        os.chmod(place, stat.S_IMODE(status.st_mode) | mode)
        try:
            yield
        finally:
            os.chmod(place, stat.S_IMODE(status.st_mode))
    finally:
        os.close(fd)


def _add(
    scan: Scan, path: str, entry: Entry, signature: Signature, before: tuple[Signature, Entry | None] | None
) -> None:
    scan.known[path] = signature, entry
    if before is None or before[1] != entry:
        scan.changes.append(Change(path, entry))


def _add_vanished(scan: Scan, known: Known, prefix: str) -> None:
    """What was committed from here and is no longer here was only here: an overlay leaves no mark of it."""
    gone = [path for path, (_, entry) in known.items() if entry is not None and path not in scan.known]
    scan.changes += [Change(path, None) for path in sorted(gone, reverse=True)]


def _is_opaque(name: str, directory: int) -> bool:
    try:
        fd = os.open(name, _READ_DIRECTORY, dir_fd=directory)
    except OSError:
        return False
    try:
        return os.getxattr(fd, OPAQUE) == b"y"
    except OSError:
        return False
    finally:
        os.close(fd)


def is_being_written(fd: int) -> bool:
    """Whether anybody has this file open for writing: only then is a read lease refused."""
    try:
        # Should somebody open it in the instant the lease is held, this signal says so; nobody minds it.
        fcntl.fcntl(fd, F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False
