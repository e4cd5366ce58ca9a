"""What is known of GPU types: how names map to types, what a card of that name is, what it costs.

Two kinds of names arrive here. A request spells a type ("a10", "RTX 4090", "b200"); a driver reports a
product ("NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090"). Both become one canonical type name, without
memory: "A10G", "A100", "RTX-4090". A card that is not listed keeps working: its type is made of its driver
name, it may be requested by that, eight at most, and it has no list price until an operator gives one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from glowplug.model.gpu_types import GPU_TYPES, GpuType, GpuVariant, ListPrice

__all__ = [
    "GPU_TYPES",
    "DeclaredType",
    "GpuType",
    "GpuVariant",
    "ListPrice",
    "any_eligible",
    "bandwidth_gb_s",
    "canonical_type",
    "declare",
    "default_memory_gb",
    "is_partial",
    "list_price",
    "lookup",
    "max_count",
    "nearest",
    "nominal_memory_gb",
    "price_usd_per_hour",
    "successors",
    "type_from_driver_name",
    "variant_name",
]

DEFAULT_MAX_COUNT = 8
ANY_MEMORY_LIMIT_GB = 24
MEMORY_TOLERANCE = 0.10

# Sizes cards are sold in: what the memory of a card that the catalog does not list is rounded to.
_USUAL_MEMORY_GB = (2, 3, 4, 5, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 128, 141, 180, 288)

# Words of a driver's product name that say nothing about the type.
_VENDOR_WORDS = frozenset({"NVIDIA", "TESLA", "GEFORCE", "GRAPHICS", "GPU", "GENERATION", "EDITION"})
_FORM_WORDS = frozenset(
    {"PCIE", "NVL", "SERVER", "WORKSTATION", "BLACKWELL", "AC", "HBM2", "HBM2E", "HBM3", "HBM3E"}
)
_FORM_PATTERN = re.compile(r"SXM\d*|\d+GB?")
_MIG_SUFFIX = re.compile(r"\s+MIG\s+\S+$", re.IGNORECASE)


def _key(name: str) -> str:
    """The spelling without case, spaces, dashes and underscores."""
    return re.sub(r"[\s_-]+", "", name).upper()


_BY_NAME: dict[str, GpuType] = {gpu_type.name: gpu_type for gpu_type in GPU_TYPES}
_BY_KEY: dict[str, GpuType] = {
    _key(spelling): gpu_type for gpu_type in GPU_TYPES for spelling in (gpu_type.name, *gpu_type.aliases)
}
_ANY_DECLARED: set[str] = set()
"""Types an operator wants to serve "any", whatever their memory."""
_BY_DRIVER_KEY: dict[str, GpuType] = {
    **{_key(gpu_type.name): gpu_type for gpu_type in GPU_TYPES},
    **{_key(alias): gpu_type for gpu_type in GPU_TYPES for alias in gpu_type.aliases},
    **{_key(name): gpu_type for gpu_type in GPU_TYPES for name in gpu_type.driver_names},
}


@dataclass(frozen=True)
class DeclaredType:
    """What an operator says of a type: one the catalog lacks, or other facts of one it has (None:
    unchanged)."""

    name: str
    memory_gb: int | None = None
    max_count: int | None = None
    any_eligible: bool | None = None


def declare(types: Iterable[DeclaredType]) -> None:
    """Add to the catalog, or change it, for this process."""
    for declared in types:
        known = _BY_NAME.get(declared.name)
        memory_gb = declared.memory_gb or (known.default_memory_gb if known else ANY_MEMORY_LIMIT_GB)
        changed = known or GpuType(declared.name, "unknown", (GpuVariant(memory_gb, 0),))
        if known and memory_gb not in known.memory_classes_gb:
            changed = replace(changed, variants=(*known.variants, GpuVariant(memory_gb, 0)))
        if declared.max_count is not None:
            changed = replace(changed, max_count=declared.max_count)
        if declared.any_eligible is not None:
            changed = replace(changed, any_eligible=declared.any_eligible)
        _BY_NAME[changed.name] = changed
        for spelling in (changed.name, *changed.aliases):
            _BY_KEY[_key(spelling)] = changed
            _BY_DRIVER_KEY[_key(spelling)] = changed
        for driver_name in changed.driver_names:
            _BY_DRIVER_KEY[_key(driver_name)] = changed
        if declared.any_eligible:
            _ANY_DECLARED.add(changed.name)


def canonical_type(name: str) -> str | None:
    """The catalog's name for ``name`` ("a10" is "A10G", "rtx 4090" is "RTX-4090"); None if not listed."""
    gpu_type = _BY_KEY.get(_key(name))
    return gpu_type.name if gpu_type else None


def lookup(type: str) -> GpuType | None:
    """The entry of a canonical type name."""
    return _BY_NAME.get(type)


def default_memory_gb(type: str) -> int | None:
    """The memory meant when a request for ``type`` names none; None for a type that is not listed."""
    gpu_type = lookup(type)
    return gpu_type.default_memory_gb if gpu_type else None


def variant_name(type: str, memory_gb: int | None) -> str:
    """The type with its memory where that tells variants apart: "A100-80GB", "H100", "H100-94GB"."""
    gpu_type = lookup(type)
    if gpu_type is None or not memory_gb:
        return type
    common = [variant.memory_gb for variant in gpu_type.variants if variant.common]
    return type if common == [memory_gb] else f"{type}-{memory_gb}GB"


def is_partial(type: str, memory_gb: int | None) -> bool:
    """Whether a request for this much memory of ``type`` means a MIG slice of a card, not a whole one."""
    gpu_type = lookup(type)
    return gpu_type is not None and memory_gb in gpu_type.slices_gb


def nominal_memory_gb(memory_mib: int, type: str | None = None) -> int:
    """The memory class of what a driver reports: the nearest within 10 %, else the rounded size in GB."""
    memory_gb = memory_mib / 1024
    gpu_type = lookup(type) if type else None
    classes = (*gpu_type.memory_classes_gb, *gpu_type.slices_gb) if gpu_type else ()
    for candidates in (classes, _USUAL_MEMORY_GB):
        close = [size for size in candidates if abs(memory_gb - size) <= MEMORY_TOLERANCE * size]
        if close:
            return min(close, key=lambda size: abs(memory_gb - size))
    return max(1, round(memory_gb))


def type_from_driver_name(driver_name: str) -> str:
    """The type of a card as its driver calls it; of an unlisted card, one made of that name.

    "NVIDIA A100-SXM4-40GB MIG 3g.20gb" is "A100"; "NVIDIA Foo X99" is "FOO-X99".
    """
    words = re.findall(r"[A-Z0-9]+", _MIG_SUFFIX.sub("", driver_name).upper())
    telling = [word for word in words if word not in _VENDOR_WORDS]
    plain = [word for word in telling if word not in _FORM_WORDS and not _FORM_PATTERN.fullmatch(word)]
    # Max-Q is the same chip at less power: the type where it is a server or workstation card, another
    # card (less memory) in a laptop.
    desktop = "".join(plain).replace("MAXQ", "") if "BLACKWELL" in telling else "".join(plain)
    gpu_type = _BY_DRIVER_KEY.get(desktop)
    if gpu_type is not None:
        return gpu_type.name
    return "-".join(plain or telling or words) or "UNKNOWN"


def any_eligible(type: str, memory_gb: int, is_slice: bool = False) -> bool:
    """Whether a card serves ``gpu="any"`` first: inference cards and GeForce or RTX, up to 24 GB, whole."""
    if is_slice:
        return False
    if type in _ANY_DECLARED:
        return True
    if memory_gb > ANY_MEMORY_LIMIT_GB:
        return False
    gpu_type = lookup(type)
    return gpu_type.any_eligible if gpu_type else type.startswith(("RTX-", "GTX-"))


def successors(type: str) -> tuple[str, ...]:
    """What ``TYPE+`` also accepts: the next generation of the same class of card, if the catalog has one."""
    gpu_type = lookup(type)
    return (gpu_type.successor,) if gpu_type and gpu_type.successor else ()


def max_count(type: str) -> int:
    """The most GPUs of a type one request may ask for."""
    gpu_type = lookup(type)
    return gpu_type.max_count if gpu_type else DEFAULT_MAX_COUNT


def list_price(type: str, memory_gb: int | None = None) -> ListPrice | None:
    """The dated price of a whole card; without a size, of the type's default variant."""
    gpu_type = lookup(type)
    if gpu_type is None:
        return None
    wanted = memory_gb or gpu_type.default_memory_gb
    return next((variant.price for variant in gpu_type.variants if variant.memory_gb == wanted), None)


def price_usd_per_hour(type: str, memory_gb: int | None = None, is_slice: bool = False) -> float:
    """The list price of one GPU; 0.0 where none is listed. A slice costs its share of the card's memory."""
    if not is_slice:
        price = list_price(type, memory_gb)
        return price.usd_per_hour if price else 0.0
    gpu_type = lookup(type)
    for variant in gpu_type.variants if gpu_type else ():
        if variant.price and memory_gb in variant.slices_gb:
            return round(variant.price.usd_per_hour * (memory_gb or 0) / variant.memory_gb, 4)
    return 0.0


def bandwidth_gb_s(type: str, memory_gb: int | None = None) -> int | None:
    """Memory bandwidth of a whole card; without a size, of the type's default variant."""
    gpu_type = lookup(type)
    if gpu_type is None:
        return None
    wanted = memory_gb or gpu_type.default_memory_gb
    return next((each.bandwidth_gb_s for each in gpu_type.variants if each.memory_gb == wanted), None)


def nearest(name: str, known_types: tuple[str, ...] = ()) -> str | None:
    """The type or variant whose spelling is closest to ``name``, if any is close."""
    spellings = {_key(known): known for known in known_types}
    for gpu_type in GPU_TYPES:
        spellings.update((_key(alias), alias) for alias in gpu_type.aliases)
        if len(gpu_type.variants) > 1 or gpu_type.slices_gb:
            sizes = (*gpu_type.memory_classes_gb, *gpu_type.slices_gb)
            spellings.update(
                (_key(f"{gpu_type.name}{size}GB"), f"{gpu_type.name}-{size}GB") for size in sizes
            )
        spellings[_key(gpu_type.name)] = gpu_type.name
    close = difflib.get_close_matches(_key(name), spellings, n=1, cutoff=0.6)
    return spellings[close[0]] if close else None
