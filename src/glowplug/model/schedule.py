"""Schedules of deployed functions: at fixed intervals or at times of the calendar. Values only."""

from __future__ import annotations

from glowplug.model.errors import InvalidError


class Schedule:
    """When a deployed function runs by itself: a ``Period`` or a ``Cron``."""


class Period(Schedule):
    """Run every so often, counted from the deployment. At least one part must be positive, none negative.

    Years and months are calendar ones; ``seconds`` may be a fraction.

    >>> @app.function(schedule=Period(hours=4))
    ... def refresh(): ...
    """

    def __init__(
        self,
        years: int = 0,
        months: int = 0,
        weeks: int = 0,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: float = 0,
    ) -> None:
        self.parts: dict[str, float] = {
            "years": years,
            "months": months,
            "weeks": weeks,
            "days": days,
            "hours": hours,
            "minutes": minutes,
            "seconds": seconds,
        }
        for name, value in self.parts.items():
            whole = isinstance(value, int) or name == "seconds"  # pyright: ignore[reportUnnecessaryIsInstance]
            if isinstance(value, bool) or not whole or value < 0:
                kind = "a number" if name == "seconds" else "a whole number"
                raise InvalidError(f"Period({name}={value!r}): must be {kind}, 0 or more.")
        if not any(self.parts.values()):
            raise InvalidError("Period(): give at least one part, such as Period(hours=4).")

    def __repr__(self) -> str:
        return f"Period({', '.join(f'{name}={value}' for name, value in self.parts.items() if value)})"


class Cron(Schedule):
    """Run at the times of a five-field cron line (minute, hour, day of month, month, day of week).

    ``timezone`` is an IANA name such as "Europe/Paris"; "UTC" is the default.

    >>> @app.function(schedule=Cron("0 6 * * 1-5", timezone="America/New_York"))
    ... def report(): ...
    """

    def __init__(self, cron_string: str, timezone: str = "UTC") -> None:
        if not isinstance(cron_string, str) or len(cron_string.split()) != 5:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidError(
                f"Cron({cron_string!r}): a cron line has five fields (minute, hour, day, month, weekday), "
                'such as "0 6 * * *".'
            )
        self.cron_string = cron_string
        self.timezone = timezone

    def __repr__(self) -> str:
        zone = "" if self.timezone == "UTC" else f", timezone={self.timezone!r}"
        return f"Cron({self.cron_string!r}{zone})"
