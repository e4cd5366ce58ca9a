"""Events of apps."""

from __future__ import annotations

from glowplug.core.commands import Command
from glowplug.core.events import AppStarted, AppStopped
from glowplug.core.lifecycles import RUNNING
from glowplug.core.state import App, Function, State
from glowplug.core.steps.containers import forget_app_if_over, stop
from glowplug.core.steps.inputs import finish, record, take_from_container
from glowplug.core.steps.scaling import stop_waiting


def app_started(state: State, event: AppStarted, out: list[Command]) -> None:
    """Functions already known are left as they are: a client that reconnects says it again."""
    app = state.apps.get(event.app_id)
    if app is None:
        app = state.apps[event.app_id] = App(event.app_id, event.name)
    for spec in event.functions:
        if spec.id not in state.functions:
            state.counted_functions += 1
            function = Function(spec, app, state.counted_functions)
            app.functions[spec.id] = state.functions[spec.id] = function
            state.dirty[spec.id] = function


def app_stopped(state: State, event: AppStopped, out: list[Command]) -> None:
    app = state.apps.get(event.app_id)
    if app is None or app.stopping:
        return
    app.stopping = event.reason or "stopped"
    for function in app.functions.values():
        for container in list(function.containers.values()):
            for input in [*container.running.values(), *container.ahead]:
                begun = input.status == RUNNING
                take_from_container(input)
                if begun:
                    record(input, container, event.at - input.started_at, "cancelled", out)
            stop(
                state,
                container,
                state.limits.app_stop_grace_s,
                f"app {app.name} stopped: {app.stopping}",
                out,
            )
        function.fresh.clear()
        function.returned.clear()
        function.delayed = 0
        stop_waiting(state, function)
    message = f"app {app.name} was stopped: {app.stopping}"
    for call in [call for call in state.calls.values() if call.function.app is app]:
        for input in list(call.inputs.values()):
            finish(state, input, "error", out, "InputCancellation", message)
    forget_app_if_over(state, app)
