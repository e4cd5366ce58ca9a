"""An app of one container for somebody to work in: of a script's function, or of what a command line says."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from glowplug.model.checks import MAX_TIMEOUT_S
from glowplug.model.image import ImageDefinition
from glowplug.sdk.app import App
from glowplug.sdk.function import Function
from glowplug.sdk.secret import Secret
from glowplug.sdk.volume import Volume

NAME = "shell"
_SINGLE: dict[str, Any] = {
    "timeout": MAX_TIMEOUT_S,
    "retries": None,
    "min_containers": 0,
    "max_containers": 1,
    "buffer_containers": 0,
    "max_inputs": None,
    "single_use_containers": False,
    "is_generator": False,
    "serialized": False,
}


def shell_of(function: Function[..., Any, Any], hold: Callable[[], None]) -> Function[..., Any, Any]:
    """``hold`` in the place of a function: its image, GPUs, volumes, secrets and limits. Its app has only
    this one from now on."""
    options = copy.copy(function.options)
    for name, value in {**_SINGLE, "retries": function.options.retries.__class__()}.items():
        object.__setattr__(options, name, value)
    app = function.app
    held: Function[..., Any, Any] = Function(app, hold, options, function.name)
    app._functions = {function.name: held}
    app._entrypoints = {}
    return held


def shell_with(
    hold: Callable[[], None],
    *,
    image: ImageDefinition | None,
    volumes: Sequence[str],
    secrets: Sequence[str],
    options: Mapping[str, Any],
) -> Function[..., Any, Any]:
    """A container as options of a decorator describe it; volumes, which must be there (a misspelt one
    would be an empty one), appear at /mnt/NAME."""
    app = App(NAME)
    mounted = {f"/mnt/{name}": Volume.from_name(name) for name in volumes}
    kept = [Secret.from_name(name) for name in secrets]
    declare = app.function(
        name=NAME,
        image=image,
        volumes=mounted,
        secrets=kept,
        timeout=MAX_TIMEOUT_S,
        max_containers=1,
        **options,
    )
    return declare(hold)
