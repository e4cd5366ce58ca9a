"""What a server and the process of a container agree on beside messages: marks in output, paths and
verdicts of a zygote, how far a generator may run ahead."""

from __future__ import annotations

MARK_START = b"\x1e"
MARK_END = b"\x1f"
"""Around the id of the input that writes what follows, on a container's stdout and stderr."""
NEW_ROOT = "/.glowplug-root"
LAYERS = "/.glowplug-layers"
"""Directories the zygote's sandbox provides: to build roots on, and for what overlays keep of writes."""
SCRATCH = "/.glowplug-scratch"
"""Where a zygote has the directory on disk for what containers write."""
BEFORE_ENTRYPOINT = "GLOWPLUG_BEFORE_ENTRYPOINT"
"""The variables, as JSON, that a zygote was given before an image's ENTRYPOINT ran."""
EVERY_VARIABLE = "*"
"""In the list of variables that an import read: it went through all of them."""
BUSY = "busy"
"""What a zygote answers when files of the view that is to be replaced are open."""
ITEM_CREDIT = 64
"""Items of a generator that may be on their way unread."""
TYPES_VARIABLE = "GLOWPLUG_DECLARED_TYPES"
"""How containers, which do not see the operator's file, learn of the GPU types that it declares."""
