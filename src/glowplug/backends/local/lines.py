"""Bytes a container wrote, cut into lines and given to the input that wrote them."""

from __future__ import annotations

from glowplug.wire.agreed import MARK_END, MARK_START

LINE_LIMIT_BYTES = 64 << 10
"""A longer line is cut here."""


class LineCutter:
    """One stream of one container. Lines belong to the input named by the last mark, else to the one
    that was running when they were read."""

    def __init__(self) -> None:
        self._partial = b""
        self._input_id = ""

    def feed(self, chunk: bytes, running: str) -> list[tuple[str, list[str]]]:
        """Complete lines by input, in order."""
        if MARK_START not in chunk and not self._partial:
            return self._cut(chunk, running)
        found: list[tuple[str, list[str]]] = []
        chunk = self._partial + chunk
        self._partial = b""
        first, *marked = chunk.split(MARK_START)
        owner = self._input_id or running
        found += self._cut(first, owner, last=not marked)
        for number, piece in enumerate(marked, 1):
            name, end, text = piece.partition(MARK_END)
            if not end and number == len(marked):  # the mark itself is not complete yet
                self._partial = MARK_START + piece
                break
            self._input_id = name.decode("ascii", "replace")
            found += self._cut(text, self._input_id or running, last=number == len(marked))
        return found

    def finish(self, running: str) -> list[tuple[str, list[str]]]:
        """The unfinished line, when its input is done; the next line is nobody's until marked."""
        partial, self._partial = self._partial, b""
        owner, self._input_id = self._input_id or running, ""
        if not partial or partial.startswith(MARK_START):
            self._partial = partial
            return []
        return [(owner, [_text(partial)])]

    def _cut(self, chunk: bytes, owner: str, last: bool = True) -> list[tuple[str, list[str]]]:
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if rest and (not last or len(rest) > LINE_LIMIT_BYTES):
            lines.append(rest)
        elif rest:
            self._partial = rest
        return [(owner, [_text(line) for line in lines])] if lines else []


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")
