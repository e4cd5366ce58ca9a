"""What an import asks os.environ for is known, however it asks."""

from __future__ import annotations

import os

import pytest

from glowplug.container.watched_environ import watched_environ
from glowplug.wire.agreed import EVERY_VARIABLE


@pytest.mark.parametrize(
    "ask",
    [
        lambda: os.environ.get("WATCHED"),
        lambda: os.getenv("WATCHED", "or this"),
        lambda: "WATCHED" in os.environ,
        lambda: os.environ.setdefault("WATCHED", "1"),
        lambda: os.environ.pop("WATCHED", None),
    ],
)
def test_a_variable_is_asked_for(ask, monkeypatch):
    monkeypatch.setenv("WATCHED", "1")
    kind = type(os.environ)
    with watched_environ() as read:
        ask()
    assert read & {"WATCHED", EVERY_VARIABLE}, read
    assert type(os.environ) is kind


@pytest.mark.parametrize("ask", [lambda: dict(os.environ), lambda: os.environ.copy(), lambda: [*os.environ]])
def test_all_variables_are_asked_for(ask):
    with watched_environ() as read:
        ask()
    assert EVERY_VARIABLE in read


def test_one_that_is_not_set_counts_and_setting_one_does_not():
    with watched_environ() as read:
        with pytest.raises(KeyError):
            os.environ["WATCHED_ABSENT"]
        os.environ["WATCHED_SET"] = "1"
        del os.environ["WATCHED_SET"]
    assert read == {"WATCHED_ABSENT"}
