"""Contents of local files on their way to the server: only those it lacks, several at a time, streamed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from glowplug.client.http import UploadedFile, request, upload
from glowplug.client.settings import Settings, read_settings
from glowplug.model.errors import InvalidError

UPLOAD_THREADS = 4
ASKED_AT_ONCE = 50_000
"""Digests in one request; the server takes twice as many."""

OnProgress = Callable[[int, int], None]
"""Told how many of how many bytes are there. Called on any thread."""


def upload_missing(
    places: Mapping[str, str],
    on_progress: OnProgress | None = None,
    settings: Settings | None = None,
) -> int:
    """Send the contents (path by SHA-256) that the server does not have; returns how many bytes that were.

    Raises ``InvalidError`` for a file that has changed since it was hashed, and what the server refuses.
    """
    if not places:
        return 0
    settings = settings or read_settings()
    digests = sorted(places)
    missing: list[str] = []
    for first in range(0, len(digests), ASKED_AT_ONCE):
        asked = {"digests": digests[first : first + ASKED_AT_ONCE]}
        missing += request("POST", "/v1/blobs/missing", asked, settings=settings)["missing"]
    if not missing:
        return 0
    progress = _Progress(sum(_size(places[digest]) for digest in missing), on_progress)
    stopped: list[bool] = []

    def send(digest: str) -> None:
        path = places[digest]
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                reader = UploadedFile(file, progress.add, lambda: bool(stopped))
                upload(f"/v1/blobs/{digest}", reader, size, settings)
        except OSError as error:
            raise InvalidError(f"{path} cannot be read: {error.strerror}.") from None
        except InvalidError as error:
            raise InvalidError(
                f"{path} changed while it was sent, or was damaged on the way: {error}"
            ) from None

    with ThreadPoolExecutor(min(UPLOAD_THREADS, len(missing))) as threads:
        sent = [threads.submit(send, digest) for digest in missing]
        try:
            done, _ = wait(sent, return_when=FIRST_EXCEPTION)
            for each in done:
                each.result()
        except BaseException:
            stopped.append(True)
            for each in sent:
                each.cancel()
            raise
    return progress.total


class _Progress:
    def __init__(self, total: int, tell: OnProgress | None) -> None:
        self.total = total
        self._tell = tell
        self._done = 0

    def add(self, count: int) -> None:
        self._done += count
        if self._tell is not None:
            self._tell(self._done, self.total)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}.") from None
