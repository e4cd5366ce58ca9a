"""Files below a directory that containers write too: reached component by component, and through no link."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from glowplug.model import errors
from glowplug.store.volumes.manifest import DIRECTORY, FILE, LINK, Entry

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_directory(root: int, path: str, of: str, make: bool = False) -> int:
    """A descriptor of the directory ``path`` ("" for the root itself) below the descriptor ``root``.

    Raises ``NotFoundError``, ``InvalidError`` when something on the way is a link or a file.
    """
    current = os.open(".", _DIRECTORY, dir_fd=root)
    try:
        for part in filter(None, path.split("/")):
            if make:
                try:
                    os.mkdir(part, 0o755, dir_fd=current)
                except FileExistsError:
                    pass
            deeper = os.open(part, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = deeper
    except BaseException as error:
        os.close(current)
        if isinstance(error, FileNotFoundError):
            raise errors.NotFoundError(f"{of} has no directory {path!r}") from None
        if isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise errors.InvalidError(f"{of}: {path!r} leads over a link or a file") from None
        raise
    return current


def open_parent(root: int, path: str, of: str, make: bool = False) -> tuple[int, str]:
    """The directory that holds ``path``, and its name there."""
    above, _, name = path.rpartition("/")
    if not name:
        raise errors.InvalidError(f"{of}: the path of a file is wanted, not the whole of it")
    return open_directory(root, above, of, make), name


def open_file(root: int, path: str, of: str) -> int:
    """A descriptor to read the regular file ``path``. Raises ``NotFoundError``, ``InvalidError``."""
    directory, name = open_parent(root, path, of)
    try:
        fd = os.open(name, _FILE, dir_fd=directory)
    except FileNotFoundError:
        raise errors.NotFoundError(f"{of} has no file {path!r}") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise errors.InvalidError(f"{of}: {path!r} is no regular file") from None
        raise
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise errors.InvalidError(f"{of}: {path!r} is no regular file")
    return fd


def walk(root: int, path: str, of: str, recursive: bool) -> Iterator[tuple[str, Entry]]:
    """What is below the directory ``path``, sorted, each as an entry without blocks."""
    directory = open_directory(root, path, of)
    try:
        yield from _walk(directory, path, recursive)
    finally:
        os.close(directory)


def _walk(directory: int, path: str, recursive: bool) -> Iterator[tuple[str, Entry]]:
    for name in sorted(os.listdir(directory)):
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        place = f"{path}/{name}" if path else name
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            yield place, Entry(DIRECTORY, mode, 0, status.st_mtime_ns)
            if recursive:
                try:
                    deeper = os.open(name, _DIRECTORY, dir_fd=directory)
                except OSError:
                    continue  # it was replaced meanwhile
                try:
                    yield from _walk(deeper, place, recursive)
                finally:
                    os.close(deeper)
        elif stat.S_ISLNK(status.st_mode):
            link = os.fsencode(os.readlink(name, dir_fd=directory))
            yield place, Entry(LINK, mode, 0, status.st_mtime_ns, b"", link)
        elif stat.S_ISREG(status.st_mode):
            yield place, Entry(FILE, mode, status.st_size, status.st_mtime_ns)


def remove(root: int, path: str, of: str) -> None:
    """A file, a link, or a directory with all that is in it. Raises ``NotFoundError``."""
    directory, name = open_parent(root, path, of)
    try:
        _remove(directory, name)
    except FileNotFoundError:
        raise errors.NotFoundError(f"{of} has no {path!r}") from None
    finally:
        os.close(directory)


def _remove(directory: int, name: str) -> None:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=directory)
        return
    inside = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        for each in os.listdir(inside):
            _remove(inside, each)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=directory)
