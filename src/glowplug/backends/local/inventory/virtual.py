"""A fleet that is only declared: ``GLOWPLUG_GPUS="8xH100,2xT4;4xA100-80GB"``.

    fleet    = machine (";" machine)*
    machine  = cards ("," cards)* label*            a comma: the same machine; a semicolon: another
    cards    = [COUNT "x"] TYPE["-"<n>"GB"]         a partial size is slices: "2xA100-20GB"
    label    = "@" KEY "=" VALUE                    cloud, region, zone or market of the machine

Case and spaces do not matter. "none" declares one machine without a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from glowplug.backends.local.inventory.machine import LABEL_VARIABLES
from glowplug.model.catalog import default_memory_gb, is_partial, price_usd_per_hour
from glowplug.model.errors import InvalidError
from glowplug.model.gpu import ANY, parse_gpu
from glowplug.model.node import Gpu, Node

VARIABLE = "GLOWPLUG_GPUS"
GPUS_PER_MACHINE_MAX = 128
MACHINES_MAX = 1000

_EXAMPLE = (
    f'For example {VARIABLE}="8xH100,2xT4;4xA100-80GB @cloud=gcp" (comma: same machine; semicolon: another).'
)
_CARDS = re.compile(r"(?:(?P<count>-?\d+)\s*[x×*]\s*)?(?P<name>[^@]*)", re.IGNORECASE | re.DOTALL)
_LABEL = re.compile(r"(?P<key>[a-z]+)\s*=\s*(?P<value>[\w.-]+)", re.IGNORECASE)


def parse_fleet(
    text: str, cpus: float = 0.0, memory_mib: int = 0, labels: Mapping[str, str] | None = None
) -> list[Node]:
    """The machines ``text`` declares, named virtual-1, virtual-2, …; an InvalidError names the place.

    ``cpus`` and ``memory_mib`` are what the real machine has: the virtual ones share it. ``labels`` hold
    where a machine declares none of its own.
    """
    machines = [_Machine(text, start, part, labels or {}) for start, part in _parts(text, ";", 0)]
    if len(machines) > MACHINES_MAX:
        raise InvalidError(
            f"{VARIABLE}: {len(machines)} machines; a virtual fleet has at most {MACHINES_MAX}."
        )
    share = len(machines)
    return [
        Node(
            id=f"virtual-{number}",
            gpus=machine.gpus(f"virtual-{number}"),
            labels=machine.labels,
            cpus=round(cpus / share, 2),
            memory_mib=memory_mib // share,
            virtual=True,
        )
        for number, machine in enumerate(machines, start=1)
    ]


class _Machine:
    """One machine's part of the text, read into cards and labels."""

    def __init__(self, text: str, start: int, part: str, labels: Mapping[str, str]) -> None:
        self._text = text
        self._cards: list[tuple[str, int]] = []
        """Type and memory of each card."""
        self._own: dict[str, str] = {}
        for item_start, item in _parts(part, ",", start):
            cards, *labelled = _parts(item, "@", item_start)
            self._add_cards(*cards)
            for label in labelled:
                self._add_label(*label)
        self.labels = {**labels, **self._own}

    def gpus(self, node_id: str) -> tuple[Gpu, ...]:
        return tuple(_virtual_gpu(node_id, index, *card) for index, card in enumerate(self._cards))

    def _add_cards(self, start: int, item: str) -> None:
        if self._text.strip().lower() == "none":
            return
        match = _CARDS.fullmatch(item.strip())
        name = match["name"].strip() if match else ""
        if match is None or not name:
            raise self._error(start, item, "no GPU type is named")
        if ":" in name and match["count"] is None:
            name, _, written = name.partition(":")
        else:
            written = match["count"] or "1"
        if not written.strip().isdecimal() or int(written) < 1:
            raise self._error(start, item, f'the count must be a whole number of at least 1, not "{written}"')
        self._cards += [self._card(start, item, name)] * min(int(written), GPUS_PER_MACHINE_MAX + 1)
        if len(self._cards) > GPUS_PER_MACHINE_MAX:
            raise self._error(start, item, f"a machine has at most {GPUS_PER_MACHINE_MAX} GPUs")

    def _card(self, start: int, item: str, name: str) -> tuple[str, int]:
        try:
            [request] = parse_gpu(name.strip())
        except InvalidError as error:
            # What follows the value it quotes; this message names the whole declaration instead.
            raise self._error(start, item, str(error).partition(": ")[2].rstrip(".")) from None
        if request.type == ANY or request.exact or request.or_successor or request.count != 1:
            raise self._error(start, item, f'"{name}" is a request; a fleet is made of types, such as 8xH100')
        memory_gb = request.memory_gb or default_memory_gb(request.type)
        assert memory_gb is not None  # parse_gpu was told of no types beyond the catalog's
        return request.type, memory_gb

    def _add_label(self, start: int, item: str) -> None:
        match = _LABEL.fullmatch(item.strip())
        key = match["key"].lower() if match else ""
        if match is None or key not in LABEL_VARIABLES:
            keys = ", ".join(LABEL_VARIABLES)
            raise self._error(start - 1, f"@{item}", f"a label is @KEY=VALUE with KEY one of {keys}")
        value = match["value"]
        if self._own.setdefault(key, value) != value:
            raise self._error(start - 1, f"@{item}", f"this machine already has {key}={self._own[key]}")

    def _error(self, start: int, item: str, what: str) -> InvalidError:
        position = start + len(item) - len(item.lstrip()) + 1
        place = f'at character {position}, "{item.strip()}"' if item.strip() else f"at character {start + 1}"
        stop = "" if what.endswith("?") else "."
        return InvalidError(f'{VARIABLE}="{self._text}": {place}: {what}{stop} {_EXAMPLE}')


def _parts(text: str, separator: str, start: int) -> Iterator[tuple[int, str]]:
    """The parts of ``text``, each with its place in the whole declaration; ``start`` is that of ``text``."""
    for part in text.split(separator):
        yield start, part
        start += len(part) + 1


def _virtual_gpu(node_id: str, index: int, type: str, memory_gb: int) -> Gpu:
    is_slice = is_partial(type, memory_gb)
    return Gpu(
        uuid=f"{'MIG' if is_slice else 'GPU'}-{node_id}-{index}",
        type=type,
        memory_gb=memory_gb,
        index=index,
        memory_mib=memory_gb * 1024,
        is_slice=is_slice,
        price_usd_per_hour=price_usd_per_hour(type, memory_gb, is_slice),
        driver_name="virtual",
        minor=-1,
    )
