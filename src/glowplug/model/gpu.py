"""GPU requests: the grammar of ``gpu=`` of every era, turned into one ordered tuple of requests.

``parse_gpu`` checks spelling, the built-in catalog and the counts; whether a fleet has such a card is decided
when an app starts. What it reads:

    value    = nothing | entry | [entry, …] | (entry, …)          a sequence is a list of fallbacks, in order
    nothing  = None | False                                      no GPU
    entry    = "TYPE[-<n>GB][!|+][:COUNT]" | True | object       True (deprecated) is "any"
    object   = anything with a ``gpu_request()`` method, as the classes of ``sdk/gpu.py`` have

Case, spaces around the parts, and the choice of dash, underscore or space inside a name do not matter.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NoReturn, cast

from glowplug.model import catalog
from glowplug.model.errors import DeprecationError, InvalidError

ANY = "ANY"

_ENTRY = re.compile(r"(?P<name>[^:!+]*)(?P<mark>[!+]*)\s*(?P<rest>:.*)?", re.DOTALL)
_MEMORY_SUFFIX = re.compile(r"(?P<base>.+?)[\s_-]+(?P<memory>[0-9]{1,4})\s*GB?", re.IGNORECASE | re.DOTALL)
_COUNT = re.compile(r"[0-9]{1,100}")
_NO_GPU_WORDS = frozenset({"", "NONE", "FALSE", "CPU"})
_FAMILIAR = "T4, L4, A10G, L40S, A100, A100-80GB, H100, H200, B200, or a card's own name such as RTX-4090"
_NO_LIMITS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class GpuRequest:
    """One entry of a ``gpu=`` value.

    ``type`` is canonical and without memory ("A100", "RTX-4090", "ANY"); ``memory_gb`` is set when the
    value named a memory size ("A100-80GB", ``gpu.A100(memory=20)``).
    """

    type: str
    count: int = 1
    memory_gb: int | None = None
    exact: bool = False
    """``H100!``: never mapped to another type."""
    or_successor: bool = False
    """``B200+``: this type or the one after it."""


def parse_gpu(
    value: Any, known_types: Collection[str] = (), max_counts: Mapping[str, int] = _NO_LIMITS
) -> tuple[GpuRequest, ...]:
    """The requests a ``gpu=`` value asks for, most preferred first; empty for no GPU.

    ``known_types`` are types or variants beyond the catalog ("FOO-X99", "RTX-4090-48GB"), ``max_counts``
    limits an operator raised, by type. Anything else raises ``InvalidError`` with the nearest valid value.

    An object is asked for its request: ``value.gpu_request() -> GpuRequest``. It is checked like a string.
    """
    if value is None or value is False:
        return ()
    grammar = _Grammar(known_types, max_counts)
    if not isinstance(value, (list, tuple)):
        return (grammar.entry(value, f"gpu={value!r}"),)
    entries = cast("Sequence[Any]", value)
    if not entries:
        raise InvalidError(f"gpu={value!r}: the list of fallbacks is empty. Use gpu=None for no GPU.")
    return tuple(
        grammar.entry(entry, f"gpu={value!r}: entry {position}, {entry!r}")
        for position, entry in enumerate(entries, start=1)
    )


def format_request(request: GpuRequest) -> str:
    """The string form of a request, which ``parse_gpu`` reads back: "A100-80GB!:8", "B200+", "any:2"."""
    name = "any" if request.type == ANY else request.type
    memory = f"-{request.memory_gb}GB" if request.memory_gb else ""
    mark = "!" if request.exact else "+" if request.or_successor else ""
    count = f":{request.count}" if request.count != 1 else ""
    return f"{name}{memory}{mark}{count}"


class _Grammar:
    """Reads single entries against one set of known types. ``where`` opens every message."""

    def __init__(self, known_types: Collection[str], max_counts: Mapping[str, int]) -> None:
        self._known = {_key(known): known.upper() for known in known_types}
        self._max_counts = max_counts

    def entry(self, entry: Any, where: str) -> GpuRequest:
        if isinstance(entry, str):
            return self._parse_text(entry, where)
        if entry is True:
            warnings.warn('gpu=True is deprecated; use gpu="any".', DeprecationError, stacklevel=4)
            return GpuRequest(ANY)
        if isinstance(entry, (list, tuple)):
            raise InvalidError(
                f"{where}: a fallback is one GPU request, not another list. Put all of them into one list, "
                'most preferred first: gpu=["H100", "A100-80GB:2"].'
            )
        if entry is None or entry is False:
            raise InvalidError(
                f'{where}: a list of fallbacks cannot contain "no GPU". Leave it out, or use gpu=None for a '
                "function without a GPU."
            )
        if not callable(getattr(entry, "gpu_request", None)) or isinstance(entry, type):
            raise InvalidError(f"{where}: {_not_a_request(entry)}")
        request: GpuRequest = entry.gpu_request()
        request = replace(request, type=self._type(request.type) or request.type.upper())
        self._check(request, where)
        return request

    def _parse_text(self, text: str, where: str) -> GpuRequest:
        match = _ENTRY.fullmatch(text.strip())
        if match is None:
            raise InvalidError(f"{where}: {self._misplaced_mark(text)}")
        name, mark, rest = match["name"].strip(), match["mark"], match["rest"]
        if name.upper() in _NO_GPU_WORDS:
            raise InvalidError(f'{where}: no GPU type is named. Use gpu=None for no GPU, gpu="any" for any.')
        if "," in name:
            entries = [part.strip() for part in text.split(",")]
            raise InvalidError(f"{where}: fallbacks are a list. Did you mean gpu={entries!r}?")
        if len(mark) > 1:
            raise InvalidError(
                f'{where}: one mark at most, "!" or "+". Did you mean "{name.upper()}{mark[0]}"?'
            )
        request = replace(self._named(name, where), exact=mark == "!", or_successor=mark == "+")
        if rest is not None:
            request = replace(request, count=self._count(rest[1:].strip(), request, where))
        self._check(request, where)
        return request

    def _named(self, name: str, where: str) -> GpuRequest:
        """Type and memory of a name; InvalidError for one that neither catalog nor fleet knows."""
        if name.upper() == ANY:
            return GpuRequest(ANY)
        type = catalog.canonical_type(name)
        if type is not None:
            return GpuRequest(type)
        sized = _MEMORY_SUFFIX.fullmatch(name)
        if sized is not None and sized["base"].upper() == ANY:
            raise InvalidError(f'{where}: "any" takes no memory size. Use "any", or name a type.')
        base = self._type(sized["base"]) if sized else None
        if sized is not None and base is not None:
            return GpuRequest(base, memory_gb=int(sized["memory"]))
        return GpuRequest(self._type(name) or self._unknown(name, where))

    def _type(self, name: str) -> str | None:
        return catalog.canonical_type(name) or self._known.get(_key(name))

    def _unknown(self, name: str, where: str) -> NoReturn:
        near = catalog.nearest(name, tuple(self._known.values()))
        advice = f'Did you mean "{near}"?' if near else f"Known types: {_FAMILIAR}."
        raise InvalidError(f'{where}: no GPU type is called "{name}". {advice}')

    def _count(self, text: str, request: GpuRequest, where: str) -> int:
        if _COUNT.fullmatch(text):
            return int(text)
        single = format_request(request)
        if re.fullmatch(r"-\s*[0-9]+", text):
            raise InvalidError(f'{where}: the count must be at least 1. Did you mean "{single}"?')
        first, separator, _ = text.partition(":")
        if separator and _COUNT.fullmatch(first.strip()):
            raise InvalidError(f'{where}: one count only. Did you mean "{single}:{first.strip()}"?')
        if text[-1:] in ("!", "+"):
            raise InvalidError(f"{where}: {self._misplaced_mark(single + ':' + text)}")
        what = f'"{text}" is not a whole number' if text else "the count after the colon is missing"
        raise InvalidError(f'{where}: {what}. Did you mean "{single}"?')

    def _misplaced_mark(self, text: str) -> str:
        name, _, count = re.sub(r"[!+\s]", "", text).partition(":")
        mark = "!" if "!" in text else "+"
        suggestion = f"{name.upper()}{mark}" + (f":{count}" if count else "")
        return f'"{mark}" belongs right after the type. Did you mean "{suggestion}"?'

    def _check(self, request: GpuRequest, where: str) -> None:
        """What strings and objects must satisfy alike: known type, memory made, count within limits."""
        if request.type == ANY:
            self._check_any(request, where)
        else:
            self._check_type(request, where)
        self._check_count(request, where)

    def _check_any(self, request: GpuRequest, where: str) -> None:
        if request.exact or request.or_successor:
            raise InvalidError(f'{where}: "any" names no type, so "!" and "+" mean nothing. Use "any".')

    def _check_type(self, request: GpuRequest, where: str) -> None:
        gpu_type = catalog.lookup(request.type)
        if gpu_type is None:
            if self._type(request.type) is None:
                self._unknown(request.type, where)
        elif request.memory_gb is not None:
            sizes = (*gpu_type.memory_classes_gb, *gpu_type.slices_gb)
            if request.memory_gb not in sizes and not self._knows_variant(request):
                near_gb = min(sizes, key=lambda size: abs(size - (request.memory_gb or 0)))
                near = format_request(replace(request, memory_gb=near_gb))
                made = ", ".join(f"{size} GB" for size in sorted(sizes, reverse=True))
                raise InvalidError(
                    f"{where}: {request.type} has no variant with {request.memory_gb} GB, only {made}. "
                    f'Did you mean "{near}"?'
                )
        if request.or_successor and not catalog.successors(request.type):
            plain = format_request(replace(request, or_successor=False))
            raise InvalidError(
                f'{where}: the catalog knows no successor of {request.type}, so "+" means nothing. '
                f'Use "{plain}", or a list of fallbacks.'
            )

    def _knows_variant(self, request: GpuRequest) -> bool:
        return _key(f"{request.type}{request.memory_gb}GB") in self._known

    def _check_count(self, request: GpuRequest, where: str) -> None:
        count: Any = request.count  # an object's count is whatever its caller passed
        single = format_request(replace(request, count=1))
        if isinstance(count, bool) or not isinstance(count, int):
            raise InvalidError(
                f'{where}: the count must be a whole number, not {count!r}. Did you mean "{single}"?'
            )
        if count < 1:
            raise InvalidError(
                f"{where}: the count must be at least 1, not {count}. "
                f'Did you mean "{single}"? For no GPU use gpu=None.'
            )
        if count > 1 and catalog.is_partial(request.type, request.memory_gb):
            raise InvalidError(
                f"{where}: {single} is a slice of a card and a process sees one slice only, so the count is "
                f'1. Did you mean "{single}"?'
            )
        limit = self._max_counts.get(request.type, catalog.max_count(request.type))
        if count > limit:
            name = "any" if request.type == ANY else catalog.variant_name(request.type, request.memory_gb)
            near = format_request(replace(request, count=limit))
            raise InvalidError(
                f"{where}: {name} supports up to {limit} GPUs per container, not {count}. "
                f'Did you mean "{near}"?'
            )


def _key(name: str) -> str:
    """The spelling without case, spaces, dashes and underscores."""
    return re.sub(r"[\s_-]+", "", name).upper()


def _not_a_request(entry: Any) -> str:
    kind = type(entry).__name__
    if isinstance(entry, type):
        return f"{entry.__name__} is a class. Did you mean {entry.__name__}()?"
    if isinstance(entry, (set, frozenset, dict)):
        return f"a {kind} has no order of preference. Use a list, most preferred first."
    return f'a GPU request is a string, not {kind}. For example gpu="any", "H100" or "A100-80GB:2".'
