"""``python -m glowplug.container.entrypoint FD [--sandboxed] [--preload NAMES]``: a plain zygote on an
inherited socket."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys

from glowplug.wire.agreed import BEFORE_ENTRYPOINT

OF_SHELLS = frozenset({"_", "PWD", "OLDPWD", "SHLVL"})


def main() -> None:
    options = Options(sys.argv[1:])
    note_entrypoint()
    path = options.path + [each for each in sys.path if each not in options.path]
    if not options.own_modules_first:
        sys.path[:] = path
    from glowplug.container import isolation, zygote

    if not options.sandboxed:
        # Should the server have ended by now, the socket says so.
        isolation.die_with_parent(signal.SIGKILL, os.getppid())
    later = options.preload
    if options.own_modules_first:
        while later:  # from the runtime, while nothing else is on the path
            importlib.import_module(later.pop(0))
    sys.path[:] = path
    zygote.serve(socket.socket(fileno=options.fd), options.sandboxed, later)


class Options:
    """Read by hand: a parser takes as long to import as all else that is needed before the first fork."""

    def __init__(self, arguments: list[str]) -> None:
        fd, *rest = arguments
        self.fd = int(fd)
        self.sandboxed = "--sandboxed" in rest
        self.own_modules_first = "--own-modules-first" in rest
        """Import nothing from ``path`` here."""
        self.path = self._list(rest, "--path", "\n")
        """``sys.path`` of the client, a line each."""
        self.preload = self._list(rest, "--preload", ",")
        """Modules that most containers need."""

    @staticmethod
    def _list(arguments: list[str], name: str, separator: str) -> list[str]:
        if name not in arguments:
            return []
        return [each for each in arguments[arguments.index(name) + 1].split(separator) if each]


def note_entrypoint() -> None:
    """What the ENTRYPOINT of an image, through which this process was started, has added to its variables
    is for every container."""
    text = os.environ.pop(BEFORE_ENTRYPOINT, "")
    if not text:
        return
    import json

    from glowplug.container import process

    before = json.loads(text)
    process.by_entrypoint = {
        name: (before.get(name), value)
        for name, value in os.environ.items()
        if before.get(name) != value and name not in OF_SHELLS
    }


if __name__ == "__main__":
    main()
