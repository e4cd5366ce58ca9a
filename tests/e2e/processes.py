"""Finding what a server has started: every process of it carries a variable of its environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

MARK = "LC_GLOWPLUG_TEST"
"""Variables of this kind are passed on to containers and to what they start."""
DEADLINE_S = 30.0


def marked(mark: str) -> dict[int, str]:
    """Pid and command line of every process that carries ``mark``."""
    wanted = f"{MARK}={mark}".encode()
    found: dict[int, str] = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as environ:
                if wanted not in environ.read().split(b"\0"):
                    continue
            with open(f"/proc/{name}/cmdline", "rb") as cmdline:
                found[int(name)] = cmdline.read().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
    return found


def until(condition: Callable[[], Any], what: str = "it", deadline_s: float = DEADLINE_S) -> Any:
    """What ``condition`` says once that is true."""
    deadline = time.monotonic() + deadline_s
    while not (said := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about in {deadline_s:.0f} s"
        time.sleep(0.005)
    return said
