"""``python -m glowplug.container.entrypoint FD [--sandboxed] [--preload NAMES]``: a plain zygote on an
inherited socket."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import socket
import sys

from glowplug.wire.agreed import BEFORE_ENTRYPOINT

OF_SHELLS = frozenset({"_", "PWD", "OLDPWD", "SHLVL"})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("fd", type=int)
    parser.add_argument("--sandboxed", action="store_true")
    parser.add_argument("--path", default="[]", help="sys.path of the client, as JSON")
    parser.add_argument("--own-modules-first", action="store_true", help="import nothing from --path here")
    parser.add_argument("--preload", default="", help="modules every container needs, comma-separated")
    options = parser.parse_args()
    note_entrypoint()
    wanted = json.loads(options.path)
    path = wanted + [each for each in sys.path if each not in wanted]
    if not options.own_modules_first:
        sys.path[:] = path
    for name in filter(None, options.preload.split(",")):
        importlib.import_module(name)

    from glowplug.container import isolation, zygote

    if not options.sandboxed:
        # Should the server have ended by now, the socket says so.
        isolation.die_with_parent(signal.SIGKILL, os.getppid())
    sys.path[:] = path
    zygote.serve(socket.socket(fileno=options.fd), options.sandboxed)


def note_entrypoint() -> None:
    """What the ENTRYPOINT of an image, through which this process was started, has added to its variables
    is for every container."""
    text = os.environ.pop(BEFORE_ENTRYPOINT, "")
    if not text:
        return
    from glowplug.container import process

    before = json.loads(text)
    process.by_entrypoint = {
        name: (before.get(name), value)
        for name, value in os.environ.items()
        if before.get(name) != value and name not in OF_SHELLS
    }


if __name__ == "__main__":
    main()
