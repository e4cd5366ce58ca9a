"""A local entrypoint: the function of a script that runs in the user's process and calls the others."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Generic, TypeVar

from glowplug.sdk.dual import P

if TYPE_CHECKING:
    from glowplug.sdk.app import App

R = TypeVar("R")


class LocalEntrypoint(Generic[P, R]):
    """What ``@app.local_entrypoint()`` makes of a function. Calling it runs the function here, as it is."""

    def __init__(self, app: App, raw_f: Callable[P, R], name: str) -> None:
        update_wrapper(self, raw_f)
        self.app = app
        self.name = name
        self.raw_f = raw_f
        self.is_async = inspect.iscoroutinefunction(raw_f)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.raw_f(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<LocalEntrypoint {self.name} of {self.app.label}>"
