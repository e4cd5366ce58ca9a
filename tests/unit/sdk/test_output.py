"""What a run shows outside the command line."""

from __future__ import annotations

import logging

import glowplug
from glowplug.client.session import LogLine
from unit.sdk.fake_client import FakeClient

app = glowplug.App("output")


@app.function()
def f():
    pass


def shown(client):
    sink = client.sinks[-1]
    sink.on_log(LogLine("f", "in-1", "ct-1", "stdout", "out", 0.0))
    sink.on_log(LogLine("f", "in-1", "ct-1", "stderr", "err\n", 0.0))
    sink.on_waiting("f", "1 of 1 T4 is busy")
    sink.on_waiting("f", None)
    sink.on_notice("info", "detail")
    sink.on_notice("warning", "A10G runs on RTX-4090")


def test_silence_keeps_warnings(capfd, caplog):
    client = FakeClient(app)
    with app.run(client=client), caplog.at_level(logging.WARNING):
        shown(client)
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == ["A10G runs on RTX-4090"]


def test_enable_output_shows_everything(capfd):
    client = FakeClient(app)
    with glowplug.enable_output(), app.run(client=client):
        shown(client)
    out, err = capfd.readouterr()
    assert out == "out\n"
    assert err == "err\nf waits: 1 of 1 T4 is busy\ndetail\nA10G runs on RTX-4090\n"


def test_show_progress_of_2023_decides_for_one_run(capfd):
    client = FakeClient(app)
    with app.run(show_progress=True, client=client):
        shown(client)
    with glowplug.enable_output(), app.run(show_progress=False, client=client):
        shown(client)
    assert capfd.readouterr().out == "out\n"
