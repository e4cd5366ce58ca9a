"""What a server keeps in volumes, asked over HTTP: outside and, of mounted ones, inside a container.

Files are sent by content: cut into blocks, hashed, and only the blocks that the volume lacks travel, several
requests at a time; then one commit names them all.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote, urlencode

from glowplug.client import context
from glowplug.client.http import content, request, send
from glowplug.model.errors import ConnectionError as BrokenOff
from glowplug.model.errors import DataLossError, InvalidError, NotFoundError
from glowplug.model.volume import FileEntry, FileEntryType

BLOCK_BYTES = 4 << 20
"""As the server cuts files."""
THREADS = 4
REQUEST_BYTES = 8 << 20
"""Small blocks travel together."""
DIGESTS_ASKED = 10_000
VOLUME, SHARED = "volume", "shared"

OnProgress = Callable[[int, int], None]
"""Told how many of how many bytes are done. Called on any thread."""


@dataclass
class LocalFile:
    """Something to be uploaded: a file of this machine, or the copy of a file object."""

    path: str
    """Where it goes."""
    source: str
    mode: int = 0o644
    size: int = 0
    mtime_ns: int = 0
    file: IO[bytes] | None = None

    def open(self) -> IO[bytes]:
        if self.file is not None:
            return os.fdopen(os.dup(self.file.fileno()), "rb", 0)
        return open(self.source, "rb", 0)


class StoredVolume:
    """One volume or network file system, by name."""

    def __init__(self, name: str, kind: str = VOLUME) -> None:
        self.name = name
        self.kind = kind
        self._place = f"/v1/volumes/{quote(name, safe='')}"

    def _query(self, **asked: Any) -> str:
        given = {key: value for key, value in asked.items() if value is not None}
        if self.kind == SHARED:
            given["kind"] = SHARED
        return f"?{urlencode(given)}" if given else ""

    def show(self) -> dict[str, Any]:
        return request("GET", self._place + self._query(), start=True)

    def create(self, exist_ok: bool = False) -> dict[str, Any]:
        body = {"name": self.name, "kind": self.kind, "exist_ok": exist_ok}
        return request("POST", "/v1/volumes", body, start=True)

    def delete(self) -> None:
        request("DELETE", self._place + self._query(), start=True)

    def rename(self, new_name: str) -> None:
        request("POST", f"{self._place}/rename", {"name": new_name}, start=True)

    def entries(self, path: str, recursive: bool) -> list[FileEntry]:
        query = self._query(path=path, recursive="1" if recursive else None)
        found = request("GET", f"{self._place}/entries{query}", start=True)["entries"]
        return [
            FileEntry(each["path"], FileEntryType(each["type"]), each["mtime"], each["size"])
            for each in found
        ]

    def read(self, path: str, start: int | None = None, end: int | None = None) -> Iterator[bytes]:
        """Asks at once. Raises ``NotFoundError``, ``DataLossError``."""
        _have_server()
        return self._read_on(self._content(path, start, end), path, start or 0, end)

    def _content(self, path: str, start: int | None, end: int | None) -> Iterator[bytes]:
        return content(f"{self._place}/content{self._query(path=path, start=start, end=end)}")

    def _read_on(self, parts: Iterator[bytes], path: str, at: int, end: int | None) -> Iterator[bytes]:
        try:
            for part in parts:
                at += len(part)
                yield part
        except (DataLossError, BrokenOff):
            # Broken off: asked for what is next, the server says what is wrong with it.
            next(self._content(path, at, end), b"")
            raise

    def remove(self, path: str, recursive: bool) -> None:
        request(
            "POST",
            f"{self._place}/remove{self._query()}",
            {"path": path, "recursive": recursive},
            start=True,
        )

    def copy(self, sources: Sequence[str], target: str, recursive: bool) -> None:
        body = {"sources": list(sources), "target": target, "recursive": recursive}
        request("POST", f"{self._place}/copy{self._query()}", body, start=True)

    def collect(self) -> int:
        return request("POST", f"{self._place}/collect", {}, start=True)["bytes_freed"]

    # of this container

    def commit(self) -> dict[str, Any]:
        return self._of_container("commit")

    def reload(self) -> dict[str, Any]:
        return self._of_container("reload")

    def _of_container(self, what: str) -> dict[str, Any]:
        container = context.container()
        if container is None:
            raise InvalidError(
                f"{what}() of volume {self.name!r}: it is for a container that has the volume mounted"
            )
        place = f"/v1/containers/{container.container_id}/volumes/{quote(self.name, safe='')}/{what}"
        return json.loads(json.dumps(send("POST", place, b"{}", "application/json")))

    # sending

    def write_shared(self, path: str, file: IO[bytes], mode: int = 0o644) -> int:
        """A file of a network file system; returns its size."""
        _have_server()
        query = self._query(path=path, mode=mode)
        answer: dict[str, Any] = send(
            "PUT", f"{self._place}/content{query}", _pieces(file), "application/octet-stream"
        )
        return answer["size_bytes"]

    def upload(
        self,
        files: Sequence[LocalFile],
        directories: Sequence[str] = (),
        force: bool = False,
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """Send files and commit them. Raises ``AlreadyExistsError`` unless ``force``, ``InvalidError`` for
        one that changes meanwhile."""
        _have_server()
        upload = _Upload(self._place, sum(each.size for each in files), on_progress)
        with ThreadPoolExecutor(THREADS) as threads:
            hashed = list(threads.map(upload.hash, files))
            wanted = sorted({digest for digests in hashed for digest in digests})
            missing: set[str] = set()
            for start in range(0, len(wanted), DIGESTS_ASKED):
                some = {"digests": wanted[start : start + DIGESTS_ASKED]}
                missing.update(request("POST", f"{self._place}/blocks/missing", some)["missing"])
            sent = sum(_missed_bytes(each, digests, missing) for each, digests in zip(files, hashed))
            upload.skip(sent)
            sends = [threads.submit(upload.send, batch) for batch in _batches(files, hashed, missing)]
            try:
                for each in sends:
                    each.result()
            except BaseException:
                for each in sends:
                    each.cancel()
                raise
        told = [{"path": path, "type": int(FileEntryType.DIRECTORY), "mode": 0o755} for path in directories]
        told += [
            {
                "path": each.path,
                "mode": each.mode,
                "size": each.size,
                "mtime_ns": each.mtime_ns,
                "blocks": digests,
            }
            for each, digests in zip(files, hashed)
        ]
        body = json.dumps({"files": told, "force": force}).encode()
        committed: dict[str, Any] = send("POST", f"{self._place}/commit", body, "application/json")
        return {**committed, "stored_bytes": sent}


class _Upload:
    def __init__(self, place: str, total: int, on_progress: OnProgress | None) -> None:
        self._place = place
        self._total = total
        self._done = 0
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def skip(self, sent: int) -> None:
        """So much is there already."""
        self._add(self._total - sent)

    def _add(self, count: int) -> None:
        with self._lock:
            self._done += count
            done = self._done
        if self._on_progress is not None:
            self._on_progress(done, self._total)

    def hash(self, each: LocalFile) -> list[str]:
        digests: list[str] = []
        with each.open() as file:
            for start in range(0, each.size, BLOCK_BYTES):
                digests.append(hashlib.sha256(_block(file, each, start)).hexdigest())
        return digests

    def send(self, batch: list[tuple[LocalFile, int, str]]) -> None:
        body = bytearray()
        for each, start, digest in batch:
            with each.open() as file:
                block = _block(file, each, start)
            if hashlib.sha256(block).hexdigest() != digest:
                raise InvalidError(f"{each.source} changed while it was sent; send it again")
            body += len(block).to_bytes(4, "big") + block
        send("POST", f"{self._place}/blocks", bytes(body), "application/octet-stream")
        self._add(len(body) - 4 * len(batch))


def _block(file: IO[bytes], each: LocalFile, start: int) -> bytes:
    length = min(BLOCK_BYTES, each.size - start)
    block = os.pread(file.fileno(), length, start)
    while len(block) < length:
        more = os.pread(file.fileno(), length - len(block), start + len(block))
        if not more:
            raise InvalidError(f"{each.source} became shorter while it was read; send it again")
        block += more
    return block


def _missed_bytes(each: LocalFile, digests: list[str], missing: set[str]) -> int:
    return sum(
        min(BLOCK_BYTES, each.size - number * BLOCK_BYTES)
        for number, digest in enumerate(digests)
        if digest in missing
    )


def _batches(
    files: Sequence[LocalFile], hashed: Sequence[list[str]], missing: set[str]
) -> Iterator[list[tuple[LocalFile, int, str]]]:
    """Each missing block once, small ones together."""
    batch: list[tuple[LocalFile, int, str]] = []
    size = 0
    left = set(missing)
    for each, digests in zip(files, hashed):
        for number, digest in enumerate(digests):
            if digest not in left:
                continue
            left.discard(digest)
            start = number * BLOCK_BYTES
            batch.append((each, start, digest))
            size += min(BLOCK_BYTES, each.size - start)
            if size >= REQUEST_BYTES - BLOCK_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def list_volumes(kind: str = VOLUME) -> list[dict[str, Any]]:
    query = "" if kind == VOLUME else f"?kind={kind}"
    found: list[dict[str, Any]] = request("GET", f"/v1/volumes{query}", start=True)["volumes"]
    return found


def local_file(source: str | os.PathLike[str], path: str, mode: int | None = None) -> LocalFile:
    """A file of this machine. Raises ``NotFoundError``, ``InvalidError``."""
    source = os.fspath(source)
    try:
        status = os.stat(source)
    except OSError as error:
        raise NotFoundError(f"{source} cannot be uploaded: {error.strerror}.") from None
    if not os.path.isfile(source):
        raise InvalidError(f"{source} cannot be uploaded: it is no regular file.")
    given = status.st_mode & 0o777 if mode is None else mode
    return LocalFile(path, source, given, status.st_size, status.st_mtime_ns)


def file_object(file: IO[bytes], path: str, mode: int | None = None) -> LocalFile:
    """What a file object gives from where it stands, copied aside."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - open until the upload is over
    size = 0
    while True:
        part = file.read(1 << 20)
        if not part:
            break
        if isinstance(part, str):
            raise InvalidError(f"the file object for {path!r} gives text; open it in binary mode")
        copy.write(part)
        size += len(part)
    copy.flush()
    given = 0o644 if mode is None else mode
    return LocalFile(path, getattr(file, "name", repr(file)), given, size, 0, copy)


def local_directory(source: str | os.PathLike[str], path: str, recursive: bool = True) -> list[LocalFile]:
    """Every regular file below a directory, under the same names below ``path``. A link to a file is sent as
    the file; one to a directory is not followed."""
    source = os.fspath(source)
    if not os.path.isdir(source):
        raise NotFoundError(f"there is no directory {source}.")
    found: list[LocalFile] = []
    for directory, names, files in os.walk(source):
        names.sort()
        below = os.path.relpath(directory, source)
        inside = [path.rstrip("/"), *([] if below == "." else below.split(os.sep))]
        for name in sorted(files):
            full = os.path.join(directory, name)
            if os.path.isfile(full):
                found.append(local_file(full, "/".join([*inside, name])))
        if not recursive:
            break
    return found


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while True:
        part = file.read(1 << 20)
        if not part:
            return
        yield part


def _have_server() -> None:
    if context.is_local():
        request("GET", "/v1/volumes", start=True)
