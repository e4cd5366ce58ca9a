"""What happened to one thing, told from the bounded ring of past events and commands."""

from __future__ import annotations

from glowplug.core.describe import describe_command, describe_event, subjects
from glowplug.core.events import InputsAccepted
from glowplug.core.state import State
from glowplug.core.waiting import Waiting, why_waiting

__all__ = ["Waiting", "story", "why_waiting"]


def story(state: State, subject_id: str) -> list[str]:
    """Everything the ring still has about an input, call, container, function, app, node or GPU, in order.

    Times are seconds since the first line. An event is told when it or a command it led to is about the
    subject; of the commands, those that are.
    """
    lines: list[str] = []
    about = {subject_id}
    began_at: float | None = None
    for event, out in state.trace:
        if isinstance(event, InputsAccepted) and event.call_id == subject_id:
            about.update(event.input_ids)
        told = [command for command in out if not about.isdisjoint(subjects(command))]
        if not told and about.isdisjoint(subjects(event)):
            continue
        if began_at is None:
            began_at = event.at
        lines.append(f"{event.at - began_at:+.3f} s  {describe_event(event)}")
        lines += [f"          → {describe_command(command)}" for command in told]
    return lines
