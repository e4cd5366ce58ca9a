"""``python -m glowplug.assembly.local_server``: this user's server on this machine."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

from glowplug.assembly.fleet import make_inventory
from glowplug.assembly.images import make_images
from glowplug.backends.local.backend import LocalBackend
from glowplug.backends.local.inventory import GpuLocks
from glowplug.client.config import TYPES_VARIABLE, read_config
from glowplug.client.launch import connect
from glowplug.client.settings import Settings, make_private_directory, read_settings
from glowplug.model import errors
from glowplug.server.selector import DirectSelector
from glowplug.server.server import Server, say
from glowplug.store.buckets.buckets import Buckets
from glowplug.store.log_files import LogFiles
from glowplug.store.secrets import SecretStore
from glowplug.store.secrets_key import SecretsKey
from glowplug.store.sqlite_journal import SqliteJournal
from glowplug.store.volumes.stored import Stored
from glowplug.store.volumes.views import Views
from glowplug.store.volumes.volumes import Volumes
from glowplug.wire.receive import raise_file_limit
from glowplug.wire.stream import Outbox

LOCK_TIMEOUT_S = 20.0
LOCK_POLL_S = 0.01
SDK_PRELOAD = "glowplug.sdk.app,glowplug.sdk.image,glowplug.client.session,asyncio"
"""What containers need as soon as they do more than run a plain function; zygotes import it while idle."""
ALIAS_DIRECTORY = str(Path(__file__).resolve().parent.parent / "sdk" / "alias")
"""On the path of every container and its children, so that `import modal` is Glowplug there."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-fd", type=int, default=-1, help="where to say that it listens, or why not")
    options = parser.parse_args()
    if options.ready_fd >= 0 and os.fork():
        os._exit(0)  # the starter collects this process and need not live as long as the server
    settings = read_settings()
    try:
        make_private_directory(settings.runtime_directory)
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open(settings.lock_path, "a")  # noqa: SIM115 - held until this process ends
        if not _take_lock(lock, settings):
            _tell(options.ready_fd, b"running")
            return
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        raise_file_limit()
        selector = DirectSelector()
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            runner.run(_serve(settings, options.ready_fd, selector))
    except (errors.Error, OSError) as error:
        say(f"cannot serve: {error}")
        _tell(options.ready_fd, str(error).encode())
        sys.exit(1)


def _take_lock(lock: IO[str], settings: Settings) -> bool:
    """Wait for a server that is ending; False when one is there to stay (another starter was quicker)."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise errors.ConflictError(
                    f"an old server holds {settings.lock_path} and does not answer; "
                    "`glowplug server stop --force` ends it"
                ) from None
        sock = connect(settings)
        if sock is not None:
            sock.close()
            return False
        time.sleep(LOCK_POLL_S)


async def _serve(settings: Settings, ready_fd: int, selector: DirectSelector) -> None:
    loop = asyncio.get_running_loop()
    outbox = Outbox(selector)
    selector.after_turn = outbox.flush
    selector.on_error = lambda error: loop.call_exception_handler(
        {"message": "a connection's message could not be handled", "exception": error}
    )
    config = read_config()
    locks = GpuLocks(settings.home)
    inventory = make_inventory(settings, locks)
    types = config.types_text()
    secrets = SecretStore(settings.home, SecretsKey(os.environ))
    volumes = Volumes(settings.home, say)
    views = Views(volumes, Buckets(settings.home, say))
    images = make_images(settings.home, os.environ, secrets.variables_of, views, not inventory.virtual)
    backend = LocalBackend(
        inventory,
        locks,
        settings.home,
        outbox,
        preload=SDK_PRELOAD,
        alias_directory=ALIAS_DIRECTORY,
        variables={TYPES_VARIABLE: types} if types else {},
        private=[settings.runtime_directory],
        processes=_number(settings, "GLOWPLUG_PROCESSES"),
        shared_imports=_switch(settings, "GLOWPLUG_SHARED_IMPORTS"),
        sandbox_mode=settings.config.get("GLOWPLUG_SANDBOX", "auto"),
        images=images.store,
        volumes=views,
    )

    def warn(text: str) -> None:
        # From the journal's thread, or from this one before there is a server: heard once the loop runs.
        loop.call_soon_threadsafe(lambda: server.warn(text))

    journal = SqliteJournal(settings.home, warn)
    server = Server(settings, backend, outbox, journal, secrets, images.store, images.files, Stored(volumes))
    server.keep_lines(LogFiles(settings.home, warn))
    for told in await loop.run_in_executor(None, secrets.take_over_files):
        server.warn(told)
    server.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.end)
    say(f"serving on {settings.socket_path} (pid {os.getpid()}): {backend.banner}")
    _tell(ready_fd, b"ready")
    # What was built so far lives as long as the server; collections need not look at it again.
    gc.collect()
    gc.freeze()
    taken_over = loop.run_in_executor(None, volumes.take_over)
    swept = loop.run_in_executor(None, images.store.sweep)
    await server.serve()
    await swept
    await taken_over
    await loop.run_in_executor(None, images.close)
    say("ended")


def _switch(settings: Settings, name: str) -> bool:
    """On unless it was configured off. Raises ``InvalidError``."""
    text = settings.config.get(name, "on")
    if text not in ("on", "off"):
        raise errors.InvalidError(f"{name}={text!r}: must be on or off")
    return text == "on"


def _number(settings: Settings, name: str) -> int | None:
    """A positive number that was configured. Raises ``InvalidError``."""
    text = settings.config.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise errors.InvalidError(f"{name}={text!r}: must be a whole number from 1")
    return int(text)


def _tell(fd: int, text: bytes) -> None:
    if fd >= 0:
        try:
            os.write(fd, text)
            os.close(fd)
        except OSError:
            pass  # the starter gave up waiting


if __name__ == "__main__":
    main()
