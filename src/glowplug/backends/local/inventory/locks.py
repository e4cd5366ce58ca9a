"""One holder per GPU on this machine, whatever user and whatever home: an exclusive flock on a file per UUID.

The files lie directly in a directory that every user of the machine shares and nobody may tidy up (sticky),
so there is no directory of ours whose owner could remove them. They are opened with care, because anybody may
put something else under their names: never through a symbolic link, never a pipe or device, never a second
name of somebody's other file. A file of another user is opened without O_CREAT: with fs.protected_regular the
kernel refuses O_CREAT on others' files in a sticky directory even where they exist and are writable.

The lock is the truth; the text in the file only tells a reader who has it. A killed holder's lock is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import re
import stat
import time
from pathlib import Path

SHARED_DIRECTORIES = ("/run/lock", "/tmp")
"""The first that is sticky and writable for all. Not $TMPDIR: that differs between users."""

HOLDER_TEXT_MAX_BYTES = 256
TRIES = 3
TRY_AGAIN_AFTER_S = 0.001
"""A reader of ``holder`` has the lock for some microseconds; a second try tells it from a real holder."""

_NAME_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9/._-]{0,127}")


class LockFileRefused(Exception):
    """Something that is not a lock file of ours has its name."""


def shared_directory() -> Path:
    for candidate in SHARED_DIRECTORIES:
        with contextlib.suppress(OSError):
            mode = os.stat(candidate).st_mode
            if stat.S_ISDIR(mode) and stat.S_IMODE(mode) == 0o1777:
                return Path(candidate)
    return Path(SHARED_DIRECTORIES[-1])


class GpuLocks:
    """The GPU locks one server holds. They end with its process at the latest; no child inherits them.

    ``home`` is only told to others; ``directory`` is for tests.
    """

    def __init__(self, home: str | Path = "", directory: str | Path | None = None) -> None:
        self._directory = Path(directory) if directory is not None else shared_directory()
        self._home = str(home)
        self._held: dict[str, int] = {}
        self._trouble: dict[str, str] = {}

    def try_lock(self, uuid: str) -> bool:
        """Take the lock of this GPU; False when somebody else has it (``holder`` says who)."""
        if uuid in self._held:
            return True
        self._trouble.pop(uuid, None)
        for attempt in range(TRIES):
            if attempt:
                time.sleep(TRY_AGAIN_AFTER_S)
            try:
                descriptor = self._open(uuid, create=True)
            except (LockFileRefused, OSError) as error:
                self._trouble[uuid] = f"nobody, but its lock cannot be taken: {error}"
                return False
            if self._take(descriptor, uuid):
                self._held[uuid] = descriptor
                self._write(descriptor, self._signature())
                return True
            os.close(descriptor)
        return False

    def holder(self, uuid: str) -> str | None:
        """Who has the lock of this GPU, or why it cannot be taken; None when it is free or ours."""
        if uuid in self._held:
            return None
        try:
            descriptor = self._open(uuid, create=False)
        except FileNotFoundError:
            return self._trouble.get(uuid)
        except (LockFileRefused, OSError) as error:
            return f"nobody, but its lock cannot be taken: {error}"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_signature(descriptor)
        else:
            return None
        finally:
            os.close(descriptor)

    def held(self) -> frozenset[str]:
        return frozenset(self._held)

    def release(self, uuid: str) -> None:
        """Give the lock back. The file stays: were it removed, two holders could lock two files of a name."""
        descriptor = self._held.pop(uuid, None)
        if descriptor is not None:
            self._write(descriptor, b"")
            os.close(descriptor)

    def close(self) -> None:
        for uuid in list(self._held):
            self.release(uuid)

    def path(self, uuid: str) -> Path:
        if not _NAME_PART.fullmatch(uuid):
            raise ValueError(f"{uuid!r} is not a GPU UUID")
        return self._directory / f"glowplug-{uuid.replace('/', '_')}.lock"

    def _open(self, uuid: str, *, create: bool) -> int:
        path = self.path(uuid)
        descriptor = _open_existing(path)
        while descriptor is None:
            if not create:
                raise FileNotFoundError(path)
            descriptor = _create(path)
            if descriptor is None:
                # Somebody made it in between, or it vanished again: look once more.
                descriptor = _open_existing(path)
        try:
            _require_plain_file(descriptor, path)
        except LockFileRefused:
            os.close(descriptor)
            raise
        return descriptor

    def _take(self, descriptor: int, uuid: str) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # A cleaner may have removed the file between open and lock; a lock on a nameless file is none.
        try:
            named = os.stat(self.path(uuid), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(descriptor))

    def _signature(self) -> bytes:
        home = f", home {self._home}" if self._home else ""
        text = f"pid {os.getpid()} of {user_name(os.getuid())}{home}"
        return text.encode(errors="replace")[:HOLDER_TEXT_MAX_BYTES]

    @staticmethod
    def _write(descriptor: int, text: bytes) -> None:
        # The file may be another user's and open for reading only; the lock holds without the text.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text, 0)


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _open_existing(path: Path) -> int | None:
    """The lock file if there is one. O_NONBLOCK: a pipe put there must not make us wait."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            return os.open(path, os.O_RDWR | flags)
        except PermissionError:
            return os.open(path, os.O_RDONLY | flags)  # enough for flock
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV):
            raise LockFileRefused(_not_a_lock_file(path)) from None
        raise


def _create(path: Path) -> int | None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileExistsError:
        return None
    os.fchmod(descriptor, 0o666)  # the umask would keep other users out
    return descriptor


def _require_plain_file(descriptor: int, path: Path) -> None:
    found = os.fstat(descriptor)
    # A hard link of another file would have us write our text into that file.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise LockFileRefused(_not_a_lock_file(path))


def _not_a_lock_file(path: Path) -> str:
    return f"{path} is not a plain file; look at what somebody put there, then remove it"


def _read_signature(descriptor: int) -> str:
    # Other users write this text and terminals show it: printable characters only.
    raw = os.pread(descriptor, HOLDER_TEXT_MAX_BYTES, 0).decode(errors="replace")
    text = "".join(character for character in raw if character.isprintable()).strip()
    return text or "another server"
