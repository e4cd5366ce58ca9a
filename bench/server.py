"""A Glowplug server for one benchmark, in a home of its own: it meets no other server and no setting."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

COMMAND = os.path.join(os.path.dirname(sys.executable), "glowplug")


@contextlib.contextmanager
def own_server() -> Iterator[None]:
    """The first use within starts it; it has ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="glowplug-bench-") as home:
        kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("GLOWPLUG_")}
        os.environ["GLOWPLUG_HOME"] = home
        try:
            yield
        finally:
            stop_server()
            del os.environ["GLOWPLUG_HOME"]
            os.environ.update(kept)


def stop_server() -> None:
    """Should it not hear, it ends by itself: its home is gone."""
    subprocess.run([COMMAND, "server", "stop"], check=False, capture_output=True)
