"""Bytes on their way: one line that says how far they are, from the second second on, on a terminal only; and
downloads that are whole or not there."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from glowplug.cli.table import amount
from glowplug.model import errors

QUIET_S = 1.0
REDRAW_S = 0.1


class Progress:
    """``with Progress("sending") as progress: progress(done_bytes, total_bytes)``, from any thread."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = time.monotonic()
        self._drawn = 0.0
        self._shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        with self._lock:
            if not self._shown or now - self._began < QUIET_S or now - self._drawn < REDRAW_S:
                return
            self._drawn = now
            share = f"{100 * done // total} %" if total else ""
            rate = amount(int(done / (now - self._began)))
            sys.stderr.write(f"\r\x1b[2K{self._what}: {amount(done)} of {amount(total)}, {share}, {rate}/s")
            sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._drawn:
                sys.stderr.write("\r\x1b[2K")
                sys.stderr.flush()


def write_whole(target: Path, parts: Iterable[bytes], force: bool) -> int:
    """A file of these bytes; until it has all of them it has another name. Returns its size in bytes.

    Raises ``AlreadyExistsError`` unless ``force``, ``InvalidError`` where it cannot be written.
    """
    if target.exists() and not force:
        raise errors.AlreadyExistsError(f"{target} exists; --force replaces it")
    temporary = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
    size = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
                size += len(part)
        os.replace(temporary, target)
    except OSError as error:
        raise errors.InvalidError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return size
