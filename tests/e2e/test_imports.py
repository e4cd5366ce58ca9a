"""What a module does as it is imported: asked as in its container, and never left behind in a process."""

from __future__ import annotations

from pathlib import Path

UNFORKABLE = """\
import fcntl
import threading

import modal

app = modal.App("unforkable")
if not modal.is_local():
    held = open(__file__)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as a card: nobody else may hold it now
    threading.Thread(target=threading.Event().wait, daemon=True).start()


@app.function()
def f() -> str:
    return "ran"


@app.local_entrypoint()
def main():
    for _ in range(2):
        print(f.remote())
"""

ASKING = """\
import os

import modal

app = modal.App("asking")
seen_at_import = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("NCCL_DEBUG"), modal.is_local()


@app.function(env={"NCCL_DEBUG": "INFO"})
def f():
    return seen_at_import, (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["NCCL_DEBUG"], modal.is_local())


@app.local_entrypoint()
def main():
    before, now = f.remote()
    assert before == now == ("", "WARN", False), (before, now)
"""


def test_a_module_that_cannot_be_forked_holds_nothing_and_is_told_once(cli, tmp_path: Path):
    script = tmp_path / "unforkable.py"
    script.write_text(UNFORKABLE)
    done = cli("run", str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ran\nran\n"
    notices = [line for line in done.stderr.splitlines() if "cannot be kept warm" in line]
    assert len(notices) == 1
    assert f"{script}:10" in notices[0]


def test_a_second_run_knows_that_a_module_cannot_be_forked(cli, tmp_path: Path):
    script = tmp_path / "unforkable.py"
    script.write_text(UNFORKABLE)
    assert cli("run", str(script)).returncode == 0
    done = cli("run", str(script))
    assert (done.returncode, done.stdout) == (0, "ran\nran\n"), done.stderr


def test_settings_of_the_node_hold_while_a_module_is_imported(cli, tmp_path: Path):
    script = tmp_path / "asking.py"
    script.write_text(ASKING)
    done = cli("run", str(script), NCCL_DEBUG="WARN")
    assert done.returncode == 0, done.stderr
