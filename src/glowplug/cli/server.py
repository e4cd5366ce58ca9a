"""``glowplug server``: start, stop and look at the local server of this user and home."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from glowplug.model import errors

if TYPE_CHECKING:
    from glowplug.client.settings import Settings

STOP_TIMEOUT_S = 60.0
"""Exit handlers have 30 s; a server that is not gone by then is killed with --force."""
FOLLOW_POLL_S = 0.2


@click.group()
def server() -> None:
    """Start, stop or look at the local server.

    \b
    Commands start it by themselves and it ends when idle; this is for looking at it and for clearing up.
    Example:
      glowplug server status
      glowplug server stop --force
    """


@server.command()
def start() -> None:
    """Start the server, or say that it runs.

    \b
    Example:
      GLOWPLUG_GPUS="8xH100" glowplug server start
    """
    from glowplug.client.launch import dial_server

    sock, (pid, banner) = dial_server()
    sock.close()
    click.echo(f"the server runs (pid {pid}): {banner}")


@server.command()
@click.option(
    "--force", is_flag=True, help="Also when it is busy: its runs fail, their containers are ended."
)
def stop(force: bool) -> None:
    """End the server; returns when it and everything it started are gone.

    \b
    Example:
      glowplug server stop
    """
    from glowplug.client.settings import read_settings

    pid = end_server(force)
    if pid is None:
        click.echo(f"no server runs for {read_settings().home}")
    else:
        click.echo(f"the server (pid {pid}) ended")


@server.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
def status(as_json: bool) -> None:
    """Say whether a server runs, with which configuration, and what it is busy with.

    \b
    Exits with 1 when none runs. Example:
      glowplug server status --json
    """
    from glowplug.cli.table import print_fields, print_json
    from glowplug.client.http import NoServerError, request
    from glowplug.client.settings import read_settings

    settings = read_settings()
    try:
        found = request("GET", "/v1/status", settings=settings)
    except NoServerError:
        if as_json:
            print_json({"running": False, "home": str(settings.home), "socket": str(settings.socket_path)})
        else:
            click.echo(
                f"no server runs for {settings.home}; `glowplug run` and `glowplug server start` start one"
            )
        sys.exit(1)
    if as_json:
        print_json({"running": True, **found, "log": str(settings.server_log_path)})
    else:
        print_fields(status_fields(found, settings))


def status_fields(found: dict[str, Any], settings: Settings) -> list[tuple[str, str]]:
    """The lines a person reads."""
    from glowplug.cli.table import count, duration

    config = " ".join(f"{name}={value}" for name, value in sorted(found["config"].items())) or "nothing set"
    apps = ", ".join(f"{app['name']} ({app['app_id']})" for app in found["apps"]) or "none"
    fields = [
        ("server", f"pid {found['pid']}, up {duration(found['uptime_s'])}, Glowplug {found['version']}"),
        ("fleet", found["banner"]),
        ("config", config),
        ("home", found["home"]),
        ("socket", found["socket"]),
        ("log", str(settings.server_log_path)),
        ("apps", apps),
        ("containers", count(found["containers"], "container")),
    ]
    if found["config_digest"] != settings.config_digest:
        wanted = settings.config_text or "no server setting"
        then = "fails until those apps have ended" if found["busy"] else "replaces this server"
        fields.append(("note", f"this shell asks for {wanted}: a `glowplug run` from here {then}"))
    return fields


@server.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many of the latest lines.")
def logs(follow: bool, lines: int) -> None:
    """Print the server's own log, also of one that has ended.

    \b
    Example:
      glowplug server logs -f
    """
    from glowplug.client.settings import read_settings

    path = read_settings().server_log_path
    try:
        file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise errors.NotFoundError(
            f"there is no log yet at {path}: no server of this home was ever started. "
            "`glowplug server start` starts one."
        ) from None
    with file:
        for line in file.readlines()[-lines:] if lines > 0 else file.readlines()[:0]:
            click.echo(line.rstrip("\n"))
        while follow:
            line = file.readline()
            if line:
                click.echo(line.rstrip("\n"))
            else:
                time.sleep(FOLLOW_POLL_S)


def end_server(force: bool) -> int | None:
    """End this home's server and return its pid once it is gone; None when none runs.

    Raises ``ConflictError`` when it is busy and ``force`` is not set.
    """
    from glowplug.client.settings import read_settings

    settings = read_settings()
    pid = _running_pid(settings)
    if pid is not None:
        if not force:
            _refuse_if_busy(settings, pid)
        _end(pid, force)
    return pid


def _running_pid(settings: Settings) -> int | None:
    """The pid in the lock file, if its writer still holds the lock."""
    import fcntl

    try:
        with open(settings.lock_path) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                text = lock.read().strip()
    except FileNotFoundError:
        return None
    if not text.isdecimal():
        raise errors.ConnectionError(
            f"a server holds {settings.lock_path} and has not said its pid yet; try again in a moment"
        )
    return int(text)


def _refuse_if_busy(settings: Settings, pid: int) -> None:
    from glowplug.client.http import NoServerError, request

    try:
        found = request("GET", "/v1/status", settings=settings)
    except NoServerError:
        return  # it is on its way out
    if found["busy"]:
        apps = ", ".join(f"{app['name']} ({app['app_id']})" for app in found["apps"])
        raise errors.ConflictError(
            f"the server (pid {pid}) is busy with {apps}. Wait for it, stop these with `glowplug app stop`, "
            "or end all with `glowplug server stop --force`."
        )


def _end(pid: int, force: bool) -> None:
    """SIGTERM, and with ``force`` SIGKILL to one that does not go."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if _is_gone(descriptor, STOP_TIMEOUT_S):
            return
        if not force:
            raise errors.ConnectionError(
                f"the server (pid {pid}) was told to end and is still there after {STOP_TIMEOUT_S:.0f} s; "
                "`glowplug server stop --force` kills it"
            )
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        _is_gone(descriptor, STOP_TIMEOUT_S)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise errors.PermissionDeniedError(f"the server (pid {pid}) belongs to another user") from None
    finally:
        os.close(descriptor)


def _is_gone(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
