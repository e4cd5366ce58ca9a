"""Files that are whole or absent, and what is said when the disk has no room for them."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in FULL


def full_text(path: Path) -> str:
    """What to say when ``path`` lies on a disk without room."""
    try:
        while not path.exists():
            path = path.parent
        free = f"{shutil.disk_usage(path).free / (1 << 30):.1f} GiB are free"
    except OSError:
        free = "nothing more fits"
    return (
        f"the disk of {path} is full ({free}). `glowplug image prune` removes images that are not used; "
        "GLOWPLUG_HOME names a directory on another disk."
    )


def write_whole(path: Path, content: bytes) -> None:
    """Under its name there is the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value).encode())


def read_json(path: Path) -> Any:
    """None when it is not there or not readable as what it should be."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def remove_tree(path: Path) -> int:
    """Remove a directory, also one without write permission; returns the bytes that are free now."""
    freed = 0
    for directory, _, names in os.walk(path):
        try:
            os.chmod(directory, 0o700)
        except OSError:
            pass
        for name in names:
            try:
                found = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            if found.st_nlink == 1:
                freed += found.st_blocks * 512
    shutil.rmtree(path, ignore_errors=True)
    return freed


def link_tree(source: Path, target: Path) -> None:
    """``target`` becomes a copy of ``source`` whose files are the same ones."""
    os.mkdir(target)
    with os.scandir(source) as entries:
        for entry in entries:
            place = target / entry.name
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), place)
            elif entry.is_dir():
                link_tree(Path(entry.path), place)
            else:
                _link_or_copy(entry.path, place)


def _link_or_copy(source: str, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if is_full(error) or isinstance(error, FileNotFoundError):
            raise
        shutil.copy2(source, target)  # more links than the file system allows, or another one
