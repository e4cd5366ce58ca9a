"""Names of the compatible surface that this version does not have: they say so instead of merely missing."""

from __future__ import annotations

from typing import Any

from glowplug.model.errors import NotCarriedOutWarning
from glowplug.model.version import __version__
from glowplug.sdk.notices import warn


class not_yet:
    """A class attribute whose access, on the class or an instance, raises ``AttributeError`` with ``why``."""

    def __init__(self, why: str) -> None:
        self._why = why
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        kind = (owner or type(instance)).__name__
        raise AttributeError(missing(f"{kind}.{self._name}", self._why))


def missing(name: str, why: str) -> str:
    """The text for a name that exists elsewhere but not here."""
    return f"{name} is not in Glowplug {__version__} yet: {why}"


def warn_ignored(where: str, **given: Any) -> None:
    """Warn of arguments that mean nothing on owned machines, where they were given."""
    names = [f"{name}=" for name, value in given.items() if value]
    if names:
        verb = "means" if len(names) == 1 else "mean"
        warn(f"{where}: {', '.join(names)} {verb} nothing on owned machines", NotCarriedOutWarning)
