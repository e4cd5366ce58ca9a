"""Using apps in tests: calls, their outputs, the files that test and function meet at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import AppStarter, LiveApp, value_of
from glowplug.backends.local import bubblewrap
from glowplug.client.serializer import pack, unpack
from glowplug.client.session import Call, Output

sandboxed = pytest.mark.skipif(not bubblewrap.probe().works, reason="no namespaces here")


def call(app: LiveApp, name: str, *inputs: Any) -> Call:
    made = app.run.call(app.run.function_ids[name])
    made.add([pack(((each,), {})) for each in inputs])
    return made


def outputs(made: Call, count: int) -> list[Output]:
    return sorted((made.next(60.0) for _ in range(count)), key=lambda output: output.index)


def gate_of(start: AppStarter, name: str) -> Path:
    """A file in the volume that every function has at /gate."""
    directory = start.directory / "home" / "network-file-systems" / "gate"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory / name


def items_of(made: Call) -> Iterator[Any]:
    while True:
        output = made.next(60.0)
        if output.status != "item":
            value_of(output)
            return
        yield unpack(output.payload)


def generate(app: LiveApp, *args: Any) -> Call:
    made = app.run.call(app.run.function_ids["count"])
    made.add([pack((args, {}))])
    return made
