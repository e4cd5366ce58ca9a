"""What a person sees of builds: lines on a pipe, a status line on a terminal, nothing for what was built."""

from __future__ import annotations

import pytest

import glowplug
from glowplug.cli.builds import BuildLines
from glowplug.cli.output import RunOutput
from glowplug.client.session import BuildEvent
from glowplug.sdk.output import PlainSink, QuietSink

CACHED = [
    BuildEvent("f", "step", 1, 2, "debian_slim()", cached=True),
    BuildEvent("f", "step", 2, 2, 'pip_install("a")', cached=True),
    BuildEvent("f", "built", cached=True),
]
BUILT = [
    BuildEvent("", "upload", 0, 20 << 20),
    BuildEvent("", "upload", 20 << 20, 20 << 20),
    BuildEvent("f", "step", 1, 2, "debian_slim()", cached=True),
    BuildEvent("f", "step", 2, 2, 'pip_install("a")'),
    BuildEvent("f", "line", text="Resolved 1 package"),
    BuildEvent("f", "built", seconds=1.25),
]
LINES = [
    "sending 20 MiB of local files",
    'image of f: step 2 of 2: pip_install("a")',
    "image of f | Resolved 1 package",
    "image of f: built in 1.2 s",
]


def show(sink, events):
    for event in events:
        sink.on_build(event)


@pytest.mark.parametrize("sink", [PlainSink, QuietSink, RunOutput])
def test_what_was_built_before_is_not_mentioned(sink, capsys):
    show(sink(), CACHED)
    assert capsys.readouterr() == ("", "")


def test_lines_where_no_line_can_be_drawn_anew(capsys):
    show(PlainSink(), BUILT)
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in LINES))
    show(RunOutput(), BUILT)
    said, ours = capsys.readouterr()
    assert said == ""
    assert ours.splitlines() == [line if " | " in line else f"glowplug: {line}" for line in LINES], (
        "stdout belongs to functions"
    )


@pytest.mark.parametrize("sink", [QuietSink(), RunOutput(quiet=True)])
def test_quiet(sink, capsys):
    show(sink, BUILT)
    assert capsys.readouterr() == ("", "")


def test_small_uploads_are_over_before_they_can_be_read(capsys):
    show(PlainSink(), [BuildEvent("", "upload", 0, 1 << 20)])
    assert capsys.readouterr() == ("", "")


def test_the_status_line_says_what_each_image_is_at(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("glowplug.cli.builds.time.monotonic", lambda: now[0])
    shown = BuildLines(terminal=True)
    assert shown.status() == ""
    assert shown.lines(BuildEvent("", "upload", 4 << 20, 20 << 20)) == []
    assert shown.status() == "sending local files: 4 of 20 MiB"
    shown.lines(BuildEvent("", "upload", 20 << 20, 20 << 20))
    for name in ("f", "g", "h"):
        shown.lines(BuildEvent(name, "step", 1, 3, "a()"))
    now[0] = 107.4
    assert shown.status() == "image of f: step 1/3 a() (7 s) · image of g: step 1/3 a() (7 s) · and 1 more"
    assert shown.lines(BuildEvent("g", "line", text="x")) == ["\x1b[2mimage of g | x\x1b[0m"]
    shown.lines(BuildEvent("f", "built"))
    shown.lines(BuildEvent("g", "failed", text="x"))
    assert shown.status() == "image of h: step 1/3 a() (7 s)"


def test_a_terminal_has_one_status_line(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    output = RunOutput()
    show(output, BUILT[2:4])
    output.close()
    ours = capsys.readouterr().err
    assert 'glowplug: image of f: step 2 of 2: pip_install("a")\n' in ours
    assert 'image of f: step 2/2 pip_install("a") (0 s)' in ours
    assert ours.endswith("\r\x1b[2K"), "nothing is left of it"


def test_within_enable_output_builds_are_shown():
    with glowplug.enable_output():
        from glowplug.sdk.running import sink_of_process

        assert isinstance(sink_of_process(), PlainSink)
    assert isinstance(sink_of_process(), QuietSink)
