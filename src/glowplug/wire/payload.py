"""A payload: pickled bytes nobody but the two ends opens.

Small ones stand in their frame. Large ones are written to a memory file (``memfd_create``) whose descriptor
travels beside the frame over the Unix socket: no copy in the server, no name to guess or to clean up, gone
with the last process that holds it. The receiver maps it copy-on-write, so arrays stay writable and a retry
still finds the bytes as they were sent.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import Any, Union, cast

INLINE_LIMIT_BYTES = 1 << 20
"""Larger payloads are memory files."""

Buffer = Union[bytes, bytearray, memoryview]


class Payload:
    """The pickle and its out-of-band buffers: inline (``body``) or in a file (``fd``, ``sizes``)."""

    __slots__ = ("body", "fd", "sizes")

    def __init__(self, body: bytes | None, fd: int | None = None, sizes: Sequence[int] = ()) -> None:
        self.body = body
        self.fd = fd
        self.sizes = sizes

    @property
    def size_bytes(self) -> int:
        return len(self.body) if self.body is not None else sum(self.sizes)

    def to_wire(self) -> bytes | list[int]:
        return self.body if self.body is not None else list(self.sizes)

    def parts(self) -> list[Buffer]:
        """The pickle, then its buffers; writable, private to the caller."""
        if self.body is not None:
            return [self.body]
        if self.fd is None:
            raise ValueError("the payload was closed")
        total = sum(self.sizes)
        if total == 0:
            return [b"" for _ in self.sizes]
        mapped = memoryview(
            mmap.mmap(self.fd, total, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        )
        parts: list[Buffer] = []
        start = 0
        for size in self.sizes:
            parts.append(mapped[start : start + size])
            start += size
        return parts

    def close(self) -> None:
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def make_payload(pickled: bytes, buffers: Sequence[Buffer] = ()) -> Payload:
    """A payload of a pickle and its out-of-band buffers. Raises ``OSError`` when memory is short."""
    if not buffers and len(pickled) <= INLINE_LIMIT_BYTES:
        return Payload(pickled)
    parts = [memoryview(pickled), *(memoryview(buffer).cast("B") for buffer in buffers)]
    fd = _memory_file()
    try:
        for part in parts:
            written = 0
            while written < len(part):
                written += os.write(fd, part[written : written + (1 << 30)])
    except BaseException:
        os.close(fd)
        raise
    return Payload(None, fd, [len(part) for part in parts])


def _memory_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("glowplug-payload", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # macOS: an unlinked file does the same
        return os.dup(file.fileno())


def from_wire(field: Any, fds: list[int]) -> Payload:
    """The payload of a message field; takes its descriptor off the front of ``fds``."""
    if isinstance(field, list):
        return Payload(None, fds.pop(0), cast("list[int]", field))
    return Payload(field)
