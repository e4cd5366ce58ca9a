"""Finding the user's function again inside the container: the same module under the same name as in the
client."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class FunctionNotFound(Exception):
    """The container cannot load the function; the text says what is missing."""


def import_module(name: str, source: dict[str, Any]) -> ModuleType:
    """Import a module of the app, its script's directory first on ``sys.path``.

    The script itself is also ``__main__``: pickles made while it ran as a program name it so, and
    ``multiprocessing`` imports it again in the children it spawns.
    """
    directory = source.get("directory")
    if directory and sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    module = importlib.import_module(name)
    if source.get("module") in sys.modules:
        sys.modules["__main__"] = sys.modules[source["module"]]
    return module


def _check_version(serialized_by: str) -> None:
    """Code by value is bytecode, which each minor version of Python has its own of."""
    here = "{}.{}".format(*sys.version_info[:2])
    if serialized_by not in ("", here):
        raise FunctionNotFound(
            f"the function was sent by value from Python {serialized_by} and cannot run in Python {here} of "
            "its image. Give the image the client's version (Image.debian_slim() without python_version= has "
            "it), or define the function at the top level of a module, without serialized=True."
        )


def load_function(definition: dict[str, Any], source: dict[str, Any]) -> Callable[..., Any]:
    """The plain function of a definition. Raises ``FunctionNotFound`` or whatever its module's import
    raises."""
    if definition.get("serialized"):
        _check_version(definition.get("serialized_by", ""))
        if source.get("directory"):
            sys.path.insert(0, source["directory"])
        return pickle.loads(definition["serialized"])
    module = import_module(definition["module"], source)
    found: Any = module
    for name in definition["qualname"].split("."):
        try:
            found = inspect.getattr_static(found, name) if inspect.isclass(found) else getattr(found, name)
        except AttributeError:
            raise FunctionNotFound(
                f"module {definition['module']!r} ({getattr(module, '__file__', '?')}) has no "
                f"{definition['qualname']!r} when it is imported in the container. Define it at the top "
                "level, not under `if __name__ == '__main__'` or `if modal.is_local()`, "
                "or pass serialized=True."
            ) from None
    raw = getattr(found, "raw_f", found)
    if not callable(raw):
        raise FunctionNotFound(
            f"{definition['module']}.{definition['qualname']} is no function but {raw!r:.80}"
        )
    return raw
