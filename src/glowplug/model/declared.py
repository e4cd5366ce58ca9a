"""Options declared once: default, check, meaning and effect of each keyword stand in one place.

A subclass of ``Declared`` lists its options as class attributes made by ``option``. Its constructor takes
exactly these keywords (type checkers see them too), checks and normalises each, folds old names into new ones
and keeps ``notices`` of what will not happen as written. Signatures, documentation and tests derive from
``options_of``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from glowplug.model.errors import DeprecationError, InvalidError, NotCarriedOutWarning

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_):
        return lambda declared: declared


Given = TypeVar("Given")


class Effect(Enum):
    """What giving an option does."""

    CARRIED_OUT = "carried out"
    NOT_YET = "accepted, not carried out yet"
    MEANS_NOTHING = "accepted, means nothing on owned machines"
    OLD_NAME = "old name"


@dataclass(frozen=True)
class Option:
    """One declared option. ``note`` says what happens instead when it is not carried out."""

    default: Any
    convert: Callable[[Any], Any]
    doc: str
    effect: Effect = Effect.CARRIED_OUT
    note: str = ""
    new_name: str = ""
    """For an old name: where its value goes."""


@dataclass(frozen=True)
class Notice:
    """Something to warn of: ``option`` will not do what it says, or has a newer name."""

    option: str
    category: type[Warning]
    text: str


def option(
    *,
    default: Any,
    converter: Callable[[Given], Any],
    doc: str,
    not_yet: str = "",
    means_nothing: str = "",
    old_name_of: str = "",
) -> Any:
    """Declare one option. ``converter`` takes what users write and returns what is kept, or raises
    ``InvalidError``.

    At most one of: ``not_yet`` or ``means_nothing`` (and what happens instead), ``old_name_of`` (the option
    that gets the value).
    """
    effect = Effect.CARRIED_OUT
    if not_yet:
        effect = Effect.NOT_YET
    elif means_nothing:
        effect = Effect.MEANS_NOTHING
    elif old_name_of:
        effect = Effect.OLD_NAME
    return Option(default, converter, doc, effect, not_yet or means_nothing, old_name_of)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option,))
class Declared:
    """Base of declared options. Raises ``InvalidError`` for an unknown or invalid keyword."""

    _declared: dict[str, Option] = {}  # noqa: RUF012  (a class's own, never changed after its definition)

    def __init_subclass__(cls) -> None:
        cls._declared = dict(cls._declared)
        cls._declared.update({name: value for name, value in vars(cls).items() if isinstance(value, Option)})
        for name in cls._declared:
            if name in cls.__dict__:
                delattr(cls, name)

    def __init__(self, **given: Any) -> None:
        notices: list[Notice] = []
        for name in given:
            if name not in self._declared:
                raise InvalidError(f"{name}= is not a known option.{_nearest(name, self._declared)}")
        merged = self._fold_old_names(given, notices)
        for name, declared in self._declared.items():
            if declared.effect is Effect.OLD_NAME:
                continue
            value = merged.get(name, declared.default)
            object.__setattr__(self, name, declared.convert(value))
            if declared.effect is not Effect.CARRIED_OUT and is_asked(value, declared):
                notices.append(_not_carried_out(name, declared))
        notices += self.settle(given)
        object.__setattr__(self, "notices", tuple(notices))

    if TYPE_CHECKING:

        @property
        def notices(self) -> tuple[Notice, ...]:
            """What to warn of, in the order of the declarations."""
            ...

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def _fold_old_names(self, given: dict[str, Any], notices: list[Notice]) -> dict[str, Any]:
        merged = dict(given)
        for old_name, value in given.items():
            declared = self._declared[old_name]
            if declared.effect is not Effect.OLD_NAME:
                continue
            del merged[old_name]
            if not is_asked(value, declared):
                continue
            new_name = declared.new_name
            text = f"{old_name}= is now called {new_name}="
            notices.append(Notice(old_name, DeprecationError, text))
            try:
                converted = declared.convert(value)
                self._declared[new_name].convert(converted)
            except InvalidError as error:
                raise InvalidError(f"{old_name}= (now {new_name}=): {error}") from None
            if new_name in merged and is_asked(merged[new_name], self._declared[new_name]):
                merged[new_name] = self.join(old_name, converted, new_name, merged[new_name])
            else:
                merged[new_name] = converted
        return merged

    def settle(self, given: Mapping[str, Any]) -> list[Notice]:
        """Check options against each other once all are set; further notices."""
        return []

    def join(self, old_name: str, old_value: Any, new_name: str, new_value: Any) -> Any:
        """The value of ``new_name`` when its old name was given too: an error unless it is a collection."""
        raise InvalidError(f"{old_name}= is the old name of {new_name}=. Give {new_name}= only.")


def options_of(declared: type[Declared]) -> dict[str, Option]:
    """Every option of a class of options, in order of declaration."""
    return dict(declared._declared)  # pyright: ignore[reportPrivateUsage]


def signature_of(declared: type[Declared], *leading: inspect.Parameter) -> inspect.Signature:
    """The call signature: ``leading`` parameters, then every option as a keyword with its default."""
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value.default)
        for name, value in options_of(declared).items()
    ]
    return inspect.Signature([*leading, *keywords])


def is_asked(value: Any, declared: Option) -> bool:
    """Whether a value asks for anything: neither the default nor one of the empty values of some era."""
    return not (value is None or value is False or value == () or value == {} or value == []) and (
        value is not declared.default and value != declared.default
    )


def _not_carried_out(name: str, declared: Option) -> Notice:
    what = (
        "is not carried out yet" if declared.effect is Effect.NOT_YET else "means nothing on owned machines"
    )
    return Notice(name, NotCarriedOutWarning, f"{name}= {what}: {declared.note}")


def _nearest(name: str, known: dict[str, Option]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}=?" if near else ""
