"""What apps printed can be read after their end, and after that of their server."""

from __future__ import annotations

import json

SCRIPT = """
import modal

app = modal.App("printer")

@app.function()
def speak(number):
    print("line", number)

@app.function()
def other():
    print("of another function")

@app.local_entrypoint()
def main():
    for number in range(3):
        speak.remote(number)
    other.remote()
"""


def test_lines_outlive_their_server(cli, tmp_path):
    (tmp_path / "printer.py").write_text(SCRIPT)
    assert cli("run", "-q", "printer.py").returncode == 0
    expected = "line 0\nline 1\nline 2\nof another function\n"
    assert cli("app", "logs", "printer").stdout == expected
    (row,) = json.loads(cli("app", "list", "--all", "--json").stdout)
    assert cli("server", "stop").returncode == 0
    assert cli("server", "start").returncode == 0
    assert cli("app", "logs", "printer").stdout == expected
    assert cli("app", "logs", row["app_id"], "-n", "2").stdout == "line 2\nof another function\n"
    assert cli("app", "logs", "-f", "printer", "--function", "other").stdout == "of another function\n"
    missing = cli("app", "logs", "printers")
    assert (missing.returncode, "no app 'printers' runs here" in missing.stderr) == (1, True)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "home" / "logs").iterdir()] == [0o600]
