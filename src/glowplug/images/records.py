"""What is remembered of each image that was built here: its definition, when it was built and last used."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from glowplug.images.disk import write_whole
from glowplug.model.image_spec import ImageSpec

USED_STEP_S = 60.0
"""The time of last use is written down at most so often."""


class Record(msgspec.Struct):
    image_id: str
    name: str
    builder: str
    spec: dict[str, object]
    built_at: float
    seconds: float
    reused: list[bool]
    used_at: float = 0.0
    """Read from the file's time."""

    @property
    def image_spec(self) -> ImageSpec:
        return ImageSpec.from_wire(self.spec)


class Records:
    """A file an image. Methods may be called on any thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._used: dict[str, float] = {}

    def write(
        self, image_id: str, name: str, builder: str, spec: ImageSpec, seconds: float, reused: list[bool]
    ) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = Record(image_id, name, builder, _without_secrets(spec), time.time(), seconds, reused)
        write_whole(self._path(image_id), msgspec.json.encode(record))

    def read(self, image_id: str) -> Record | None:
        path = self._path(image_id)
        try:
            record = msgspec.json.decode(path.read_bytes(), type=Record)
            record.used_at = path.stat().st_mtime
        except (OSError, msgspec.MsgspecError):
            return None
        return record

    def all(self) -> list[Record]:
        """The last used first."""
        found = [self.read(path.stem) for path in self._directory.glob("im-*.json")]
        return sorted(filter(None, found), key=lambda record: (-record.used_at, record.image_id))

    def used(self, image_id: str) -> None:
        now = time.time()
        if now - self._used.get(image_id, 0.0) > USED_STEP_S:
            self._used[image_id] = now
            try:
                os.utime(self._path(image_id))
            except OSError:
                pass  # removed by another server meanwhile

    def forget(self, image_id: str) -> None:
        self._path(image_id).unlink(missing_ok=True)
        self._used.pop(image_id, None)

    def _path(self, image_id: str) -> Path:
        return self._directory / f"{image_id}.json"


def _without_secrets(spec: ImageSpec) -> dict[str, object]:
    """Only the names of secret variables are part of a definition. Files are named by their digests."""
    wire = spec.to_wire()
    for step in wire["steps"]:
        step["secret_variables"] = dict.fromkeys(step["secret_variables"], "")
    wire["trees"] = {}
    return wire
