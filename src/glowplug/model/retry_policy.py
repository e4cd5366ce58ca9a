"""When a failed input is run again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """User-level retries: after an exception or a timeout. Delays in seconds."""

    max_retries: int = 0
    backoff_coefficient: float = 1.0
    initial_delay_s: float = 1.0
    max_delay_s: float = 60.0

    def delay_s(self, retry: int) -> float:
        """The wait before retry number ``retry`` (1 is the first)."""
        delay_s = self.initial_delay_s * self.backoff_coefficient ** (retry - 1)
        return min(delay_s, self.max_delay_s)
