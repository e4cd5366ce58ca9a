from __future__ import annotations

from collections.abc import Iterator

import pytest

from commands import ON_THE_CPU, Home


@pytest.fixture(scope="session")
def home() -> Iterator[Home]:
    home = Home(ON_THE_CPU)
    yield home
    home.close()
