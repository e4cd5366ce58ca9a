"""What holds for every test: property tests are not timed, because a busy machine is no failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from e2e.oci import OciPlace

settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def oci(tmp_path_factory: pytest.TempPathFactory) -> OciPlace:
    """A home with a Debian, made once for all tests of images with a root of their own."""
    from e2e.oci import make_place

    return make_place(tmp_path_factory)
