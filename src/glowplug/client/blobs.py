"""Contents of local files on their way to the server: only those it lacks, several at a time, streamed."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from glowplug.client.http import UploadedFile, request, upload
from glowplug.client.settings import Settings, read_settings
from glowplug.model.errors import InvalidError

UPLOAD_THREADS = 4
MAX_SMALL_BYTES = 256 << 10
"""Files up to this size are sent together, because a request takes longer than they do."""
BUNDLE_BYTES = 4 << 20
HEAD_BYTES = 32 + 8
"""Of each file sent together: its SHA-256 and its size."""
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
    sizes = {digest: _size(places[digest]) for digest in missing}
    progress = _Progress(sum(sizes.values()), on_progress)
    turns = _turns(sizes)
    stopped: list[bool] = []

    def send(digests: list[str]) -> None:
        if len(digests) == 1:
            send_large(digests[0])
        elif not stopped:
            upload_small(digests)

    def upload_small(digests: list[str]) -> None:
        bundle = bytearray()
        for digest in digests:
            path = places[digest]
            try:
                with open(path, "rb") as file:
                    content = file.read(MAX_SMALL_BYTES + 1)
            except OSError as error:
                raise InvalidError(f"{path} cannot be read: {error.strerror}.") from None
            if hashlib.sha256(content).hexdigest() != digest:
                raise InvalidError(f"{path} changed while it was sent. Run it again when it is done.")
            bundle += bytes.fromhex(digest) + len(content).to_bytes(8, "big") + content
        with io.BytesIO(bundle) as file:
            reader = UploadedFile(file, lambda count: None)
            upload("POST", "/v1/blobs", reader, len(bundle), settings)
        progress.add(len(bundle) - HEAD_BYTES * len(digests))

    def send_large(digest: str) -> None:
        path = places[digest]
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                reader = UploadedFile(file, progress.add, lambda: bool(stopped))
                upload("PUT", f"/v1/blobs/{digest}", reader, size, settings)
        except OSError as error:
            raise InvalidError(f"{path} cannot be read: {error.strerror}.") from None
        except InvalidError as error:
            raise InvalidError(
                f"{path} changed while it was sent, or was damaged on the way: {error}"
            ) from None

    with ThreadPoolExecutor(min(UPLOAD_THREADS, len(turns))) as threads:
        sent = [threads.submit(send, turn) for turn in turns]
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


def _turns(sizes: dict[str, int]) -> list[list[str]]:
    """Small files together, large ones by themselves."""
    turns: list[list[str]] = []
    together: list[str] = []
    held = 0
    for digest, size in sizes.items():
        if size > MAX_SMALL_BYTES:
            turns.append([digest])
            continue
        together.append(digest)
        held += size + HEAD_BYTES
        if held >= BUNDLE_BYTES:
            turns.append(together)
            together, held = [], 0
    return [*turns, together] if together else turns


class _Progress:
    def __init__(self, total: int, tell: OnProgress | None) -> None:
        self.total = total
        self._tell = tell
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._tell is not None:
                self._tell(self._done, self.total)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}.") from None
