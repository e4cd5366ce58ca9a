"""Lines of apps as files: one JSON object a line, two files an app, of which the older goes when the newer is
full.

One thread writes and reads; what it cannot write is dropped and told once, because a run must not wait for
its log.
"""

from __future__ import annotations

import collections
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from glowplug.client.session import LogLine
from glowplug.ports.logs import LOG_LIMIT_BYTES, LOG_RETENTION_S, Line

DIRECTORY = "logs"
SUFFIX, OLDER_SUFFIX = ".jsonl", ".older.jsonl"
QUEUE_LINES = 200_000
"""Lines that wait while the disk is slow; above this they are dropped."""
_APP_ID = re.compile(r"[\w-]{1,128}")


class LogFiles:
    """Implements ``ports.logs.Logs`` in ``home``. ``on_trouble(text)`` is called from its thread."""

    def __init__(
        self, home: Path, on_trouble: Callable[[str], None], limit_bytes: int = LOG_LIMIT_BYTES
    ) -> None:
        self._directory = home / DIRECTORY
        self._on_trouble = on_trouble
        self._file_limit_bytes = limit_bytes // 2
        self._turn = threading.Condition()
        self._queue: list[tuple[str, Sequence[Line]]] = []
        self._queued_lines = 0
        self._errands: list[Callable[[], None]] = []
        self._closing = False
        self._troubled = False
        self._thread = threading.Thread(target=self._run, name="glowplug-logs", daemon=True)
        self._thread.start()

    def write(self, app_id: str, lines: Sequence[Line]) -> None:
        with self._turn:
            if self._queued_lines < QUEUE_LINES:
                self._queue.append((app_id, lines))
                self._queued_lines += len(lines)
                self._turn.notify()

    def read(
        self, app_id: str, latest: int, function: str | None = None, container_id: str | None = None
    ) -> Future[Sequence[Line]]:
        future: Future[Sequence[Line]] = Future()

        def answer() -> None:
            if not future.set_running_or_notify_cancel():
                return
            found: collections.deque[LogLine] = collections.deque(maxlen=latest)
            try:
                for line in self._lines_of(app_id):
                    if function in (None, line.function) and container_id in (None, line.container_id):
                        found.append(line)
            except OSError as error:
                future.set_exception(error)
            else:
                future.set_result(list(found))

        self._do(answer)
        return future

    def forget_old(self, at: float) -> None:
        def forget() -> None:
            for path in self._directory.glob(f"*{SUFFIX}"):
                if path.stat().st_mtime < at - LOG_RETENTION_S:
                    path.unlink(missing_ok=True)

        self._do(forget)

    def close(self) -> None:
        with self._turn:
            self._closing = True
            self._turn.notify()
        self._thread.join()

    def _do(self, errand: Callable[[], None]) -> None:
        with self._turn:
            self._errands.append(errand)
            self._turn.notify()

    # the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._turn:
                while not (self._queue or self._errands or self._closing):
                    self._turn.wait()
                queue, self._queue, self._queued_lines = self._queue, [], 0
                errands, self._errands = self._errands, []
                closing = self._closing
            by_app: dict[str, list[Line]] = {}
            for app_id, lines in queue:
                by_app.setdefault(app_id, []).extend(lines)
            for app_id, lines in by_app.items():
                self._attempt(lambda app_id=app_id, lines=lines: self._append(app_id, lines))
            for errand in errands:
                self._attempt(errand)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            if not self._troubled:
                self._troubled = True
                self._on_trouble(
                    f"what apps print cannot be written to {self._directory} ({error.strerror}): only the "
                    "latest lines are kept, in memory. Free some space on its disk."
                )

    def _append(self, app_id: str, lines: Sequence[Line]) -> None:
        path = self._path(app_id)
        if path is None:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = "".join(_encoded(line) for line in lines).encode("utf-8", "backslashreplace")
        with open(path, "ab", opener=_private) as file:
            file.write(text)
            full = file.tell() > self._file_limit_bytes
        self._troubled = False
        if full:
            os.replace(path, path.with_name(f"{app_id}{OLDER_SUFFIX}"))

    def _lines_of(self, app_id: str) -> Iterator[LogLine]:
        path = self._path(app_id)
        if path is None:
            return
        for each in (path.with_name(f"{app_id}{OLDER_SUFFIX}"), path):
            try:
                with open(each, encoding="utf-8", errors="replace") as file:
                    for text in file:
                        line = _decoded(text)
                        if line is not None:
                            yield line
            except FileNotFoundError:
                continue

    def _path(self, app_id: str) -> Path | None:
        """None for what is no id: a path made of it could lead anywhere."""
        return self._directory / f"{app_id}{SUFFIX}" if _APP_ID.fullmatch(app_id) else None


def _encoded(line: Line) -> str:
    fields = [line.function, line.input_id, line.container_id, line.stream, line.text, line.at]
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _decoded(text: str) -> LogLine | None:
    """None for a line that a crash has cut."""
    try:
        fields: Any = json.loads(text)
        return LogLine(*fields)
    except (ValueError, TypeError):
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
