"""Ids that clients give: apps, calls and inputs are known before a server has heard of them."""

from __future__ import annotations

import itertools
import os


class Ids:
    """Ids no other process has: a random beginning for each process, then a count."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._beginning = os.urandom(5).hex()
        self._count = itertools.count(1)

    def next(self) -> str:
        return f"{self._beginning}{next(self._count):06x}"


ids = Ids()
"""Of this process; renewed in a forked child."""


def index_of(input_id: str) -> int:
    return int(input_id.rsplit("-", 1)[1])
