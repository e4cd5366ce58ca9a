"""All volumes of a home, by name: made, found, renamed, deleted."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from glowplug.model import errors
from glowplug.model.volume import check_name
from glowplug.store.volumes import disk, live
from glowplug.store.volumes.mounts import recover
from glowplug.store.volumes.volume import About, Volume


class Volumes:
    """``volumes/`` and ``network-file-systems/`` of a home. ``say``: told once of what was recovered."""

    def __init__(self, home: Path, say: Callable[[str], None] = lambda text: None) -> None:
        self.directory = home / "volumes"
        self.shared_directory = home / "network-file-systems"
        self._say = say
        self._open: dict[str, Volume] = {}
        self._lock = threading.RLock()

    def take_over(self) -> None:
        """Commit what containers wrote that ended with an earlier server."""
        for path in self.directory.glob(".new-*"):
            disk.remove_tree(path)
        for path in self.directory.glob(".deleted-*"):
            disk.remove_tree(path)
        left = [path.parent.parent for path in self.directory.glob("*/mounts/*")]
        left += [path.parent for path in self.directory.glob(f"*/{live.NUMBER}")]
        for name in sorted({path.name for path in left}):
            try:
                self.find(name)
            except errors.Error as error:
                self._say(str(error))

    def find(self, name: str, create: bool = False) -> Volume:
        """Raises ``NotFoundError``; ``InvalidError`` for a name that cannot be."""
        check_name(name, "Volume")
        with self._lock:
            volume = self._open.get(name)
            if volume is not None:
                return volume
            directory = self.directory / name
            if (directory / "volume.json").exists():
                volume = Volume(directory, name)
                for text in recover(volume):
                    self._say(text)
                if live.is_used(volume):
                    live.commit(volume)
            elif create:
                volume = self._create(directory, name)
            else:
                raise errors.NotFoundError(
                    f"there is no volume {name!r}{self._similar(name)}. `glowplug volume create {name}` "
                    f"makes it, as does Volume.from_name({name!r}, create_if_missing=True)."
                )
            self._open[name] = volume
            return volume

    def place(self, name: str, create: bool) -> Path:
        """The directory of a volume, without opening it, which may take long. Raises as ``find`` does."""
        check_name(name, "Volume")
        directory = self.directory / name
        if not all((directory / each).exists() for each in ("volume.json", "trees")):
            self.find(name, create)
        return directory

    def create(self, name: str) -> Volume:
        """Raises ``AlreadyExistsError``."""
        check_name(name, "Volume")
        with self._lock:
            if (self.directory / name / "volume.json").exists():
                raise errors.AlreadyExistsError(f"there is a volume {name!r} already")
            return self.find(name, create=True)

    def _create(self, directory: Path, name: str) -> Volume:
        if directory.exists():
            raise errors.ConflictError(
                f"{directory} is no volume, and the volume {name!r} would have its place: move it away"
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Volume.create(directory, name, About("vo-" + secrets.token_hex(8), time.time()))

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.directory.glob("[!.]*/volume.json"))

    def delete(self, name: str) -> None:
        """A damaged one too. Raises ``NotFoundError``, ``ConflictError`` while a container has it."""
        with self._lock:
            try:
                _require_unused(self.find(name), "deleted")
            except errors.DataLossError:
                pass
            gone = self.directory / f".deleted-{name}-{secrets.token_hex(4)}"
            disk.rename(self.directory / name, gone)
            self._open.pop(name, None)
        disk.remove_tree(gone)

    def rename(self, name: str, new_name: str) -> Volume:
        """Raises ``NotFoundError``, ``AlreadyExistsError``, ``ConflictError`` while a container has it."""
        check_name(new_name, "Volume")
        with self._lock:
            volume = self.find(name)
            _require_unused(volume, "renamed")
            if (self.directory / new_name).exists():
                raise errors.AlreadyExistsError(f"there is a volume {new_name!r} already")
            disk.rename(volume.directory, self.directory / new_name)
            disk.sync_one(self.directory)
            del self._open[name]
            return self.find(new_name)

    # network file systems

    def shared(self, name: str, create: bool = False) -> Path:
        """The directory of a network file system. Raises ``NotFoundError``."""
        check_name(name, "NetworkFileSystem")
        directory = self.shared_directory / name
        if not directory.is_dir():
            if not create:
                raise errors.NotFoundError(
                    f"there is no network file system {name!r}. `glowplug nfs create {name}` makes it, as "
                    f"does NetworkFileSystem.from_name({name!r}, create_if_missing=True)."
                )
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    def all_shared(self) -> list[Path]:
        return sorted(path for path in self.shared_directory.glob("[!.]*") if path.is_dir())

    def delete_shared(self, name: str) -> None:
        directory = self.shared(name)
        gone = self.shared_directory / f".deleted-{name}-{secrets.token_hex(4)}"
        os.rename(directory, gone)
        disk.remove_tree(gone)

    def _similar(self, name: str) -> str:
        import difflib

        known = [path.parent.name for path in self.directory.glob("[!.]*/volume.json")]
        close = difflib.get_close_matches(name, known, 3, 0.5)
        return f"; there is {', '.join(close)}" if close else ""


def _require_unused(volume: Volume, what: str) -> None:
    if +volume.mounted:
        raise errors.ConflictError(
            f"{volume.of} cannot be {what}: a container has it mounted. `glowplug app list` shows what runs, "
            "`glowplug app stop` ends it."
        )
