"""A volume as one directory that all its containers write: where the kernel refuses them views of their own.

Writes are seen at once then, and a commit records how the directory is. ``live/`` holds copies, never links
to blocks, since it is written in place. What a client commits meanwhile is put into it file by file, and no
link in it is followed. ``live.number`` is the commit that it was last brought in line with.
"""

from __future__ import annotations

import os
from pathlib import Path

from glowplug.store.volumes import disk
from glowplug.store.volumes.beneath import open_directory, open_parent
from glowplug.store.volumes.blocks import set_attributes
from glowplug.store.volumes.deposit import Deposit
from glowplug.store.volumes.manifest import DIRECTORY, LINK, Change, Entries, Entry, Manifest, merge
from glowplug.store.volumes.scan import Scan, scan_shared
from glowplug.store.volumes.volume import Committed, Volume

NUMBER = "live.number"


def is_used(volume: Volume) -> bool:
    return (volume.directory / NUMBER).exists()


def end(volume: Volume) -> None:
    """Containers have views of their own from now on: what the shared directory holds is committed."""
    with volume.lock:
        if is_used(volume):
            commit(volume)
            disk.remove_tree(volume.directory / "live")
            (volume.directory / NUMBER).unlink()


def place(of_volume: Path) -> Path:
    """Where the shared directory is, made if need be."""
    found = of_volume / "live"
    found.mkdir(mode=0o755, exist_ok=True)
    return found


def directory(volume: Volume, sub_path: str = "") -> Path:
    """The shared directory, or a part of it, in line with the latest commit. The directory itself stays the
    same one: a zygote may hold it already."""
    shared = place(volume.directory)
    with volume.lock:
        if not is_used(volume):
            for left in shared.iterdir():
                disk.remove_tree(left)
            _note(volume, 0)
        commit(volume)
    root = os.open(shared, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_directory(root, sub_path, volume.of, make=True))
    finally:
        os.close(root)
    return shared / sub_path


def commit(volume: Volume) -> Committed:
    """Commit what was written there; what others committed is put there."""
    shared = volume.directory / "live"
    with volume.lock:
        shown = volume.read_commit(int((volume.directory / NUMBER).read_text()))
        scan = Scan()

        def find(deposit: Deposit, _: Manifest) -> list[Change]:
            nonlocal scan
            scan = scan_shared(shared, volume.live_known, shown.entries, deposit)
            return scan.changes

        committed = volume.commit(find, shown.entries)
        volume.live_known = scan.known
        holds = merge(shown.entries, shown.entries, scan.changes, 0)
        if holds != volume.head.entries:
            _bring_in_line(volume, shared, holds)
        if shown.number != volume.head.number:
            _note(volume, volume.head.number)
        return committed


def _note(volume: Volume, number: int) -> None:
    temporary = volume.directory / f"{NUMBER}.new"
    disk.write_file(temporary, str(number).encode())
    disk.rename(temporary, volume.directory / NUMBER)


def _bring_in_line(volume: Volume, shared: Path, holds: Entries) -> None:
    wanted = volume.head.entries
    root = os.open(shared, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        gone = [
            path for path, entry in holds.items() if path not in wanted or wanted[path].kind != entry.kind
        ]
        for path in sorted(gone, key=lambda each: each.count("/"), reverse=True):
            _take_away(root, path, holds[path], volume.of)
        for path in sorted(wanted, key=lambda each: (wanted[each].kind != DIRECTORY, each.count("/"))):
            before = holds.get(path)
            if wanted[path] != before and not (
                wanted[path].kind == DIRECTORY and wanted[path].same_content(before)
            ):
                _put(volume, root, path, wanted[path])
    finally:
        os.close(root)


def _take_away(root: int, path: str, entry: Entry, of: str) -> None:
    parent, name = open_parent(root, path, of)
    try:
        if entry.kind == DIRECTORY:
            os.rmdir(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
    except OSError:
        pass  # gone already, or somebody has put something there: the next commit takes it as it is
    finally:
        os.close(parent)


def _put(volume: Volume, root: int, path: str, entry: Entry) -> None:
    if entry.kind == DIRECTORY:
        fd = open_directory(root, path, volume.of, make=True)
        try:
            os.fchmod(fd, entry.mode)
        finally:
            os.close(fd)
        return
    parent, name = open_parent(root, path, volume.of, make=True)
    temporary = f".{name[:200]}.glowplug"
    try:
        if entry.kind == LINK:
            os.symlink(os.fsdecode(entry.link), temporary, dir_fd=parent)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600, dir_fd=parent)
            try:
                for part in volume.blocks.contents(entry, f"{volume.of}, file {path!r}"):
                    disk.write_all(fd, part)
                set_attributes(fd, entry.mode, entry.mtime_ns)
            finally:
                os.close(fd)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        try:
            os.unlink(temporary, dir_fd=parent)
        except OSError:
            pass
        raise
    finally:
        os.close(parent)
