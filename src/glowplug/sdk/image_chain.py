"""The chain itself: how a method adds a step, and what every method checks of what it is given.

Nothing is read and nothing is sent while a chain is written; containers write it again when they import the
module. What is checked here needs no file and no server.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from glowplug.model import checks
from glowplug.model.errors import InvalidError
from glowplug.model.gpu import format_request
from glowplug.model.image import ImageDefinition, ImageStep
from glowplug.sdk.dual import P

if TYPE_CHECKING:
    from typing_extensions import Self

R = TypeVar("R")
_NOTHING = (None, False, "", (), [], {})
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?\Z")
MOUNTING = frozenset({"add_local_file", "add_local_dir", "add_local_python_source"})
"""Methods whose files are laid over the image when a container starts, unless ``copy=True``."""


class Chain(ImageDefinition):
    """An image as a chain of steps. Never changes; each method returns a new one."""

    def __init__(self, steps: tuple[ImageStep, ...] = ()) -> None:
        super().__init__(steps)
        self.inside_exceptions: list[Exception] = []
        """What went wrong in this image's ``imports()`` blocks in this process."""

    def _with(self, method: str, *arguments: Any, **options: Any) -> Self:
        """This chain and one step; options that say nothing are left out."""
        given = {
            name: value
            for name, value in options.items()
            if not any(value is each or (type(value) is type(each) and value == each) for each in _NOTHING)
        }
        step = ImageStep(method, arguments, given)
        mounted = next((each for each in self.steps if is_mounting(each)), None)
        if mounted is not None and not is_mounting(step):
            raise InvalidError(
                f"Image.{method}(...) is a build step after {mounted.method}(...), whose files are laid over "
                "the finished image when a container starts. Put it before, or write "
                f"{mounted.method}(..., copy=True) to have the files in the image while it is built."
            )
        return type(self)((*self.steps, step))


def is_mounting(step: ImageStep) -> bool:
    """Whether its files are there from a container's start only."""
    return step.method in MOUNTING and not step.options.get("copy")


def chained(method: Callable[P, R]) -> Callable[P, R]:
    """Make arguments that do not fit an ``InvalidError`` that names the nearest one that does."""
    signature = inspect.signature(method)

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidError(_misfit(method.__name__, signature, kwargs, error)) from None
        return method(*args, **kwargs)

    return call


def _misfit(method: str, signature: inspect.Signature, given: Mapping[str, Any], error: TypeError) -> str:
    known = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in ("self", "cls")
    ]
    unknown = next((name for name in given if name not in signature.parameters), None)
    if unknown is None:
        return f"Image.{method}(...): {error}."
    close = difflib.get_close_matches(unknown, known, 1, 0.5)
    nearest = (
        f"Did you mean {close[0]}=?" if close else f"It takes {', '.join(f'{name}=' for name in known)}."
    )
    return f"Image.{method}({unknown}=...): there is no such option. {nearest}"


# what arguments may be


def strings(where: str, what: str, given: Iterable[Any]) -> tuple[str, ...]:
    """Strings and lists of strings, as one row. Raises ``InvalidError`` for anything else."""
    found: list[str] = []
    for each in given:
        for one in each if isinstance(each, (list, tuple)) else [each]:
            if not isinstance(one, str):
                raise InvalidError(f"Image.{where}: {what} is a string, not {_shown(one)}.")
            found.append(one)
    return tuple(found)


def packages(where: str, given: Iterable[Any]) -> tuple[str, ...]:
    """Names of packages. Raises ``InvalidError``."""
    found = strings(where, "a package", given)
    for name in found:
        if not name.strip() or "\n" in name or "\0" in name:
            raise InvalidError(f"Image.{where}: {name!r} is not the name of a package.")
    return found


def list_of_strings(where: str, name: str, given: Any) -> tuple[str, ...]:
    """``name=[...]``. A single string is refused: it would be taken letter by letter."""
    if given is None:
        return ()
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise InvalidError(f"Image.{where}: {name} is a list of strings, not {_shown(given)}.")
    return strings(where, f"an entry of {name}", list(given))


def python_version(where: str, given: Any, *, name: str = "python_version") -> str | None:
    """ "3.11" or "3.11.4". Raises ``InvalidError``."""
    if given is None:
        return None
    if isinstance(given, (float, int)) and not isinstance(given, bool):
        hint = ""
        if given in (3.1, 3.2):
            hint = f" (as a number 3.{str(given)[-1]}0 is {given}, so the version would be lost)"
        raise InvalidError(f'Image.{where}: quote the version: {name}="{given}"{hint}.')
    if not isinstance(given, str) or not _VERSION.match(given):
        raise InvalidError(f'Image.{where}: {name}={given!r} is not a version such as "3.11" or "3.11.4".')
    return given


def text(where: str, name: str, given: Any) -> str | None:
    """An optional string."""
    if given is not None and not isinstance(given, str):
        raise InvalidError(f"Image.{where}: {name} is a string, not {_shown(given)}.")
    return given


def path(where: str, name: str, given: Any) -> str:
    """A path, as a string or a path object."""
    try:
        found = given if isinstance(given, str) else given.__fspath__()
    except AttributeError:
        found = None
    if not isinstance(found, str) or "\0" in found:
        raise InvalidError(f"Image.{where}: {name} is a path, not {_shown(given)}.")
    if not found:
        raise InvalidError(f"Image.{where}: {name} is empty.")
    return found


def flag(where: str, name: str, given: Any) -> bool:
    if not isinstance(given, bool):
        raise InvalidError(f"Image.{where}: {name} is True or False, not {_shown(given)}.")
    return given


def mapping(where: str, name: str, given: Any) -> dict[str, str]:
    """A dict of strings to strings."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidError(f"Image.{where}: {name} is a dict of strings, not {_shown(given)}.")
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidError(f"Image.{where}: {name}: {key!r}: {value!r} is not a string to a string.")
    return dict(given)


def step_options(
    where: str,
    *,
    env: Any = None,
    secrets: Any = None,
    secret: Any = None,
    gpu: Any = None,
    force_build: Any = False,
) -> dict[str, Any]:
    """What every build step takes: variables, secrets, a GPU, and whether to build it anew."""
    try:
        listed = (*checks.secrets(secrets or None), *checks.one_secret(secret))
        return {
            "env": checks.env(env),
            "secrets": listed,
            "gpu": _gpu(gpu),
            "force_build": flag(where, "force_build", force_build),
        }
    except InvalidError as error:
        if str(error).startswith("Image."):
            raise
        raise InvalidError(f"Image.{where}: {error}") from None


def _gpu(given: Any) -> str:
    checks.gpu(given)
    if given in (None, False):
        return ""
    if isinstance(given, str):
        return given
    if given is True:
        return "any"
    return ",".join(format_request(request) for request in checks.gpu(given))


def _shown(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown}" if len(shown) <= 60 else type(value).__name__
