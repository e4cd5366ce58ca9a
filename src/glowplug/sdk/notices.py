"""Warnings to the user: one style, at the user's own line, and only in the user's own process."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

from glowplug.client.context import is_local

_NOT_USER_CODE = frozenset(
    ["asyncio", "click", "concurrent", "contextlib", "glowplug", "importlib", "modal", "threading"]
)


def warn(text: str, category: type[Warning]) -> None:
    """Warn at the innermost line that is not ours. Containers import the module again and stay quiet."""
    if not is_local():
        return
    frame = _user_frame(sys._getframe(1))
    names = frame.f_globals
    # Not warnings.warn: its stack levels leave out the frames of an import.
    warnings.warn_explicit(
        text,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=names.get("__name__"),
        registry=names.setdefault("__warningregistry__", {}),
    )


def _user_frame(frame: FrameType) -> FrameType:
    while (
        frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_USER_CODE
    ):
        frame = frame.f_back
    return frame
