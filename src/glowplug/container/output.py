"""The container's stdout and stderr as Python sees them: every change of the input that writes is marked.

The server reads the descriptors themselves, so children and C code are heard too; a mark only makes lines
that Python printed belong to the right input when several are on their way.
"""

from __future__ import annotations

import io
import os
import sys

from glowplug.wire.agreed import MARK_END, MARK_START


class MarkedWriter(io.RawIOBase):
    """Bytes to a descriptor, preceded by the id of the input whenever it changed."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._marked = ""
        self.input_id = ""

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, chunk) -> int:  # type: ignore[no-untyped-def]
        size = len(chunk)
        if self._marked != self.input_id:
            self._marked = self.input_id
            chunk = MARK_START + self.input_id.encode() + MARK_END + bytes(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._fd, view) :]
        return size


class MarkedOutput:
    """``sys.stdout`` and ``sys.stderr`` replaced for the life of the container."""

    def __init__(self) -> None:
        self._writers = (MarkedWriter(1), MarkedWriter(2))
        self._texts = [
            io.TextIOWrapper(
                io.BufferedWriter(writer), encoding="utf-8", errors="replace", line_buffering=True
            )
            for writer in self._writers
        ]
        sys.stdout, sys.stderr = self._texts
        sys.__stdout__, sys.__stderr__ = self._texts  # type: ignore[misc]

    def set_input(self, input_id: str) -> None:
        for writer in self._writers:
            writer.input_id = input_id

    def flush(self) -> None:
        for text in self._texts:
            try:
                text.flush()
            except (OSError, ValueError):  # the user closed it
                continue
