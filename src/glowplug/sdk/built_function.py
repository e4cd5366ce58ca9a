"""A function that is run while an image is built: how it travels, and what its result depends on.

It runs again when its own source changes, or that of the functions and classes of its module that it uses, or
the plain values of the module that it reads. What it imports is not looked into: that is the image's.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import sys
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from glowplug.model.errors import InvalidError, SerializationError
from glowplug.sdk.source import find_source, is_importable, module_name

MAX_SHOWN_VALUE = 1000
"""A longer value is told apart by its hash."""
_PLAIN = (str, bytes, int, float, complex, bool, type(None))
_COLLECTIONS = (tuple, list, set, frozenset, dict)


def function_fields(
    function: Callable[..., Any], args: Any, kwargs: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of ``run_function``, and where its module is. Raises ``SerializationError``."""
    module = getattr(function, "__module__", None) or "__main__"
    qualname = getattr(function, "__qualname__", type(function).__qualname__)
    fields: dict[str, Any] = {
        "module": module_name(module),
        "qualname": qualname,
        "name": qualname.rpartition("<locals>.")[2],
        "source": cache_text(function),
    }
    if args or kwargs:
        fields["arguments"] = _pickled((tuple(args), dict(kwargs)), f"the arguments of {fields['name']}")
    by_name = is_importable(module) and _found_by_name(module, qualname, function)
    if not by_name:
        fields["serialized"] = _by_value(function, fields["name"])
    elif _is_local(module):
        return fields, find_source(module).to_wire()
    return fields, {}


def cache_text(function: Callable[..., Any]) -> str:
    """What its result depends on, as text: the same on every machine. Empty for what has no source."""
    parts: dict[str, str] = {}
    _collect(function, parts)
    return "\n".join(parts[name] for name in sorted(parts))


def _collect(thing: Any, parts: dict[str, str]) -> None:
    name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
    name = name.partition(".")[2] if thing.__class__ is FunctionType else name
    if name in parts:
        return
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))
    except (OSError, TypeError):
        return
    parts[name] = source
    thing = inspect.unwrap(thing)
    if not isinstance(thing, FunctionType):
        return
    values = {key: thing.__globals__[key] for key in _names(thing.__code__) if key in thing.__globals__}
    for key, cell in zip(thing.__code__.co_freevars, thing.__closure__ or ()):
        try:
            values[key] = cell.cell_contents
        except ValueError:
            continue  # set only once the function runs
    for key in sorted(values):
        value = getattr(values[key], "plain", values[key])
        if isinstance(value, (FunctionType, type)) and value.__module__ == thing.__module__:
            _collect(value, parts)
        elif _is_plain(value):
            parts[f"{name} {key}"] = f"{key} = {_text(value)}"


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _is_plain(value: Any, depth: int = 0) -> bool:
    if type(value) in _PLAIN:
        return True
    if type(value) not in _COLLECTIONS or depth > 5:
        return False
    items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return all(_is_plain(item, depth + 1) for item in items)


def _text(value: Any) -> str:
    text = _ordered(value)
    if len(text) <= MAX_SHOWN_VALUE:
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _ordered(value: Any) -> str:
    """``repr``, with sets in an order that is the same in every process."""
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(_ordered, value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_ordered(key)}: {_ordered(item)}' for key, item in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_ordered, value))})"
    return repr(value)


def _found_by_name(module: str, qualname: str, function: Callable[..., Any]) -> bool:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found is function or getattr(found, "plain", None) is function


def _is_local(module: str) -> bool:
    """Whether a module is the user's own, not one of what is installed, which the image has itself."""
    path = getattr(sys.modules.get(module), "__file__", None)
    if not path:
        return False
    path = os.path.abspath(path)
    installed = "site-packages" in path or "dist-packages" in path
    return not installed and not path.startswith(os.path.dirname(os.__file__) + os.sep)


def _by_value(function: Callable[..., Any], name: str) -> bytes:
    import cloudpickle

    try:
        return cloudpickle.dumps(function, protocol=5)
    except Exception as error:
        raise SerializationError(
            f"Image.run_function: {name} cannot be sent by value: {error}. Define it at the top of a module."
        ) from error


def _pickled(value: Any, what: str) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:
        pass
    import cloudpickle

    try:
        return cloudpickle.dumps(value, protocol=5)
    except Exception as error:
        raise InvalidError(f"Image.run_function: {what} cannot be pickled: {error}.") from error
