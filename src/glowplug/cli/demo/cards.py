"""What the demo asks for: a virtual fleet that can show everything, or what this machine's free cards can."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from glowplug.model import catalog
from glowplug.model.node import Gpu, Node

VIRTUAL_FLEET = "1xT4,2xL4; 2xA10G; 2xA10G; 1xH100,1xA100-80GB"


@dataclass(frozen=True)
class Cards:
    """``gpu=`` of the demo's functions. ``preferred`` is "" where no card can be kept busy for it."""

    fleet: str
    """``GLOWPLUG_GPUS``; "" for real cards."""
    preferred: str
    fallbacks: tuple[str, ...]
    one: str
    many: str
    count: int
    """How many ``many`` asks for."""
    mapped: str | None
    moved: str

    @property
    def asked(self) -> dict[str, Any]:
        """What ``functions.py`` reads."""
        return {
            "preferred": self.preferred or None,
            "fallbacks": list(self.fallbacks),
            "one": self.one,
            "many": self.many,
            "mapped": self.mapped,
            "moved": self.moved,
        }


VIRTUAL = Cards(
    fleet=VIRTUAL_FLEET,
    preferred="H100",
    fallbacks=("H100", "A100-80GB"),
    one="L4",
    many="L4:2",
    count=2,
    mapped="A10G",
    moved="A10G",
)


def cards_of(nodes: Iterable[Node]) -> Cards | None:
    """What the free whole cards of real machines can show; None without any."""
    free = [gpu for node in nodes for gpu in node.gpus if gpu.is_free and not gpu.is_slice]
    if not free or any(node.virtual for node in nodes):
        return None
    variant, number = Counter(gpu.variant for gpu in free).most_common(1)[0]
    count = min(number, catalog.max_count(_type_of(variant, free)))
    absent = next(type for type in ("B200", "H200", "T4") if all(gpu.type != type for gpu in free))
    return Cards(
        fleet="",
        preferred="",
        fallbacks=(absent, variant),
        one=variant,
        many=f"{variant}:{count}" if count > 1 else variant,
        count=count,
        # One card is one container: then a map over two of them runs without it.
        mapped=variant if number > 1 else None,
        moved=variant,
    )


def _type_of(variant: str, gpus: Iterable[Gpu]) -> str:
    return next(gpu.type for gpu in gpus if gpu.variant == variant)
