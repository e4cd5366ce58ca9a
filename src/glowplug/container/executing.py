"""A command beside the function, in the same container: a process of its own is started that runs it.

Not forked from here: other threads of this process may hold any lock.
"""

from __future__ import annotations

import os
import sys

ENTRY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "exec_entry.py")


def open_exec(channel: int) -> None:
    """Have what comes through ``channel`` (see ``exec_entry``) run, with this process's environment and
    directory. Returns at once; whoever holds the other end hears what became of it, or that it closed."""
    import subprocess  # few containers meet a command

    try:
        # It forks and leaves, so that the user's own os.wait() meets no stranger.
        starting = subprocess.Popen(
            [sys.executable, "-I", "-S", ENTRY, str(channel)], stdin=subprocess.DEVNULL, pass_fds=[channel]
        )
        starting.wait()
    except OSError as error:
        os.write(channel, b'{"failed": "no process can be started: %s"}\n' % str(error.strerror).encode())
    finally:
        os.close(channel)
