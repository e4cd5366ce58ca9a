from __future__ import annotations

from collections.abc import Iterator

import pytest

from cards import PROGRAMS, Fleet, find_fleet, settings_of_the_node
from commands import Finished, Home


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return find_fleet()


@pytest.fixture
def two_cards(fleet: Fleet) -> Fleet:
    if fleet.count < 2:
        pytest.skip("needs two cards")
    return fleet


@pytest.fixture(scope="session")
def home(fleet: Fleet) -> Iterator[Home]:
    home = Home(fleet.environ)
    yield home
    home.close()


@pytest.fixture(scope="session")
def settings_kept(home: Home) -> Finished:
    """What calls NCCL asks for this first: it fails unless the node's settings are wherever NCCL may run."""
    wanted = settings_of_the_node()
    done = home.run(PROGRAMS / "node_settings.py", name="main")
    for container, places in done.value.items():
        for place, found in places.items():
            kept = {name: found.get(name) for name in wanted}
            assert kept == wanted, f"{place} of a {container} container has {kept}"
    return done
