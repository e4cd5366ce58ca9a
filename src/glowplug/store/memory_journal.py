"""The journal without a disk: for tests and simulations. It forgets everything with its process."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from glowplug.ports.journal import (
    HISTORY_RETENTION_S,
    RESULT_RETENTION_S,
    CallFact,
    JournaledCall,
    JournaledContainer,
    JournaledOutput,
    JournaledRun,
    Predecessor,
)
from glowplug.wire.payload import Payload

T = TypeVar("T")


class MemoryJournal:
    """Implements ``ports.journal.Journal``. ``fails``: answer that nothing could be written, as a full disk
    does.

    Two lives of a server share one object; ``take_over`` begins the second.
    """

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.runs: dict[str, JournaledRun] = {}
        self.containers: dict[str, tuple[JournaledContainer, float | None]] = {}
        self.calls: dict[str, JournaledCall] = {}

    def take_over(self, at: float) -> Predecessor:
        runs = [run for run in self.runs.values() if run.ended_at is None]
        containers = [container for container, ended_at in self.containers.values() if ended_at is None]
        ids = {run.app_id for run in runs}
        calls = [
            replace(call, outputs=tuple(replace(output, payload=None) for output in call.outputs))
            for call in self.calls.values()
            if call.fact.app_id in ids
        ]
        for run in runs:
            self.runs[run.app_id] = replace(run, ended_at=at, reason="the server ended without ending it")
        for container in containers:
            self.containers[container.container_id] = (container, at)
        return Predecessor(
            tuple(sorted(runs, key=lambda run: run.started_at)),
            tuple(sorted(containers, key=lambda each: (each.started_at, each.container_id))),
            tuple(sorted(calls, key=lambda call: call.fact.accepted_at)),
        )

    def run_started(self, run: JournaledRun) -> None:
        known = self.runs.get(run.app_id)
        if known is not None:
            run = replace(known, server_pid=run.server_pid, ended_at=run.ended_at, reason=run.reason)
        self.runs[run.app_id] = run

    def run_used(self, app_id: str, usage: dict[str, Any]) -> None:
        if app_id in self.runs:
            self.runs[app_id] = replace(self.runs[app_id], usage=dict(usage))

    def run_ended(self, app_id: str, at: float, reason: str, usage: dict[str, Any]) -> None:
        if app_id in self.runs:
            self.runs[app_id] = replace(
                self.runs[app_id], ended_at=at, reason=reason, usage=dict(usage), spec={}
            )

    def container_started(self, container: JournaledContainer) -> None:
        self.containers.setdefault(container.container_id, (container, None))

    def container_ended(self, container_id: str, at: float, reason: str) -> None:
        if container_id in self.containers:
            self.containers[container_id] = (self.containers[container_id][0], at)

    def inputs_accepted(self, call: CallFact, inputs: Sequence[tuple[str, Payload]]) -> None:
        known = self.calls.get(call.call_id) or JournaledCall(call, 0, (), False)
        seen = {input_id for input_id, _ in known.open_inputs} | {each.input_id for each in known.outputs}
        new = tuple((input_id, payload) for input_id, payload in inputs if input_id not in seen)
        self.calls[call.call_id] = replace(
            known, inputs=known.inputs + len(new), open_inputs=(*known.open_inputs, *new)
        )

    def output_recorded(self, call_id: str, output: JournaledOutput) -> None:
        call = self.calls.get(call_id)
        if call is None or any(each.input_id == output.input_id for each in call.outputs):
            return
        still_open = tuple(each for each in call.open_inputs if each[0] != output.input_id)
        self.calls[call_id] = replace(call, outputs=(*call.outputs, output), open_inputs=still_open)

    def committed(self) -> Future[bool]:
        return _done(not self.fails)

    def read_runs(self, limit: int) -> Future[list[JournaledRun]]:
        latest = sorted(self.runs.values(), key=lambda run: (-run.started_at, run.app_id))
        return _done([replace(run, spec={}) for run in latest[:limit]])

    def read_run(self, app_id: str) -> Future[JournaledRun | None]:
        run = self.runs.get(app_id)
        return _done(run and replace(run, spec={}))

    def read_call(self, call_id: str) -> Future[JournaledCall | None]:
        return _done(self.calls.get(call_id))

    def forget_old(self, at: float) -> None:
        results, history = at - RESULT_RETENTION_S, at - HISTORY_RETENTION_S

        def ended_before(app_id: str, limit: float) -> bool:
            run = self.runs.get(app_id)
            return run is not None and run.ended_at is not None and run.ended_at < limit

        for call_id, call in list(self.calls.items()):
            app_id = call.fact.app_id
            if ended_before(app_id, history):
                del self.calls[call_id]
            elif ended_before(app_id, results) or (
                not call.open_inputs and max((each.at for each in call.outputs), default=results) < results
            ):
                self.calls[call_id] = replace(call, outputs=(), open_inputs=(), expired=True)
        for app_id in [app_id for app_id in self.runs if ended_before(app_id, history)]:
            del self.runs[app_id]
        for container_id, (_, ended_at) in list(self.containers.items()):
            if ended_at is not None and ended_at < results:
                del self.containers[container_id]

    def close(self) -> None:
        pass


def _done(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future
