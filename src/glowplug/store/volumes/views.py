"""The views of all running containers: opened, committed while they run, renewed, closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from glowplug.model import errors
from glowplug.ports.volumes import BUCKET, SHARED, View, VolumeUse
from glowplug.store.buckets.buckets import Buckets, Mounted
from glowplug.store.volumes import live
from glowplug.store.volumes.manifest import clean_path
from glowplug.store.volumes.mounts import Mount
from glowplug.store.volumes.volume import Committed, Volume
from glowplug.store.volumes.volumes import Volumes


class Seen:
    """One volume as one container sees it; ``mount`` is None where it cannot write or all share one
    directory."""

    def __init__(self, use: VolumeUse, volume: Volume | None, bucket: Mounted | None = None) -> None:
        self.use = use
        self.bucket = bucket
        self.volume = volume
        self.mount: Mount | None = None
        self.is_live = False
        self.pinned = -1
        self.generation = 0
        self.lock = threading.Lock()


class Views:
    """Implements ``ports.volumes.VolumeViews``."""

    def __init__(self, volumes: Volumes, buckets: Buckets) -> None:
        self._volumes = volumes
        self._buckets = buckets
        self._containers: dict[str, list[Seen]] = {}

    def place(self, use: VolumeUse, private: bool) -> str:
        if use.kind == SHARED:
            return str(self._volumes.shared(use.name, use.create))
        if use.bucket is not None:
            directory = self._buckets.place(use.bucket)
        else:
            directory = self._volumes.place(use.name, use.create)
        return str(directory if private else live.place(directory))

    def open(self, container_id: str, uses: Sequence[VolumeUse], private: bool) -> list[View]:
        seen = self._containers.setdefault(container_id, [])
        views = []
        try:
            for use in uses:
                if use.kind == SHARED:
                    views.append(View(use.mount_path, str(self._volumes.shared(use.name, use.create))))
                    continue
                if use.kind == BUCKET:
                    mounted = self._buckets.mount(use)
                    each = Seen(use, mounted.bucket.volume, mounted)
                else:
                    each = Seen(use, self._volumes.find(use.name, use.create))
                seen.append(each)
                views.append(_first_view(each, container_id, private))
        except OSError as error:
            self.close(container_id)
            raise errors.ExecutionError(
                f"the volumes of a container cannot be prepared: {error.strerror or error}"
            ) from error
        except BaseException:
            self.close(container_id)
            raise
        return views

    def commit(self, container_id: str, name: str = "", background: bool = False) -> dict[str, Any]:
        done = Committed(0, 0, 0)
        failed: list[errors.Error] = []
        for each in self._of(container_id, name):
            with each.lock:
                done = _commit(each, background)
                try:
                    if each.bucket is not None:
                        each.bucket.upload(background)
                except errors.Error as error:
                    failed.append(error)  # the volumes after it are committed all the same
        if failed:
            raise failed[0]
        return {"number": done.number, "changed": done.changed, "stored_bytes": done.stored_bytes}

    def reload(self, container_id: str, name: str, show: Callable[[View], None]) -> dict[str, Any]:
        number = 0
        for each in self._of(container_id, name):
            if each.is_live or each.volume is None:
                number = each.volume.head.number if each.volume is not None else 0
                continue
            with each.lock:
                number = _renew(each, container_id, show)
        return {"number": number, "changed": 0, "stored_bytes": 0}

    def close(self, container_id: str) -> list[str]:
        told = []
        for each in self._containers.pop(container_id, ()):
            with each.lock:
                try:
                    _commit(each, False)
                except errors.Error as error:
                    where = each.mount.directory if each.mount is not None else ""
                    told.append(f"{error} What the container wrote is kept in {where}.")
                    each.mount = None
                try:
                    if each.bucket is not None:
                        each.bucket.upload(False)
                except errors.Error as error:
                    told.append(str(error))
                _let_go(each)
        return told

    def _of(self, container_id: str, name: str) -> list[Seen]:
        all_of_it = self._containers.get(container_id, [])
        found = [each for each in all_of_it if not name or each.use.name == name]
        if name and not found:
            raise errors.NotFoundError(
                f"volume {name!r} is not mounted in this container: name it in volumes= of the function"
            )
        return found


def _first_view(each: Seen, container_id: str, private: bool) -> View:
    volume, use = each.volume, each.use
    assert volume is not None
    sub_path = clean_path(use.sub_path, volume.of)
    if not private:
        each.is_live = True
        return View(use.mount_path, str(live.directory(volume, sub_path)))
    live.end(volume)
    each.generation = 1
    if use.read_only:
        return _read_only_view(each, sub_path)
    each.mount = Mount.make(volume, container_id, 1, sub_path)
    return _view(each.mount, use)


def _view(mount: Mount, use: VolumeUse) -> View:
    return View(use.mount_path, str(mount.lower), str(mount.upper), str(mount.directory / "work"))


def _read_only_view(each: Seen, sub_path: str) -> View:
    volume = each.volume
    assert volume is not None
    base = volume.head
    volume.mounted[base.number] += 1
    _unpin(each)
    each.pinned = base.number
    return View(each.use.mount_path, str(volume.trees.part(base, sub_path)))


def _commit(each: Seen, background: bool) -> Committed:
    if each.mount is not None:
        return each.mount.commit(only_settled=background)
    assert each.volume is not None
    if each.is_live and not each.use.read_only:
        return live.commit(each.volume)
    return Committed(each.volume.head.number, 0, 0)


def _renew(each: Seen, container_id: str, show: Callable[[View], None]) -> int:
    volume = each.volume
    assert volume is not None
    _commit(each, False)
    base = each.mount.base.number if each.mount is not None else each.pinned
    if base == volume.head.number:
        return base
    if each.mount is None:
        pinned = each.pinned
        each.pinned = -1
        try:
            show(_read_only_view(each, clean_path(each.use.sub_path, volume.of)))
        except BaseException:
            _unpin(each)
            each.pinned = pinned
            raise
        volume.mounted[pinned] -= 1
        return each.pinned
    each.generation += 1
    old = each.mount
    new = Mount.make(volume, container_id, each.generation, old.sub_path)
    try:
        show(_view(new, each.use))
    except BaseException:
        new.remove()
        raise
    each.mount = new
    # What was written between the commit and the change of views: nobody can write there any more.
    old.commit()
    old.remove()
    return new.base.number


def _let_go(each: Seen) -> None:
    if each.mount is not None:
        each.mount.remove()
        each.mount = None
    _unpin(each)


def _unpin(each: Seen) -> None:
    if each.pinned >= 0 and each.volume is not None:
        each.volume.mounted[each.pinned] -= 1
        each.pinned = -1
