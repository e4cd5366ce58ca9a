"""``glowplug volume`` and ``glowplug nfs``: storage that outlives containers, and files in and out of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

EVERYTHING = "**"
RIGHT = frozenset({"FILES", "SIZE", "MOUNTED"})


@click.group()
def volume() -> None:
    """Make volumes, put files into them and get files out of them.

    \b
    Example:
      glowplug volume create models
      glowplug volume put models weights/ /
      glowplug volume ls models /weights
    """


@click.group()
def nfs() -> None:
    """The same for network file systems, which have no commits.

    \b
    Example:
      glowplug nfs put scratch data.csv /
    """


def _kind() -> str:
    """Which of the two groups was asked."""
    context = click.get_current_context()
    parent = context.parent
    return "shared" if parent is not None and parent.command is nfs else "volume"


def _stored(name: str) -> Any:
    from glowplug.client.volumes import StoredVolume

    return StoredVolume(name, _kind())


def _word() -> str:
    return "volume" if _kind() == "volume" else "network file system"


@click.command()
@click.argument("name")
def create(name: str) -> None:
    """Make an empty one.

    \b
    Example:
      glowplug volume create models
    """
    _stored(name).create()
    click.echo(f"{_word()} {name} is there")


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
def list_(as_json: bool) -> None:
    """List them with their sizes.

    \b
    Example:
      glowplug volume list --json
    """
    from glowplug.cli.table import amount, duration, print_json, print_table
    from glowplug.client.volumes import list_volumes

    found = list_volumes(_kind())
    if as_json:
        print_json(found)
    elif not found:
        click.echo(f"there is no {_word()}; `glowplug {_group()} create NAME` makes one")
    elif _kind() == "shared":
        print_table(("NAME",), [(each["name"],) for each in found])
    else:
        now = time.time()
        rows = [
            (
                each["name"],
                "cannot be read" if each.get("problem") else str(each["files"]),
                "–" if each.get("problem") else amount(each["size_bytes"]),
                f"{duration(now - each['committed_at'])} ago" if each["commit"] else "–",
                str(each["mounted"]),
            )
            for each in found
        ]
        print_table(("NAME", "FILES", "SIZE", "COMMITTED", "MOUNTED"), rows, RIGHT)
        for each in found:
            if each.get("problem"):
                click.echo(each["problem"], err=True)


def _group() -> str:
    return "volume" if _kind() == "volume" else "nfs"


@click.command()
@click.argument("name")
@click.argument("path", default="/")
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
def ls(name: str, path: str, as_json: bool) -> None:
    """List the files of a directory.

    \b
    Example:
      glowplug volume ls models /weights
    """
    from glowplug.cli.table import amount, print_json, print_table

    found = _stored(name).entries(path, recursive=False)
    if as_json:
        print_json(
            [
                {"path": each.path, "type": each.type.name.lower(), "mtime": each.mtime, "size": each.size}
                for each in found
            ]
        )
        return
    rows = [
        (
            each.path + ("/" if each.type.name == "DIRECTORY" else ""),
            each.type.name.lower(),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(each.mtime)),
            amount(each.size) if each.type.name == "FILE" else "–",
        )
        for each in found
    ]
    if rows:
        print_table(("PATH", "TYPE", "CHANGED", "SIZE"), rows, RIGHT)


@click.command()
@click.argument("name")
@click.argument("local", type=click.Path(exists=True, path_type=Path))
@click.argument("remote", default="/")
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
def put(name: str, local: Path, remote: str, force: bool) -> None:
    """Send a file or a directory, in one commit. REMOTE with a slash at its end is a directory to put it in.

    \b
    Only blocks that the volume lacks are sent. Example:
      glowplug volume put models weights.bin /v2/
    """
    from glowplug.cli.table import amount, count
    from glowplug.cli.transfer import Progress
    from glowplug.client.volumes import local_directory, local_file

    target = remote + local.absolute().name if remote.endswith("/") else remote
    target = target.strip("/")
    files = local_directory(local, target) if local.is_dir() else [local_file(local, target)]
    stored = _stored(name)
    total = sum(each.size for each in files)
    with Progress("sending") as progress:
        if _kind() == "volume":
            done = stored.upload(files, force=force, on_progress=progress)
            new = f", {amount(done['stored_bytes'])} of it new" if done["changed"] else ", all there already"
        else:
            sent, new = 0, ""
            for each in files:
                with each.open() as file:
                    sent += stored.write_shared(each.path, file, each.mode)
                progress(sent, total)
    click.echo(f"{count(len(files), 'file')}, {amount(total)} → {name}:/{target}{new}")


@click.command()
@click.argument("name")
@click.argument("remote")
@click.argument("local", default=".")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def get(name: str, remote: str, local: str, force: bool) -> None:
    """Fetch a file, or all that is below a directory; `-` is standard output.

    \b
    Example:
      glowplug volume get models /weights/config.json -
    """
    from glowplug.cli.table import amount, count
    from glowplug.cli.transfer import Progress, write_whole
    from glowplug.model import errors

    stored = _stored(name)
    path = remote.removesuffix(EVERYTHING).strip("/")
    entries = stored.entries(path, recursive=True)
    files = [each for each in entries if each.type.name == "FILE"]
    single = len(entries) == 1 and entries[0].path == path
    if local == "-":
        if not single:
            raise errors.InvalidError(f"{name}:/{path} is a directory; standard output takes one file")
        for part in stored.read(path):
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        return
    place = Path(local)
    base = path.rpartition("/")[0]
    total, done = sum(each.size for each in files), 0
    with Progress("fetching") as progress:

        def counted(parts: Iterator[bytes]) -> Iterator[bytes]:
            nonlocal done
            for part in parts:
                yield part
                done += len(part)
                progress(done, total)

        for each in files:
            inside = each.path[len(base) :].lstrip("/")
            target = place if single and not place.is_dir() else place / inside
            write_whole(target, counted(stored.read(each.path)), force)
    click.echo(f"{count(len(files), 'file')}, {amount(total)} → {place}")


@click.command()
@click.argument("name")
@click.argument("path")
@click.option("-r", "--recursive", is_flag=True, help="A directory with all that is in it.")
def rm(name: str, path: str, recursive: bool) -> None:
    """Remove a file or a directory.

    \b
    Example:
      glowplug volume rm models /old -r
    """
    _stored(name).remove(path, recursive)


@click.command()
@click.argument("name")
@click.argument("paths", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Directories with all that is in them.")
def cp(name: str, paths: tuple[str, ...], recursive: bool) -> None:
    """Copy files within a volume; the last path is where to. No bytes move.

    \b
    Example:
      glowplug volume cp models /v1/config.json /v2/
    """
    if len(paths) < 2:
        raise click.UsageError("name what to copy, and where to")
    _stored(name).copy(paths[:-1], paths[-1], recursive)


@click.command()
@click.argument("old_name")
@click.argument("new_name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rename(old_name: str, new_name: str, yes: bool) -> None:
    """Give a volume another name.

    \b
    Example:
      glowplug volume rename models models-2024
    """
    if not yes:
        click.confirm(
            f"scripts that name {old_name!r} will not find it. Rename it to {new_name!r}?", abort=True
        )
    _stored(old_name).rename(new_name)
    click.echo(f"volume {old_name} is {new_name} now")


@click.command()
@click.argument("name")
@click.option("--allow-missing", is_flag=True, help="It is no error when there is none.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(name: str, allow_missing: bool, yes: bool) -> None:
    """Delete one with all that is in it.

    \b
    Example:
      glowplug volume delete scratch --yes
    """
    from glowplug.model.errors import NotFoundError

    stored = _stored(name)
    try:
        stored.show()
        if not yes:
            click.confirm(f"delete {_word()} {name!r} and all that is in it, for good?", abort=True)
        stored.delete()
    except NotFoundError:
        if not allow_missing:
            raise
        click.echo(f"there is no {_word()} {name}")
        return
    click.echo(f"{_word()} {name} is gone")


@click.command()
@click.argument("name")
def collect(name: str) -> None:
    """Remove stored blocks that no file refers to any more. The server does it by itself now and then.

    \b
    Example:
      glowplug volume collect models
    """
    from glowplug.cli.table import amount

    click.echo(f"{amount(_stored(name).collect())} freed")


for _each in (create, list_, ls, put, get, rm, delete):
    volume.add_command(_each)
    nfs.add_command(_each)
for _each in (cp, rename, collect):
    volume.add_command(_each)
