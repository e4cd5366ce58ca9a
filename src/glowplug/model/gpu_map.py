"""``--gpu-map A10G=RTX-4090``: which type of the fleet a user lets serve a type of the script.

Both sides name a type or a variant, spelt as ``gpu=`` allows, without count or mark. A type that is to be
exact (``H100!``) is never mapped; that is decided where requests are fitted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from glowplug.model.errors import InvalidError
from glowplug.model.gpu import ANY, GpuRequest, format_request, parse_gpu

_EXAMPLE = "--gpu-map A10G=RTX-4090"


def parse_gpu_map(entries: Iterable[str], known_types: Collection[str] = ()) -> dict[str, str]:
    """``{"A10G": "RTX-4090"}`` of ``["a10=rtx4090"]``; one entry may hold several, separated by commas.

    ``known_types``: types beyond the catalog that the fleet has. Of two entries for one type the later
    wins, so that a command's option goes before a setting when it is put after it.
    """
    mapping: dict[str, str] = {}
    for entry in entries:
        for pair in entry.split(","):
            if pair.strip():
                source, target = _pair(pair.strip(), known_types)
                mapping[source] = target
    return mapping


def _pair(pair: str, known_types: Collection[str]) -> tuple[str, str]:
    source, equals, target = pair.partition("=")
    if not equals or not source.strip() or not target.strip():
        raise InvalidError(
            f'--gpu-map "{pair}": write the type asked for, =, and the type to use: {_EXAMPLE}.'
        )
    return _name(pair, source, known_types), _name(pair, target, known_types)


def _name(pair: str, side: str, known_types: Collection[str]) -> str:
    """One side as a type or variant name."""
    try:
        (request,) = parse_gpu(side.strip(), known_types)
    except InvalidError as error:
        # What follows the value it quotes; here the whole pair is quoted.
        raise InvalidError(f'--gpu-map "{pair}": {str(error).partition(": ")[2]}') from None
    if request.type == ANY:
        raise InvalidError(
            f'--gpu-map "{pair}": "any" takes what is there already. Name two types: {_EXAMPLE}.'
        )
    if request != GpuRequest(request.type, memory_gb=request.memory_gb):
        raise InvalidError(
            f'--gpu-map "{pair}": a map is of types, without count or mark; the count stays what the script '
            f"asks for. For example {_EXAMPLE}."
        )
    return format_request(request)
