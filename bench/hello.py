"""Hello world."""

from __future__ import annotations

import glowplug

app = glowplug.App("hello")


@app.function()
def hello() -> None:
    print("hello from a container")


@app.local_entrypoint()
def main() -> None:
    hello.remote()
