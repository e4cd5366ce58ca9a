"""``glowplug run``: import a script, start its app, run one thing of it, leave nothing behind."""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
import traceback
from types import FrameType, TracebackType
from typing import Any

import click

from glowplug.cli.script import Script, load_script
from glowplug.model import errors

IMPORTLIB = os.path.dirname(importlib.__file__)
OWN_DIRECTORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Options after the script go to its entrypoint: glowplug run train.py --epochs 3",
)
@click.option("-m", "as_module", is_flag=True, help="REFERENCE is a module's dotted name, not a file.")
@click.option("-q", "--quiet", is_flag=True, help="Show only what functions print.")
@click.option("-d", "--detach", is_flag=True, help="Keep the run when this command ends.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time before each line of a function.")
@click.option("-v", "--verbose", is_flag=True, help="Put function and input before each line.")
@click.option("--gpu-map", multiple=True, metavar="A10G=RTX-4090", help="Run one type on another.")
@click.option("--gpu", "gpu_override", metavar="none", help="`none`: run every function without a GPU.")
@click.option(
    "-w", "--write-result", type=click.Path(dir_okay=False), help="Write what it returns to a file."
)
@click.option("-e", "--env", "environment", hidden=True)
@click.option("-i", "--interactive", is_flag=True, hidden=True)
@click.argument("reference", metavar="SCRIPT[::NAME]")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    as_module: bool,
    quiet: bool,
    detach: bool,
    timestamps: bool,
    verbose: bool,
    gpu_map: tuple[str, ...],
    gpu_override: str | None,
    write_result: str | None,
    environment: str | None,
    interactive: bool,
    reference: str,
    arguments: tuple[str, ...],
) -> None:
    """Run a script's entrypoint or function on your GPUs.

    \b
    glowplug run script.py                 its only entrypoint, or its only function
    glowplug run script.py::train --epochs 3
    glowplug run -m package.module::main
    """
    from glowplug.cli.output import RunOutput
    from glowplug.model.gpu_map import parse_gpu_map
    from glowplug.sdk.running import defaults

    if interactive:
        raise errors.InvalidError("--interactive is not carried out yet; run without it")
    if gpu_override not in (None, "none"):
        raise errors.InvalidError(
            f"--gpu {gpu_override}: only `none` is possible, for every function without a GPU; "
            "use --gpu-map to run one type on another"
        )
    shown = RunOutput(quiet=quiet, timestamps=timestamps, named=verbose)
    defaults.sink = shown
    defaults.gpu_map = parse_gpu_map(gpu_map)
    defaults.without_gpu = gpu_override == "none"
    defaults.detach = detach
    defaults.on_start = shown.watch
    defaults.on_end = shown.summary
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        script = load_script(reference, as_module)
        result = _run_target(script, list(arguments))
    except errors.Error as error:
        where = _user_place(error.__traceback__)
        if not where:
            raise
        click.echo(f"glowplug: {error}\n  {where}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit, click.ClickException, click.exceptions.Exit):
        raise
    except BaseException as error:
        show_user_error(error)
        sys.exit(1)
    finally:
        shown.close()
    if write_result is not None:
        _write_result(write_result, result)


def _run_target(script: Script, arguments: list[str]) -> Any:
    name, app, target = _choose(script)
    if target is None:
        block = script.main_block()
        sys.argv = [script.path, *arguments]
        script.run_main_block(block)
        return None
    from glowplug.sdk.entrypoint import entrypoint_command

    command = entrypoint_command(target)
    context = command.make_context(f"glowplug run {os.path.basename(script.path)}::{name}", arguments)
    with app.run():
        return command.invoke(context)


def _choose(script: Script) -> tuple[str, Any, Any]:
    """(name, app, entrypoint or function); the last two are None for the main block."""
    entrypoints, functions = script.entrypoints(), script.functions()
    named = {**functions, **entrypoints}
    if script.target:
        if script.target not in named:
            close = difflib.get_close_matches(script.target, named, 1, 0.4)
            raise errors.NotFoundError(
                f"{os.path.basename(script.path)} has no entrypoint or function {script.target!r}; "
                f"it has: {', '.join(named) or 'none'}." + (f" Did you mean {close[0]!r}?" if close else "")
            )
        return script.target, *named[script.target]
    for candidates in (entrypoints, functions):
        if len(candidates) == 1:
            ((name, (app, target)),) = candidates.items()
            return name, app, target
        if candidates and candidates is entrypoints:
            break
    if not entrypoints and script.main_block():
        return "__main__", None, None
    file = os.path.basename(script.path)
    if not named:
        raise errors.InvalidError(f"{file} has an App without functions; decorate one with @app.function()")
    raise errors.InvalidError(
        f"{file} has several things to run; name one: "
        + ", ".join(f"`glowplug run {script.place}::{name}`" for name in (entrypoints or functions))
    )


def _write_result(path: str, result: Any) -> None:
    if isinstance(result, bytes):
        mode, content = "wb", result
    elif isinstance(result, str):
        mode, content = "w", result
    else:
        raise errors.InvalidError(
            f"--write-result writes str or bytes; the function returned {type(result).__name__}"
        )
    with open(path, mode) as file:
        file.write(content)


def _on_terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def show_user_error(error: BaseException) -> None:
    """The traceback as the user's program would show it: without our own frames, the container's first."""
    from glowplug.client.serializer import RemoteTraceback

    remote = error.__cause__ if isinstance(error.__cause__, RemoteTraceback) else None
    if remote is not None:
        sys.stderr.write(f"In the container:\n{remote.text.rstrip()}\n\nHere:\n")
        error.__cause__ = None
    text = traceback.TracebackException(type(error), error, _user_frames(error.__traceback__))
    sys.stderr.write("".join(text.format()))


def _user_place(trace: TracebackType | None) -> str:
    """The line of the user's that met an error of ours: "at s.py:3, in main"; "" for none of theirs."""
    trace, last = _user_frames(trace), None
    while trace is not None:
        trace, last = trace.tb_next, trace
    if last is None:
        return ""
    code = last.tb_frame.f_code
    inside = "" if code.co_name == "<module>" else f", in {code.co_name}"
    return f"at {code.co_filename}:{last.tb_lineno}{inside}"


def _user_frames(trace: TracebackType | None) -> TracebackType | None:
    """A copy of a traceback that leaves out frames of Glowplug and of what carries it."""
    kept: list[TracebackType] = []
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if (
            not path.startswith((OWN_DIRECTORY, IMPORTLIB, "<frozen"))
            and f"{os.sep}click{os.sep}" not in path
        ):
            kept.append(trace)
        trace = trace.tb_next
    copy: TracebackType | None = None
    for each in reversed(kept):
        copy = TracebackType(copy, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return copy
