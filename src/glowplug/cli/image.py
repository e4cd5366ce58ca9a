"""``glowplug image``: the environments that were built here, what they take, and why they are as they are."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import click

PRUNE_TIMEOUT_S = 3600.0
EXAMINE_TIMEOUT_S = 3600.0
COLUMNS = ("IMAGE", "NAME", "STEPS", "SIZE", "BUILT", "LAST USED", "")
STEPS_WIDTH = 48


@click.group()
def image() -> None:
    """List the images that were built on this machine, forget them, look into one.

    \b
    Example:
      glowplug image list
      glowplug image why im-0123456789abcdef
      glowplug image prune --days 14
    """


@image.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
def list_(as_json: bool) -> None:
    """List the images, the last used first.

    \b
    Example:
      glowplug image list --json
    """
    from glowplug.cli.table import print_json, print_table
    from glowplug.client.http import request

    images = request("GET", "/v1/images", start=True)["images"]
    if as_json:
        print_json(images)
        return
    if not images:
        click.echo("no images were built here")
        return
    print_table(COLUMNS, [_row(each) for each in images], {"SIZE"})


@image.command()
@click.option("--days", default=30, show_default=True, help="Forget what was not used for so many days.")
@click.option("--all", "everything", is_flag=True, help="Forget every image that no running app uses.")
def prune(days: int, everything: bool) -> None:
    """Forget images that are not used, and the files that only they need.

    Images of running apps stay. One that is asked for again is built again.

    \b
    Example:
      glowplug image prune --all
    """
    from glowplug.client.http import request

    query = "all=1" if everything else f"days={days}"
    done = request("POST", f"/v1/images/prune?{query}", start=True, timeout_s=PRUNE_TIMEOUT_S)
    count = done["images"]
    click.echo(f"{count} image{'' if count == 1 else 's'} forgotten, {size_text(done['bytes_freed'])} freed")


@image.command()
@click.argument("image")
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
def why(image: str, as_json: bool) -> None:
    """Say which layers an image has, which of them were there before it was built, what is damaged, and where
    it differs from the image most like it. IMAGE is an id, its beginning, or a name.

    \b
    Example:
      glowplug image why im-0123
    """
    from glowplug.cli.table import print_json
    from glowplug.client.http import request

    story = request("GET", f"/v1/images/{quote(image, safe='')}", start=True, timeout_s=EXAMINE_TIMEOUT_S)
    if as_json:
        print_json(story)
        return
    for line in story_lines(story):
        click.echo(line)


def story_lines(story: dict[str, Any]) -> list[str]:
    image, near, damaged = story["image"], story["nearest"], story["damaged"]
    name = f" {image['name']}" if image["name"] else ""
    lines = [
        f"{image['image_id']}{name}: built {ago(image['built_at'])} in {image['seconds']:.1f} s by "
        f"{image['builder']}, {size_text(image['size_bytes'])}"
    ]
    for number, layer in enumerate(story["layers"], 1):
        origin = "was there" if layer["reused"] else "built"
        lines.append(f"  {number}. {layer['text']}  [{origin}]")
    if near is None:
        lines.append("no other image here begins like it")
    elif near["theirs"] == near["ours"]:
        lines.append(f"most like it: {near['image_id']}{' ' + near['name'] if near['name'] else ''}")
    else:
        lines.append(
            f"most like it: {near['image_id']}{' ' + near['name'] if near['name'] else ''}, the same up to "
            f"step {near['common_steps']}; then it has {near['theirs']} and this one {near['ours']}"
        )
    if damaged:
        lines.append("damaged since it was built; the next run that uses it builds it anew:")
        for package, paths in damaged.items():
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            lines.append(f"  {package}: {', '.join(paths[:3])}{more}")
    else:
        lines.append("every file is as it was built")
    return lines


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    steps = " ".join(each["steps"])
    if len(steps) > STEPS_WIDTH:
        steps = steps[: STEPS_WIDTH - 1] + "…"
    return (
        each["image_id"],
        each["name"] or "–",
        steps or "–",
        size_text(each["size_bytes"]),
        ago(each["built_at"]),
        ago(each["used_at"]),
        "in use" if each["in_use"] else "",
    )


def size_text(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"


def ago(at: float) -> str:
    passed = max(0.0, time.time() - at)
    for unit, length_s in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(passed // length_s)
        if count:
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"
