"""All buckets that containers of a home have mounted, each with its copy under ``buckets/``."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from glowplug.model import errors
from glowplug.ports.volumes import BucketPlace, VolumeUse
from glowplug.store.buckets.bucket import FETCH_LIMIT_BYTES, Bucket
from glowplug.store.buckets.remote import Connect, Remote, S3Remote
from glowplug.store.volumes import live
from glowplug.store.volumes.mounts import recover
from glowplug.store.volumes.volume import About, Volume


class Buckets:
    """``say``: told once of what was recovered. ``connect``: how a bucket is reached."""

    def __init__(
        self,
        home: Path,
        say: Callable[[str], None] = lambda text: None,
        connect: Connect = S3Remote,
        limit_bytes: int = FETCH_LIMIT_BYTES,
    ) -> None:
        self.directory = home / "buckets"
        self._say = say
        self._connect = connect
        self._limit_bytes = limit_bytes
        self._open: dict[str, Bucket] = {}
        self._lock = threading.Lock()

    def place(self, place: BucketPlace) -> Path:
        """The directory of its copy, which is there afterwards."""
        directory = self.directory / _id(place)
        if not (directory / "volume.json").exists():
            self.find(place)
        return directory

    def find(self, place: BucketPlace) -> Bucket:
        """The copy as it is, whatever the bucket holds now."""
        with self._lock:
            name = _id(place)
            bucket = self._open.get(name)
            if bucket is None:
                directory = self.directory / name
                if not (directory / "volume.json").exists():
                    self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                    Volume.create(directory, name, About(f"bu-{name}", time.time()))
                try:
                    volume = Volume(directory, str(place))
                except errors.DataLossError:
                    raise errors.DataLossError(
                        f"this machine's copy of {place} is damaged, and nothing was uploaded from it. "
                        f"Remove {directory} to have it fetched again; what was not uploaded is lost then."
                    ) from None
                volume.of = str(place)
                for text in recover(volume):
                    self._say(text)
                if live.is_used(volume):
                    live.commit(volume)
                bucket = self._open[name] = Bucket(place, volume, self._limit_bytes)
            return bucket

    def mount(self, use: VolumeUse) -> Mounted:
        """The bucket in line with its remote. Raises one clear error when it cannot be reached."""
        assert use.bucket is not None
        remote = self._connect(use.bucket, use.credentials)
        bucket = self.find(use.bucket)
        if not use.read_only:
            bucket.push(remote)  # what an earlier container could not; said by this one's first commit
        bucket.pull(remote)
        return Mounted(bucket, remote, use.read_only)


class Mounted:
    """A bucket with one container's credentials."""

    def __init__(self, bucket: Bucket, remote: Remote, read_only: bool) -> None:
        self.bucket = bucket
        self._remote = remote
        self._read_only = read_only
        self._told: list[str] = []

    def upload(self, background: bool) -> None:
        """After a commit. Raises ``ExecutionError`` when something is still to be uploaded; in the background
        only when that is news."""
        if self._read_only:
            return
        told = self.bucket.push(self._remote)
        links = self.bucket.links()
        if links and not background:
            told.append(f"{self.bucket.place} cannot hold links, and was not sent {', '.join(links[:3])}.")
        news = told if not background else [each for each in told if each not in self._told]
        self._told = told
        if news:
            raise errors.ExecutionError(" ".join(news))


def _id(place: BucketPlace) -> str:
    text = "\n".join((place.endpoint_url.rstrip("/"), place.bucket, place.prefix))
    return hashlib.sha256(text.encode()).hexdigest()[:24]
