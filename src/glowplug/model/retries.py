"""Retries: how often and how soon an input that failed is tried again."""

from __future__ import annotations

from glowplug.model.errors import InvalidError
from glowplug.model.retry_policy import RetryPolicy

MAX_RETRIES = 1000
"""More is a mistake: with the default delays that is most of a day."""


class Retries:
    """A retry policy for ``@app.function(retries=...)``.

    After an exception or a timeout an input is tried again up to ``max_retries`` times (0 to 1000). The wait
    before the first retry is ``initial_delay`` seconds (0 to 60); each further one is ``backoff_coefficient``
    times as long (1 to 10), never longer than ``max_delay`` seconds (1 to 60). Crashes and interruptions of a
    container do not count: those inputs run again anyway.

    Raises ``InvalidError`` for a value outside its range.

    >>> @app.function(retries=Retries(max_retries=4, initial_delay=2.0))
    ... def flaky(x): ...
    """

    def __init__(
        self,
        *,
        max_retries: int,
        backoff_coefficient: float = 2.0,
        initial_delay: float = 1.0,
        max_delay: float = 60.0,
    ) -> None:
        _check_count(max_retries, "Retries(max_retries=")
        _check_range("backoff_coefficient", backoff_coefficient, 1, 10, "")
        _check_range("initial_delay", initial_delay, 0, 60, " seconds")
        _check_range("max_delay", max_delay, 1, 60, " seconds")
        self.max_retries = max_retries
        self.backoff_coefficient = backoff_coefficient
        self.initial_delay = initial_delay
        self.max_delay = max_delay

    def __repr__(self) -> str:
        return (
            f"Retries(max_retries={self.max_retries}, backoff_coefficient={self.backoff_coefficient}, "
            f"initial_delay={self.initial_delay}, max_delay={self.max_delay})"
        )


def retry_policy(value: int | Retries | None) -> RetryPolicy:
    """The policy a ``retries=`` value asks for. A plain count waits one second before each retry."""
    if value is None:
        return RetryPolicy()
    if isinstance(value, Retries):
        return RetryPolicy(
            max_retries=value.max_retries,
            backoff_coefficient=float(value.backoff_coefficient),
            initial_delay_s=float(value.initial_delay),
            max_delay_s=float(value.max_delay),
        )
    _check_count(value, "retries=")
    return RetryPolicy(max_retries=value)


def _check_count(value: object, where: str) -> None:
    end = ")" if "(" in where else ""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidError(
            f"{where}{value!r}{end}: the number of retries is a whole number, not {type(value).__name__}. "
            "Use a count or Retries(max_retries=...)."
        )
    if not 0 <= value <= MAX_RETRIES:
        raise InvalidError(f"{where}{value!r}{end}: the number of retries must be from 0 to {MAX_RETRIES}.")


def _check_range(name: str, value: object, low: float, high: float, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidError(f"Retries({name}={value!r}): must be a number from {low} to {high}{unit}.")
