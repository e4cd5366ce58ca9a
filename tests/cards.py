"""The real cards of this machine that tests of tests/gpu may use, and the programs they run there."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Home
from glowplug.model.catalog import variant_name

PROGRAMS = Path(__file__).parent / "gpu" / "programs"
NODE_PREFIXES = ("NCCL_", "NVSHMEM_", "TORCH_SYMM_MEM_")
# Asked for first in a list of fallbacks: whichever of these the fleet does not have.
RARE_TYPES = ("T4", "L4", "B200")


@dataclass(frozen=True)
class Fleet:
    """Cards that nobody uses, all of one type."""

    type: str
    cards: tuple[dict[str, Any], ...]
    lacking: str

    @property
    def count(self) -> int:
        return min(2, len(self.cards))

    @property
    def environ(self) -> dict[str, str]:
        """What the programs take their requests from."""
        return {"GPU_TYPE": self.type, "GPU_COUNT": str(self.count), "GPU_LACKING": self.lacking}


def find_fleet() -> Fleet:
    """Raises ``AssertionError`` when no card is free."""
    with_nothing_running = Home({})
    done = with_nothing_running.command("gpus", "--json")
    with_nothing_running.close()
    assert done.status == 0, done.said
    gpus = [gpu for node in json.loads(done.stdout)["nodes"] for gpu in node["gpus"]]
    free = [gpu for gpu in gpus if not (gpu["foreign"] or gpu["locked_by"] or gpu["is_slice"])]
    assert free, f"no free GPU on this machine\n{done.said}"
    types = Counter(variant_name(gpu["type"], gpu["memory_gb"]) for gpu in free)
    chosen = types.most_common(1)[0][0]
    cards = tuple(gpu for gpu in free if variant_name(gpu["type"], gpu["memory_gb"]) == chosen)
    present = {gpu["type"] for gpu in gpus}
    return Fleet(chosen, cards, next(each for each in RARE_TYPES if each not in present))


def settings_of_the_node() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(NODE_PREFIXES)}
