"""``glowplug``: one command a noun. Each is imported when it is asked for, so that --help stays quick."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

import glowplug

COMMANDS = {
    "run": ("glowplug.cli.run", "Run a script's function or entrypoint on your GPUs."),
    "plan": ("glowplug.cli.plan", "Say where each function of a script would run, before anything runs."),
    "gpus": ("glowplug.cli.gpus", "Show the GPUs, who holds them, and which hold a model (--fits)."),
    "doctor": ("glowplug.cli.doctor", "Check this machine and say how to mend what is wrong."),
    "app": ("glowplug.cli.app", "List running apps, read their logs, stop them."),
    "image": ("glowplug.cli.image", "List the images that were built, forget them, look into one."),
    "shell": ("glowplug.cli.shell", "Open a shell in a container."),
    "container": (
        "glowplug.cli.container",
        "List containers, read their logs, run commands in them, stop them.",
    ),
    "node": ("glowplug.cli.node", "List and drain nodes."),
    "secret": ("glowplug.cli.secret", "Store secrets for functions, list and delete them."),
    "volume": ("glowplug.cli.volume", "Make volumes, put files into them and get files out of them."),
    "nfs": ("glowplug.cli.volume", "The same for network file systems, which have no commits."),
    "explain": (
        "glowplug.cli.explain",
        "Say why an input, call, function or container waits or did what it did.",
    ),
    "server": ("glowplug.cli.server", "Start, stop or look at the local server."),
    "demo": (
        "glowplug.cli.demo",
        "Show the main job on the cards here, or on virtual ones, asserted line by line.",
    ),
}


class LazyGroup(click.Group):
    """Subcommands by name; their modules are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        return getattr(module, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(glowplug.__version__, prog_name="glowplug")
def cli() -> None:
    """Serverless GPU functions on machines you own.

    \b
    Example:
      glowplug run script.py            run its only function or entrypoint
      glowplug run script.py::train --epochs 3
      GLOWPLUG_GPUS="8xH100" glowplug plan script.py
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line. Errors of ours are one message and exit code 1; bad usage is 2; Ctrl-C is 130."""
    try:
        return cli.main(arguments, prog_name="glowplug", standalone_mode=False)
    except click.exceptions.Abort:
        _say("interrupted")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output left (| head); say nothing more.
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        from glowplug.model.errors import Error

        if not isinstance(error, Error):
            raise
        _say(str(error))
        sys.exit(1)


def _say(text: str) -> None:
    click.echo(f"glowplug: {text}", err=True)


if __name__ == "__main__":
    main()
