"""Which cards the server may use at all: its own ``CUDA_VISIBLE_DEVICES``, read as CUDA reads it.

Numbers count cards in PCI order, as ``nvidia-smi`` shows them; a number that names a card cut into slices
names all its slices. UUIDs may be shortened to any unambiguous beginning. CUDA stops at the first entry it
does not understand, so "0,-1,1" is one card, and "-1" or an empty value none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glowplug.model.node import Gpu

VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible_only(gpus: Sequence[Gpu], parents: Mapping[str, str], setting: str | None) -> tuple[Gpu, ...]:
    """The GPUs ``setting`` leaves. ``parents`` maps the UUID of a slice to that of its card."""
    if setting is None:
        return tuple(gpus)
    chosen: set[str] = set()
    for entry in setting.split(","):
        named = _named(gpus, parents, entry.strip())
        if not named:
            break
        chosen |= named
    return tuple(gpu for gpu in gpus if gpu.uuid in chosen)


def _named(gpus: Sequence[Gpu], parents: Mapping[str, str], entry: str) -> set[str]:
    if entry.isdecimal():
        return {gpu.uuid for gpu in gpus if gpu.index == int(entry)}
    if not entry.startswith(("GPU-", "MIG-")):
        return set()
    exact = {gpu.uuid for gpu in gpus if entry in (gpu.uuid, parents.get(gpu.uuid))}
    if exact:
        return exact
    cards = {parents.get(gpu.uuid, gpu.uuid) for gpu in gpus} | {gpu.uuid for gpu in gpus}
    begun = [uuid for uuid in cards if uuid.startswith(entry)]
    if len(begun) != 1:
        return set()
    return {gpu.uuid for gpu in gpus if begun[0] in (gpu.uuid, parents.get(gpu.uuid))}
