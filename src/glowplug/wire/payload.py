"""A payload: pickled bytes nobody but the two ends opens.

Small ones stand in their frame. Large ones are written to a memory file whose descriptor travels beside the
frame over the Unix socket: no copy in the server, no name to guess or to clean up. The receiver maps it
copy-on-write, so arrays stay writable and a retry still finds the bytes as they were sent.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Union, cast

from glowplug.wire.mapped_files import mapped_files
from glowplug.wire.memory_files import memory_files

INLINE_LIMIT_BYTES = 1 << 20
"""Larger payloads are memory files."""
ALIGNMENT_BYTES = 64
"""Where buffers begin in a file: arrays are aligned as their libraries expect."""

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

    @property
    def file_size_bytes(self) -> int:
        """What its file must hold; the file itself may be larger."""
        return _layout(self.sizes)[1]

    def to_wire(self) -> bytes | list[int]:
        return self.body if self.body is not None else list(self.sizes)

    def parts(self) -> list[Buffer]:
        """The pickle, then its buffers; writable, private to the caller."""
        if self.body is not None:
            return [self.body]
        if self.fd is None:
            raise ValueError("the payload was closed")
        offsets, total = _layout(self.sizes)
        if total == 0:
            return [b"" for _ in self.sizes]
        mapped = mapped_files.map(self.fd, total)
        return [mapped[offset : offset + size] for offset, size in zip(offsets, self.sizes)]

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
    sizes = [len(part) for part in parts]
    return Payload(None, memory_files.write(parts, *_layout(sizes)), sizes)


def _layout(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where in its file each part begins, and where the last one ends."""
    offsets: list[int] = []
    end = 0
    for size in sizes:
        start = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES if size else end
        offsets.append(start)
        end = start + size
    return offsets, end


def from_wire(field: Any, fds: list[int]) -> Payload:
    """The payload of a message field; takes its descriptor off the front of ``fds``.

    Raises ``ValueError`` when that is missing.
    """
    if isinstance(field, list):
        if not fds:
            raise ValueError("a large payload came without its descriptor")
        return Payload(None, fds.pop(0), cast("list[int]", field))
    return Payload(field)
