"""Apps, runs and calls as the sdk uses them: what was sent, what came back, what is still owed."""

from glowplug.client.session.call import ITEM_CREDIT, Call
from glowplug.client.session.connected import RECONNECT_LIMIT, Client
from glowplug.client.session.run import Run
from glowplug.client.session.values import AppSpec, BuildEvent, LogLine, LogSink, Output, RunSummary

__all__ = [
    "ITEM_CREDIT",
    "RECONNECT_LIMIT",
    "AppSpec",
    "BuildEvent",
    "Call",
    "Client",
    "LogLine",
    "LogSink",
    "Output",
    "Run",
    "RunSummary",
]
