"""What the sandbox adds to a container: a bare fork, one with its own root, one in control groups.

Each from a process that has imported what containers need, inside the bubblewrap of a zygote, to the first
line of the forked process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import report
from rounds import Contestant, measure

from glowplug.backends.local import bubblewrap, cgroups, limits
from glowplug.backends.local.environments import Environments, runtime_directory
from glowplug.backends.local.hidden import HiddenPaths
from glowplug.backends.local.sandbox import RootPlan, make_root_plan
from glowplug.container.frames import FrameSocket

DIRECTORY = os.path.dirname(os.path.abspath(__file__))
FORKING = os.path.join(DIRECTORY, "sandbox_forks.py")
BOUNDS = {"scratch": "", "memory_files_mib": 0, "processes": 0}
ALLOWANCE_MS = 15.0
"""What the sandbox may add to a start."""

Call = Callable[[], object]


def root_plan() -> RootPlan:
    environment = {
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "sys_path": [each for each in sys.path if each],
    }
    made = Environments(runtime_directory(), DIRECTORY, Path("/nowhere"), None, sandboxed=True)
    source = {"directory": DIRECTORY, "script": None}
    return make_root_plan(made.of_app(environment), source, [], [], HiddenPaths([]))


@contextlib.contextmanager
def forks(isolated: bool, grouped: bool) -> Iterator[Call]:
    found = bubblewrap.probe().bubblewrap
    assert found is not None, "no sandbox here"
    plan = root_plan()
    ours, theirs = socket.socketpair()
    command = [*plan.bubblewrap_arguments(found), sys.executable, FORKING, str(theirs.fileno())]
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
    hierarchies = cgroups.find()[0]
    with tempfile.TemporaryDirectory() as home:
        groups = (
            cgroups.ControlGroups(hierarchies, Path(home), 2, limits.total_memory_mib()) if grouped else None
        )
        with subprocess.Popen(command, env=env, pass_fds=[theirs.fileno()]):
            theirs.close()
            stream = FrameSocket(ours)
            assert stream.receive() == "ready"
            count = 0

            def call() -> None:
                nonlocal count
                count += 1
                group = groups.make(f"c{count}", limits.Limits(processes=1000)) if groups else None
                entrances = group.entrances() if group else []
                stream.send(
                    {
                        "root": plan.for_container([]) if isolated else None,
                        "bounds": BOUNDS,
                        "groups": len(entrances),
                    },
                    entrances,
                )
                for fd in entrances:
                    os.close(fd)
                assert stream.receive() == "here"
                assert stream.receive() == "gone"
                if group is not None:
                    group.remove()

            yield call
            ours.close()
        if groups is not None:
            groups.close()


def main() -> None:
    options = report.arguments(__doc__, rounds=10, calls=10)
    bare = Contestant("a bare fork", lambda: forks(False, False), (), warm_up=2)
    isolated = Contestant("a fork with its own root", lambda: forks(True, False), (), warm_up=2)
    grouped = Contestant("the same in control groups", lambda: forks(True, True), (), warm_up=2)
    measure([bare, isolated, grouped], options.rounds, options.calls)
    share_ms = (isolated.median_s - bare.median_s) * 1e3
    targets = [report.Target("the root's share", share_ms / 1e3, ALLOWANCE_MS / 1e3, unit="s")]
    with_groups = (grouped.median_s - bare.median_s) * 1e3
    targets.append(report.Target("with control groups", with_groups / 1e3, ALLOWANCE_MS / 1e3, unit="s"))
    report.finish(
        report.Report(
            "sandbox", "What the sandbox adds to a fork", [bare, isolated, grouped], grouped, targets
        )
    )


if __name__ == "__main__":
    main()
