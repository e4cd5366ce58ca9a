"""Programs of a build: nothing of them stays, and how they ended is told."""

import os
import select
import sys
from pathlib import Path

import pytest

from glowplug.images.commands import CommandFailed, run_command

STARTS_ANOTHER = """
import os, signal, subprocess, sys
one = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], stdout=subprocess.DEVNULL)
open(sys.argv[1], "w").write(str(one.pid))
os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "killed" else os._exit(0)
"""


@pytest.mark.parametrize("end", ["killed", "done"])
def test_what_a_program_has_started_ends_with_it(tmp_path: Path, end: str):
    arguments = [sys.executable, "-c", STARTS_ANOTHER, str(tmp_path / "pid"), end]
    if end == "killed":
        with pytest.raises(CommandFailed) as failed:
            run_command(arguments, os.environ, lambda line: None, lambda: False)
        assert "SIGKILL" in failed.value.lines[-1]
    else:
        run_command(arguments, os.environ, lambda line: None, lambda: False)
    one = int((tmp_path / "pid").read_text())
    try:
        ended = select.select([os.pidfd_open(one)], [], [], 10)[0]
    except ProcessLookupError:
        return
    assert ended
