"""asyncio's selector, with a short way to those who read frames.

A warm call wakes the server twice, and each time asyncio would queue a handle and run it in a context of its
own. Who watches a descriptor here is called as soon as the kernel reports it, within ``select``; everything
else goes through asyncio as ever. What is called may use the loop, which looks at its queues when ``select``
returns.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable


class DirectSelector(selectors.DefaultSelector):
    """Implements ``wire.stream.Watcher``."""

    def __init__(self) -> None:
        super().__init__()
        self.after_turn: Callable[[], None] = _nothing
        """Follows whatever was called."""
        self.on_error: Callable[[Exception], None] = _nothing
        """Hears what it raised."""

    def watch(
        self, fd: int, readable: Callable[[], None], writable: Callable[[], None] | None = None
    ) -> None:
        """From now on call these; again with others to change them."""
        events = selectors.EVENT_READ if writable is None else selectors.EVENT_READ | selectors.EVENT_WRITE
        change = self.modify if fd in self.get_map() else self.register
        change(fd, events, _Watched(readable, writable))

    def unwatch(self, fd: int) -> None:
        self.unregister(fd)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What asyncio shall handle."""
        ready = super().select(timeout)
        left = []
        for key, events in ready:
            watched = key.data
            if type(watched) is not _Watched:
                left.append((key, events))
                continue
            try:
                if events & selectors.EVENT_READ:
                    watched.readable()
                if events & selectors.EVENT_WRITE and watched.writable is not None:
                    watched.writable()
            except Exception as error:
                self.on_error(error)
        if len(left) < len(ready):
            self.after_turn()
        return left


class _Watched:
    __slots__ = ("readable", "writable")

    def __init__(self, readable: Callable[[], None], writable: Callable[[], None] | None) -> None:
        self.readable = readable
        self.writable = writable


def _nothing(*_: object) -> None:
    pass
