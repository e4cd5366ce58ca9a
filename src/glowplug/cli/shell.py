"""``glowplug shell``: a container of the wanted kind, a shell in it, and nothing left afterwards."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

if TYPE_CHECKING:
    from glowplug.sdk.function import Function

LOOK_S = 0.05


@click.command()
@click.argument("reference", metavar="[SCRIPT::FUNCTION | CONTAINER]", required=False)
@click.option("-c", "--cmd", help="Run this command line instead of a shell.")
@click.option("--image", metavar="TAG", help="A registry's image, or SCRIPT::VARIABLE for one of yours.")
@click.option("--add-python", metavar="VERSION", help="Put this Python into the registry's image.")
@click.option("--gpu", metavar="GPU", help="As gpu= takes it: H100, A100-80GB:2, any.")
@click.option("--cpu", type=float, help="Cores.")
@click.option("--memory", type=int, metavar="MIB", help="Memory in MiB.")
@click.option("--volume", "volumes", multiple=True, metavar="NAME", help="At /mnt/NAME; may be given again.")
@click.option("--add-local", multiple=True, metavar="PATH", help="A file or directory at /mnt; with --image.")
@click.option(
    "--secret", "secrets", multiple=True, metavar="NAME", help="A stored secret; may be given again."
)
@click.option("--cloud", help="On nodes with this label.")
@click.option("--region", multiple=True, help="On nodes with this label.")
@click.option("--pty/--no-pty", "pty", default=None, help="With a terminal of its own; else if this is one.")
@click.option("-m", "as_module", is_flag=True, help="REFERENCE is a module's dotted name, not a file.")
@click.option("-e", "--env", "environment", hidden=True)
def shell(
    reference: str | None,
    cmd: str | None,
    image: str | None,
    add_python: str | None,
    gpu: str | None,
    cpu: float | None,
    memory: int | None,
    volumes: tuple[str, ...],
    add_local: tuple[str, ...],
    secrets: tuple[str, ...],
    cloud: str | None,
    region: tuple[str, ...],
    pty: bool | None,
    as_module: bool,
    environment: str | None,
) -> None:
    """Open a shell in a container.

    \b
    Of a function: with its image, GPUs, volumes and secrets. Of nothing: with those of the options. In a
    running container: beside what it does. All but the latter end with the shell. Example:
      glowplug shell train.py::train
      glowplug shell --gpu T4 --image pytorch/pytorch
      glowplug shell --gpu any -c nvidia-smi
    """
    from glowplug.cli.run import show_user_error
    from glowplug.cli.terminal import run_in_container
    from glowplug.model import errors

    command = ["/bin/sh", "-c", cmd] if cmd else []
    options = {"gpu": gpu, "cpu": cpu, "memory": memory, "cloud": cloud, "region": list(region) or None}
    given = {name: value for name, value in options.items() if value is not None}
    extras = [
        *(f"--{name}" for name in given),
        *(["--image"] if image else []),
        *(["--volume"] if volumes else []),
        *(["--secret"] if secrets else []),
        *(["--add-local"] if add_local else []),
    ]
    if reference is not None and extras:
        raise errors.InvalidError(
            f"{', '.join(extras)}: {reference} says already what its container is like; give one or the other"
        )
    if reference is not None and reference.startswith("ct-"):
        sys.exit(run_in_container(reference, command, pty))
    try:
        made = None if reference is not None else _image(image, add_python)
        of_script = _of_function(reference, as_module) if reference is not None else None
    except (errors.Error, click.ClickException):
        raise
    except Exception as error:  # the script's own
        show_user_error(error)
        sys.exit(1)
    if of_script is not None:
        held, source = of_script
    else:
        from glowplug.container.hold import hold
        from glowplug.sdk.shell import shell_with

        made = _with_local(made, add_local)
        held = shell_with(hold, image=made, volumes=volumes, secrets=secrets, options=given)
        # Nobody's script: the working directory is shown, as that of a script would be.
        source = {
            "script": None,
            "directory": os.getcwd(),
            "module": "__main__",
            "digest": "",
            "package": False,
        }
    sys.exit(_work_in(held, source, command, pty))


def _of_function(reference: str, as_module: bool) -> tuple[Function[..., Any, Any], dict[str, Any]]:
    """What holds its place, and the source of its script."""
    from glowplug.cli.script import load_script
    from glowplug.container.hold import hold
    from glowplug.model import errors
    from glowplug.sdk.shell import shell_of
    from glowplug.sdk.source import find_source

    script = load_script(reference, as_module)
    functions = script.functions()
    name = script.target or (next(iter(functions)) if len(functions) == 1 else "")
    if name not in functions:
        listed = ", ".join(functions) or "none"
        raise errors.NotFoundError(
            f"{script.place} has no function {name!r}; it has: {listed}"
            if name
            else f"name a function of {script.place}, as in {script.place}::NAME; it has: {listed}"
        )
    function = functions[name][1]
    return shell_of(function, hold), find_source(function.module).to_wire()


def _image(reference: str | None, add_python: str | None) -> Any:
    """Of a registry, or a variable of a script. None without one."""
    if reference is None:
        return None
    from glowplug.model import errors
    from glowplug.sdk.image import Image

    place, separator, name = reference.partition("::")
    if not separator:
        return Image.from_registry(reference, add_python=add_python)
    from glowplug.cli.script import import_file
    from glowplug.sdk.modal_alias import install_alias

    install_alias()
    found = getattr(import_file(place), name, None)
    if not isinstance(found, Image):
        raise errors.NotFoundError(f"{place} has no image {name!r} at its top level")
    return found


def _with_local(image: Any, paths: tuple[str, ...]) -> Any:
    from glowplug.model import errors

    if paths and image is None:
        raise errors.InvalidError(
            "--add-local puts files into an image: give --image. Without one the working directory is in the "
            "container already."
        )
    for path in paths:
        target = f"/mnt/{os.path.basename(os.path.abspath(path))}"
        image = (
            image.add_local_dir(path, target) if os.path.isdir(path) else image.add_local_file(path, target)
        )
    return image


def _work_in(
    held: Function[..., Any, Any], source: dict[str, Any], command: list[str], pty: bool | None
) -> int:
    """Start the app, run the command once its container is there, end the app."""
    from glowplug.cli.output import RunOutput
    from glowplug.cli.terminal import run_in_container
    from glowplug.sdk.running import defaults

    shown = RunOutput()
    defaults.sink = shown
    defaults.on_start = shown.watch
    defaults.on_end = shown.summary
    defaults.source = source
    try:
        with held.app.run():
            call = held.spawn()
            container_id = _wait(held.app.app_id, call)
            shown.close()
            return run_in_container(container_id, command, pty)
    finally:
        shown.close()


def _wait(app_id: str | None, call: Any) -> str:
    """The id of the app's container once it runs. Raises why it does not."""
    from glowplug.client.http import request

    while True:
        try:
            call.get(timeout=LOOK_S)
        except TimeoutError:
            pass
        found = request("GET", f"/v1/containers?app={quote(app_id or '', safe='')}")["containers"]
        for each in found:
            if each["status"] == "ready" and each["running"]:
                return each["container_id"]
        time.sleep(0)
