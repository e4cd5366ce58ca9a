"""A container's own view of a volume: a commit below, its writes above, and what of these is committed.

``mounts/CONTAINER/GENERATION/`` holds ``upper`` and ``work`` for the overlay, ``base`` (the commit below and
the directory of it that is mounted) and ``known`` (what was committed from there). It goes once its last
writes are committed. What a killed server leaves is committed when the volume is next opened: a container
that was killed has its writes committed as well.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from glowplug.model import errors
from glowplug.store.volumes import disk
from glowplug.store.volumes.deposit import Deposit
from glowplug.store.volumes.manifest import Change, Entry, Manifest
from glowplug.store.volumes.scan import Known, Scan, scan_upper
from glowplug.store.volumes.volume import Committed, Volume

_KNOWN = list[tuple[bytes, tuple[int, int, int], Entry | None]]


class Mount:
    """One generation of one container's view. Used by one thread at a time."""

    def __init__(self, volume: Volume, directory: Path, base: Manifest, sub_path: str) -> None:
        self.volume = volume
        self.directory = directory
        self.base = base
        self.sub_path = sub_path
        self.known: Known = {}
        self.skipped: list[str] = []

    @classmethod
    def make(cls, volume: Volume, container_id: str, generation: int, sub_path: str) -> Mount:
        """A new view on the latest commit; ``sub_path``: of this directory only."""
        base = volume.head
        directory = volume.directory / "mounts" / container_id / str(generation)
        mount = cls(volume, directory, base, sub_path)
        volume.mounted[base.number] += 1
        try:
            directory.mkdir(mode=0o700, parents=True)
            disk.write_file(directory / "base", f"{base.number} {sub_path}".encode())
            for name in ("upper", "work"):
                (directory / name).mkdir(mode=0o755)
        except BaseException:
            mount.remove()
            raise
        return mount

    @classmethod
    def left(cls, volume: Volume, directory: Path) -> Mount | None:
        """The view a server before this one has left; None when it was not even made."""
        try:
            number, _, sub_path = (directory / "base").read_text().partition(" ")
            mount = cls(volume, directory, volume.read_commit(int(number)), sub_path)
        except (OSError, ValueError):
            return None
        volume.mounted[mount.base.number] += 1
        mount.known = _read_known(directory / "known")
        return mount

    @property
    def lower(self) -> Path:
        """The directory under the writes."""
        return self.volume.trees.part(self.base, self.sub_path)

    @property
    def upper(self) -> Path:
        return self.directory / "upper"

    def commit(self, only_settled: bool = False) -> Committed:
        """Commit what was written since the last time. Raises as ``Volume.commit`` does."""
        scan = Scan()

        def find(deposit: Deposit, _: Manifest) -> list[Change]:
            nonlocal scan
            scan = scan_upper(
                self.upper,
                self.known,
                self.base.entries,
                deposit,
                prefix=self.sub_path,
                only_settled=only_settled,
            )
            return scan.changes

        if not self.known and not os.listdir(self.upper):
            return Committed(self.volume.head.number, 0, 0)
        committed = self.volume.commit(find, self.base.entries)
        self.known = scan.known
        self.skipped = scan.skipped
        if scan.changes:
            _write_known(self.directory / "known", self.known)
        return committed

    def remove(self) -> None:
        """Once its writes are committed, or nobody wants them."""
        self.volume.mounted[self.base.number] -= 1
        disk.remove_tree(self.directory)
        try:
            self.directory.parent.rmdir()
        except OSError:
            pass  # another generation is there


def recover(volume: Volume) -> list[str]:
    """Commit what views of a server before this one hold; returns what was done, a line each.

    What cannot be committed stays for the next time.
    """
    told: list[str] = []
    for container in sorted((volume.directory / "mounts").iterdir()):
        for directory in sorted(container.iterdir(), key=lambda each: each.name.zfill(9)):
            mount = Mount.left(volume, directory)
            if mount is None:
                disk.remove_tree(directory)
                continue
            try:
                committed = mount.commit()
            except errors.Error as error:
                told.append(
                    f"what container {container.name} wrote to {volume.of} is not committed yet: {error}"
                )
                continue
            mount.remove()
            if committed.changed:
                told.append(
                    f"committed what container {container.name} wrote to {volume.of} before the last server "
                    f"ended: {committed.changed} changes"
                )
        if container.exists() and not any(container.iterdir()):
            container.rmdir()
    return told


def _write_known(path: Path, known: Known) -> None:
    rows = [(os.fsencode(each), signature, entry) for each, (signature, entry) in known.items()]
    temporary = path.with_name("known.new")
    disk.write_file(temporary, msgspec.msgpack.encode(rows))
    disk.rename(temporary, path)


def _read_known(path: Path) -> Known:
    try:
        rows = msgspec.msgpack.decode(path.read_bytes(), type=_KNOWN)
    except (OSError, msgspec.DecodeError):
        return {}
    return {os.fsdecode(name): (signature, entry) for name, signature, entry in rows}
