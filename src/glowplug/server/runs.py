"""Runs of apps: opened by a client, given back to one that lost its connection, ended when all is gone."""

from __future__ import annotations

import asyncio
import collections
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from glowplug.client.session import LogLine
from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.decisions.fitting import refusal
from glowplug.core.story import why_waiting
from glowplug.model import errors
from glowplug.model.function import FunctionSpec
from glowplug.ports.backend import NodeBackend
from glowplug.ports.journal import Journal, JournaledCall, JournaledRun, Predecessor
from glowplug.server.calls import Calls
from glowplug.server.core_loop import CoreLoop
from glowplug.server.function_secrets import FunctionSecrets
from glowplug.server.records import RunRecord, Usage
from glowplug.server.session import ClientSession

WAITING_TICK_S = 1.0
"""How often clients hear why their inputs wait; nothing that waits less is mentioned."""
ENDED_RUNS_KEPT = 20
ENDED_LOG_LINES_KEPT = 5_000
"""Runs that ended lately, and how many lines of each, for `glowplug app logs`."""


@dataclass(frozen=True)
class ImagesInUse:
    """Ids of images and digests of trees of files."""

    images: frozenset[str]
    trees: frozenset[str]


class Runs:
    """``live`` by app id, and ``ended`` lately. ``on_quiet`` is called when the last one has ended."""

    def __init__(
        self,
        core: CoreLoop,
        backend: NodeBackend,
        journal: Journal,
        secrets: FunctionSecrets,
        on_quiet: Callable[[], None] | None,
    ) -> None:
        self.live: dict[str, RunRecord] = {}
        self.ended: dict[str, RunRecord] = {}
        self.calls = Calls(core, self.live, journal, self._on_call_done)
        self._core = core
        self._backend = backend
        self._journal = journal
        self._secrets = secrets
        self._on_quiet = on_quiet
        self._earlier: dict[str, JournaledRun] = {}
        """What a server before this one did not end; their clients may come back."""
        self._ended_usage = Usage()
        self._untold: list[str] = []
        """Warnings nobody was there to hear."""
        self.keep_lines: Callable[[str, Sequence[LogLine]], None] | None = None
        """Where lines go beside memory."""
        self._waiting_tick: Any = None
        core.carry_out[c.RecordAttempt] = self._record_attempt
        core.carry_out[c.Notify] = self._notify

    # their beginning

    def open(self, session: ClientSession | None, app_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Register an app, or give a run that lost its connection back to its client.

        Raises ``InvalidError`` when a function asks for what this fleet can never give.
        """
        known = self.live.get(app_id)
        if known is not None:
            known.session = session
            return {}
        functions = [FunctionSpec.from_wire(function) for function in spec["functions"]]
        self._check(functions)
        self._secrets.check(functions)
        earlier = self._earlier.get(app_id)
        run = RunRecord(
            app_id=app_id,
            name=spec["name"],
            functions={function.id: function for function in functions},
            environment=spec["environment"],
            source=spec["source"],
            detach=spec["detach"],
            started_at=earlier.started_at if earlier is not None else self._core.now(),
            session=session,
            usage=Usage.from_wire(earlier.usage) if earlier is not None else Usage(),
        )
        self._backend.prepare(functions, run.environment, run.source)
        self.live[app_id] = run
        # Only a run that goes on without its client can be taken up from its spec alone.
        kept_spec = self._secrets.sealed(spec) if run.detach else {}
        self._journal.run_started(
            JournaledRun(app_id, run.name, run.started_at, os.getpid(), run.detach, kept_spec)
        )
        self._core.post(e.AppStarted(self._core.now(), app_id, run.name, tuple(functions)))
        if self._backend.warning and earlier is None:
            self.notice(app_id, "warning", self._backend.warning)
        while self._untold:
            self.notice(app_id, "warning", self._untold.pop(0))
        if self._waiting_tick is None:
            self._waiting_tick = self._core.loop.call_later(WAITING_TICK_S, self._tell_waiting)
        return {}

    def _check(self, functions: Sequence[FunctionSpec]) -> None:
        why = refusal(self._core.state, functions)
        if why:
            raise errors.InvalidError(why)

    def take_over(self, left: Predecessor) -> None:
        """Take up what a server before this one left: results for clients that come back, detached runs."""
        self._earlier = {run.app_id: run for run in left.runs}
        for call in left.calls:
            self.calls.remember_written(call)
        for run in left.runs:
            if run.detach:
                self._resume(run, [call for call in left.calls if call.fact.app_id == run.app_id])

    def _resume(self, run: JournaledRun, calls: Sequence[JournaledCall]) -> None:
        """Go on with a detached run: its client has left, so nobody else would send its inputs again."""
        problem = "its server ended, and its calls were done"
        if run.spec and any(call.open_inputs for call in calls):
            try:
                self.open(None, run.app_id, self._secrets.unsealed(run.spec))
            except errors.Error as error:
                problem = f"its server ended, and it cannot be taken up again: {error}"
            else:
                for call in calls:
                    fact = call.fact
                    self.calls.accept(None, fact.function_id, fact.call_id, True, call.open_inputs)
                return
        self._journal.run_ended(run.app_id, self._core.now(), problem, run.usage)

    # their end

    def close(self, app_id: str, reason: str, waiter: tuple[ClientSession, int] | None = None) -> None:
        """End a run; ``waiter`` is answered when nothing of it is left."""
        run = self.live.get(app_id)
        if run is None:
            if waiter is not None:
                waiter[0].reply(waiter[1], {})
            return
        if waiter is not None:
            run.stop_waiters.append(waiter)
        if not run.stopping:
            run.stopping = reason
            if run.session is not None and waiter is None:
                run.session.run_ended(app_id, f"app {run.name} was stopped: {reason}")
            self._core.post(e.AppStopped(self._core.now(), app_id, reason))
        self._forget_if_gone(run)

    def leave(self, app_id: str, reason: str, waiter: tuple[ClientSession, int]) -> None:
        """Its client is done with a run: it ends, except that spawned calls of a detached one go on."""
        run = self.live.get(app_id)
        session, request = waiter
        goes_on = run is not None and run.detach and not run.stopping and run.session is session
        spawned = self.calls.open_inputs(app_id, kept_only=True) if goes_on else 0
        if run is None or not spawned:
            self.close(app_id, reason, waiter)
            return
        self.calls.cancel_unkept(app_id)
        session.notice(
            app_id,
            "info",
            f"{spawned} spawned input{'s go' if spawned > 1 else ' goes'} on without this command: "
            f"`glowplug app logs -f {app_id}` shows what they print, `glowplug app stop {app_id}` ends them",
        )
        run.session = None
        session.reply(request, run.usage.to_wire())
        self._core.loop.call_soon(self._end_if_done, run)

    def client_lost(self, session: ClientSession) -> None:
        """A client is gone: its runs end, except detached ones."""
        for run in list(self.live.values()):
            if run.session is session:
                run.session = None
                if run.detach:
                    self._core.loop.call_soon(self._end_if_done, run)
                else:
                    self.close(run.app_id, "its client is gone")
            run.stop_waiters = [waiter for waiter in run.stop_waiters if waiter[0] is not session]

    def close_all(self, reason: str) -> None:
        for run in list(self.live.values()):
            self.close(run.app_id, reason)
        self._core.outbox.flush()

    async def wait_until_gone(self, timeout_s: float) -> None:
        """Until nothing of what is ending is left, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                for run in list(self.live.values()):
                    await run.gone.wait()
        except TimeoutError:
            pass

    def container_gone(self, app_id: str) -> None:
        """``app_id``: whose it was."""
        if app_id in self.live:
            self._journal.run_used(app_id, self.live[app_id].usage.to_wire())
            for reader in self.live[app_id].log_readers:
                reader.wake()
        for run in list(self.live.values()):
            if run.stopping:
                self._forget_if_gone(run)

    def _on_call_done(self, app_id: str) -> None:
        run = self.live.get(app_id)
        if run is not None and run.detach:
            self._core.loop.call_soon(self._end_if_done, run)

    def _end_if_done(self, run: RunRecord) -> None:
        """A detached run whose client has left ends with its last call."""
        if run.session is not None or run.stopping or run.app_id not in self.live:
            return
        if not self.calls.open_inputs(run.app_id):
            self.close(run.app_id, "its client has left and its calls are done")
            self._core.outbox.flush()

    def _forget_if_gone(self, run: RunRecord) -> None:
        if run.app_id in self._core.state.apps or self.live.pop(run.app_id, None) is None:
            return
        usage = run.usage.to_wire()
        self._journal.run_ended(run.app_id, self._core.now(), run.stopping, usage)
        self.calls.forget_app(run.app_id)
        for session, request in run.stop_waiters:
            session.tell_dropped(run.app_id)
            session.reply(request, usage)
        self._ended_usage.add(run.usage)
        run.logs = collections.deque(run.logs, maxlen=ENDED_LOG_LINES_KEPT)
        run.gone.set()
        for reader in run.log_readers:
            reader.wake()
        self.ended[run.app_id] = run
        if len(self.ended) > ENDED_RUNS_KEPT:
            del self.ended[next(iter(self.ended))]
        if not self.live and self._on_quiet is not None:
            self._on_quiet()

    # what they have used

    def _record_attempt(self, command: c.RecordAttempt) -> None:
        run = self.live.get(command.app_id)
        if run is None:
            return
        usage = run.usage
        usage.attempts += 1
        usage.cost_usd += command.cost_usd
        if command.outcome in ("crashed", "interrupted"):
            usage.rerun += 1
        if command.gpu_count:
            used_s = command.run_s * command.gpu_count
            usage.gpu_seconds[command.gpu_type] = usage.gpu_seconds.get(command.gpu_type, 0.0) + used_s

    def total_usage(self) -> Usage:
        """What this server's runs have used, ended ones included."""
        total = Usage()
        for usage in (self._ended_usage, *(run.usage for run in self.live.values())):
            total.add(usage)
        return total

    def images_in_use(self) -> ImagesInUse:
        """What the functions of live runs need to start containers."""
        definitions = [each.definition for run in self.live.values() for each in run.functions.values()]
        images = [definition["image"] for definition in definitions if definition.get("image")]
        return ImagesInUse(
            frozenset(image.get("image_id", "") for image in images),
            frozenset(mount["tree"] for image in images for mount in image.get("mounts", ())),
        )

    # what they are told

    def write_lines(
        self, function: FunctionSpec, container_id: str, input_id: str, stream: str, lines: Sequence[str]
    ) -> None:
        """What a container printed, to the run's client and to whoever reads its log."""
        run = self.live.get(function.app_id)
        if run is None:
            return
        at = self._core.now()
        name = function.name
        written = [LogLine(name, input_id, container_id, stream, text, at) for text in lines]
        run.logs.extend(written)
        if self.keep_lines is not None:
            self.keep_lines(run.app_id, written)
        for reader in run.log_readers:
            reader.write(written)
        if run.session is not None:
            run.session.tell_lines(
                run.app_id, [[name, input_id, container_id, stream, text, at] for text in lines]
            )

    def notice(self, app_id: str, level: str, text: str) -> None:
        run = self.live.get(app_id)
        if run is not None:
            run.notices.append((level, text))
            if run.session is not None:
                run.session.notice(app_id, level, text)

    def warn(self, text: str) -> None:
        """Tell every run, or the next one when none is live."""
        for app_id in self.live:
            self.notice(app_id, "warning", text)
        if not self.live and text not in self._untold:
            self._untold.append(text)
        self._core.outbox.flush()

    def _notify(self, command: c.Notify) -> None:
        self.notice(command.app_id, command.level, command.text)

    def _tell_waiting(self) -> None:
        self._waiting_tick = None
        at = self._core.now()
        for run in self.live.values():
            for function_id, spec in run.functions.items():
                waits = self._stands_still(function_id, at)
                reason = why_waiting(self._core.state, function_id, at) if waits else None
                text = reason.text if reason is not None else ""
                if text != run.waiting_told.get(function_id, ""):
                    run.waiting_told[function_id] = text
                    if run.session is not None:
                        run.session.waiting(run.app_id, spec.name, text or None)
        if self.live:
            self._waiting_tick = self._core.loop.call_later(WAITING_TICK_S, self._tell_waiting)
        self._core.outbox.flush()

    def _stands_still(self, function_id: str, at: float) -> bool:
        """Inputs wait and none of the function runs: its caller sees nothing happen."""
        function = self._core.state.functions.get(function_id)
        if function is None or function.leased:
            return False
        waiting = list(itertools.islice(function.fresh, 1)) + [input for _, input in function.returned[:1]]
        return any(at - input.accepted_at >= WAITING_TICK_S for input in waiting)
