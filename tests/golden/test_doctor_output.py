"""What ``glowplug doctor`` prints."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from glowplug.backends.local import doctor as local
from glowplug.backends.local.doctor import Check
from glowplug.cli.doctor import doctor

FINE = [Check("python", "ok", "Python 3.11.7"), Check("shared memory", "ok", "/dev/shm has 23.5 GiB free")]
WARNED = Check("uv", "warn", "not found", "pip install uv")
FAILED = Check("driver", "fail", "its library does not fit", "sudo reboot")


@pytest.fixture
def run(monkeypatch):
    def run(found, *arguments):
        monkeypatch.setattr(local, "checks", lambda home, **given: found)
        result = CliRunner().invoke(doctor, arguments)
        return result.exit_code, click.unstyle(result.output)

    return run


@pytest.mark.parametrize(
    ("name", "found", "code"),
    [
        ("fine", FINE, 0),
        ("warned", [*FINE, WARNED], 0),
        ("failed", [*FINE, WARNED, FAILED], 1),
    ],
)
def test_report(run, golden, name, found, code):
    exit_code, output = run(found)
    assert exit_code == code
    golden(f"cli/doctor_{name}.txt", output)


def test_json(run):
    code, output = run([*FINE, FAILED], "--json")
    assert code == 1
    assert json.loads(output)[2] == {
        "name": "driver",
        "status": "fail",
        "what": "its library does not fit",
        "fix": "sudo reboot",
    }
