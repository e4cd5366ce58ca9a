"""What follows the end of an attempt: an output, another attempt, or a verdict of our own. And its text."""

from __future__ import annotations

from glowplug.core.events import ContainerExited
from glowplug.core.state import Function, Input

SIGNALS = {
    4: "illegal instruction", 6: "aborted", 7: "bus error", 8: "floating point exception", 9: "killed",
    11: "segmentation fault", 15: "terminated",
}  # fmt: skip


def retry_delay_s(input: Input) -> float | None:
    """The wait before the next attempt after an exception or a timeout; None if its retries are spent."""
    policy = input.function.spec.retries
    if input.retries >= policy.max_retries:
        return None
    return policy.delay_s(input.retries + 1)


def crash_text(event: ContainerExited) -> str:
    """How a container died, in words."""
    if event.out_of_memory:
        how = "ran out of memory and was killed"
    elif event.signal is not None:
        name = SIGNALS.get(event.signal)
        how = f"died of signal {event.signal}" + (f" ({name})" if name else "")
    elif event.exit_code is not None:
        how = f"exited with code {event.exit_code}"
    else:
        how = "is gone"
    return f"{how}: {event.message}" if event.message else how


def crashed_message(input: Input, container_id: str, how: str, limit: int) -> str:
    return (
        f"container {container_id} of function {input.function.spec.name} {how}. Input {input.id} was being "
        f"run by {input.crashes} containers that died, and is not tried again (limit {limit}). The log says "
        "what it did last."
    )


def crash_loop_message(function: Function, how: str) -> str:
    return (
        f"containers of function {function.spec.name} died {function.crashes_in_a_row} times in a row "
        f"without one output; the last one {how}. What waited is not tried again. The log says what it did."
    )


def timeout_message(input: Input) -> str:
    spec = input.function.spec
    attempts = f" in each of {input.retries + 1} attempts" if input.retries else ""
    return (
        f"function {spec.name} ran longer than its timeout of {spec.timeout_s:g} s{attempts} "
        f"(input {input.id}); raise timeout= or give it less to do"
    )


def interrupted_generator_message(input: Input, why: str) -> str:
    return (
        f"generator {input.function.spec.name} was interrupted ({why}) after its caller had items of it, so "
        "it is not run again from its start; call it again, or declare it with restart_generator=True"
    )


def start_failed_message(function: Function, why: str, times: int) -> str:
    tried = f" {times} times in a row" if times > 1 else ""
    return f"a container of function {function.spec.name} could not start{tried}: {why}"
