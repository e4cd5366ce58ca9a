"""Bytes a container wrote, cut into lines and given to the input that wrote them."""

from __future__ import annotations

import re

from glowplug.wire.agreed import MARK_END, MARK_START

LINE_LIMIT_BYTES = 64 << 10
"""A longer line is cut here."""
_MARK = re.compile(rb"\x1e([A-Za-z0-9-]{0,80})\x1f")
_CUT_MARK = re.compile(rb"\x1e[A-Za-z0-9-]{0,80}\Z")
"""What may become a mark with the next chunk. Any other use of these bytes is the user's own."""
assert (MARK_START, MARK_END) == (b"\x1e", b"\x1f")


class LineCutter:
    """One stream of one container. Lines belong to the input named by the last mark, else to the one
    that was running when they were read."""

    def __init__(self) -> None:
        self._partial = b""
        self._input_id = ""

    def feed(self, chunk: bytes, running: str) -> list[tuple[str, list[str]]]:
        """Complete lines by input, in order."""
        if self._partial:
            chunk = self._partial + chunk
            self._partial = b""
        if MARK_START not in chunk:
            return self._cut(chunk, self._input_id or running)
        cut_mark = _CUT_MARK.search(chunk)
        begun = cut_mark[0] if cut_mark else b""
        first, *marked = _MARK.split(chunk[: len(chunk) - len(begun)])
        found = self._cut(first, self._input_id or running, last=not marked)
        for position in range(0, len(marked), 2):
            self._input_id = marked[position].decode("ascii")
            last = position + 2 == len(marked)
            found += self._cut(marked[position + 1], self._input_id or running, last)
        self._partial += begun
        return found

    def finish(self, done: str) -> list[tuple[str, list[str]]]:
        """The unfinished line, when its input is done; the next line is nobody's until marked."""
        if self._input_id not in ("", done):
            return []  # the next one writes already
        if not self._partial:
            self._input_id = ""
            return []
        cut_mark = _CUT_MARK.search(self._partial)
        begun = cut_mark[0] if cut_mark else b""
        text = self._partial[: len(self._partial) - len(begun)]
        self._partial, self._input_id = begun, ""
        return [(done, [_text(text)])] if text else []

    def _cut(self, chunk: bytes, owner: str, last: bool = True) -> list[tuple[str, list[str]]]:
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if rest and not last:
            lines.append(rest)
        elif len(rest) > LINE_LIMIT_BYTES:
            end = _whole_characters(rest)
            lines.append(rest[:end])
            self._partial = rest[end:]
        else:
            self._partial = rest
        return [(owner, [_text(line) for line in lines])] if lines else []


def _whole_characters(text: bytes) -> int:
    """The length of ``text`` without a character that is not complete at its end."""
    for back in range(1, min(4, len(text)) + 1):
        byte = text[-back]
        if byte >= 0xC0:  # the first of its character
            size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(text) - back if size > back else len(text)
        if byte < 0x80:
            break
    return len(text)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")
