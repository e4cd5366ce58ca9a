"""Whole commands, interpreter and imports included: ``glowplug run`` of hello world, ``glowplug --help``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import report
from rounds import Contestant, measure
from server import COMMAND, own_server, stop_server

HELLO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hello.py")
IN_A_POOL = """
from concurrent.futures import ProcessPoolExecutor
from functions import noop
with ProcessPoolExecutor(1) as pool:
    print(pool.submit(noop, 1).result())
"""
IN_RAY = """
import ray
from functions import noop
ray.init(num_cpus=2, include_dashboard=False)
print(ray.get(ray.remote(noop).remote(1)))
"""

Call = Callable[[], object]
Start = Callable[[], contextlib.AbstractContextManager[Call]]


def command(*arguments: str, needs: str = "") -> Start:
    """Run this command to its end; ``needs`` is imported first, to see whether it is there."""

    @contextlib.contextmanager
    def start() -> Iterator[Call]:
        if needs:
            __import__(needs)
        yield lambda: subprocess.run(arguments, check=True, capture_output=True, cwd=os.path.dirname(HELLO))

    return start


def main() -> None:
    options = report.arguments(__doc__, rounds=10)
    again = Contestant("`glowplug run hello.py`, server there", command(COMMAND, "run", HELLO), ("glowplug",))
    usage = Contestant("`glowplug --help`", command(COMMAND, "--help"))
    contestants = [
        Contestant(
            "`glowplug run hello.py`, no server yet", command(COMMAND, "run", HELLO), before=stop_server
        ),
        again,
        usage,
        Contestant("`python -c pass`", command(sys.executable, "-c", "pass")),
        Contestant("a script with a ProcessPoolExecutor", command(sys.executable, "-c", IN_A_POOL)),
        Contestant("a script with a Ray task", command(sys.executable, "-c", IN_RAY, needs="ray"), ("ray",)),
    ]
    for each in contestants:
        each.warm_up = 0
    with own_server():
        measure(contestants, options.rounds, calls=1)
    targets = [
        report.Target("second `glowplug run` of hello world", again.median_s, 0.5, unit="s"),
        report.Target("`glowplug --help`", usage.median_s, 0.150, unit="s"),
    ]
    title = "Whole commands, from the shell to the shell"
    report.finish(
        report.Report("cold", title, [again, *(c for c in contestants if c is not again)], again, targets)
    )


if __name__ == "__main__":
    main()
