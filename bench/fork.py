"""A further container whose module imports torch, from the call to its first result."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import report
from rounds import Contestant, measure
from server import own_server
from torch_functions import torch_sum

import glowplug

app = glowplug.App("bench-fork")
# A container of one input: every call needs a further one, forked from the zygote that has imported torch.
remote_sum = app.function(max_inputs=1, max_containers=2)(torch_sum)

DIRECTORY = os.path.dirname(os.path.abspath(__file__))
FRESH = "from torch_functions import torch_sum; print(torch_sum())"
FORKING = """
import os, sys
from torch_functions import torch_sum
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        print(torch_sum(), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""

Call = Callable[[], object]


def checked(result: float) -> None:
    assert result == 3.0


@contextlib.contextmanager
def ours() -> Iterator[Call]:
    with own_server(), app.run():
        yield lambda: checked(remote_sum.remote())


@contextlib.contextmanager
def bare_fork() -> Iterator[Call]:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING],
        cwd=DIRECTORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None

        def call() -> None:
            parent.stdin.write("\n")
            parent.stdin.flush()
            checked(float(parent.stdout.readline()))

        yield call
        parent.stdin.close()


@contextlib.contextmanager
def fresh_interpreter() -> Iterator[Call]:
    def call() -> None:
        checked(float(subprocess.check_output([sys.executable, "-c", FRESH], cwd=DIRECTORY)))

    yield call


def main() -> None:
    options = report.arguments(__doc__, rounds=10, calls=3)
    glow = Contestant("Glowplug, a further container", ours, ("glowplug",), warm_up=1)
    contestants = [
        glow,
        Contestant("os.fork of a process with torch", bare_fork, ("torch",), warm_up=1),
        Contestant("a fresh interpreter", fresh_interpreter, ("torch",), warm_up=0),
    ]
    measure(contestants, options.rounds, options.calls)
    targets = [report.Target("to its first result", glow.median_s, 0.060, unit="s")]
    title = "A further container with torch imported, to its first result"
    report.finish(report.Report("fork", title, contestants, glow, targets))


if __name__ == "__main__":
    main()
