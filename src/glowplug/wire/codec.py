"""msgpack, by msgspec where it is installed and by a small codec of our own where it is not.

Values are None, bool, int, float, str, bytes, list and dict with string keys; tuples become lists.
"""

from __future__ import annotations

from typing import Any

from glowplug.wire import plain_msgpack

try:
    import msgspec as _msgspec

    encode = _msgspec.msgpack.Encoder().encode
    decode = _msgspec.msgpack.Decoder().decode
except ImportError:  # inside an image that has only the standard library
    encode = plain_msgpack.encode
    decode = plain_msgpack.decode

HEADER_BYTES = 4
MAX_FRAME_BYTES = 256 << 20
"""Longer frames are refused: payloads above a megabyte travel as memory files, not inside frames."""


class FrameError(Exception):
    """The other end sent what is no frame; the connection cannot go on."""


def frame(message: Any) -> bytes:
    """One message as bytes: a 4-byte big-endian length, then msgpack. Raises ``FrameError`` on one that no
    reader would take."""
    body = encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(body)} bytes; the limit is {MAX_FRAME_BYTES}")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class FrameReader:
    """Turns received bytes into messages, keeping what is not yet complete."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, received: bytes | memoryview) -> list[Any]:
        """The messages completed by ``received``; nothing refers to it afterwards.

        Raises ``FrameError`` on an absurd length and on a frame that is no message.
        """
        pending = self._pending
        if pending:
            pending += received
        view = memoryview(pending or received)
        messages: list[Any] = []
        position = 0
        end = len(view)
        while end - position >= HEADER_BYTES:
            start = position + HEADER_BYTES
            size = int.from_bytes(view[position:start], "big")
            if size > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {size} bytes; the limit is {MAX_FRAME_BYTES}")
            if end - start < size:
                break
            position = start + size
            try:
                messages.append(decode(view[start:position]))
            except (ValueError, RecursionError) as error:
                raise FrameError(f"a frame of {size} bytes that is no message: {error}") from None
        if pending:
            view.release()
            del pending[:position]
        elif position < end:
            pending += view[position:]
        return messages
