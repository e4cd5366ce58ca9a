"""A function of an image without packages, as small as can be."""

from __future__ import annotations

import glowplug

app = glowplug.App("bench-plain-image")


@app.function()
def zero() -> int:
    return 0
