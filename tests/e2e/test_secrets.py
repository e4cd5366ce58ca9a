"""Stored secrets with real servers: given to containers, changed, refused, and found nowhere they should not
be."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys

import pytest

from e2e.conftest import SOURCE, Sink, run_cli, stop_server, value_of
from e2e.processes import until
from glowplug.client.session import Client, Run
from glowplug.client.settings import read_settings

CANARY = "canary-4f1d9b"

SCRIPT = """
import os
import modal

app = modal.App("keeps-secrets", secrets=[modal.Secret.from_dict({"GIVEN": "given-canary-4f1d9b"})])
stored = modal.Secret.from_name("token", required_keys=["KEY"])

@app.function(secrets=[stored])
def read():
    return os.environ["KEY"], os.environ["GIVEN"]

@app.function(secrets=[stored])
def fail():
    raise ValueError("told without it")

@app.local_entrypoint()
def main():
    key, given = read.remote()
    print(key[::-1], given[::-1])
    try:
        fail.remote()
    except ValueError as error:
        print(error)
"""

AT_IMPORT = """
import os
import modal

app = modal.App("reads-at-import")
{read}

@app.function(secrets=[modal.Secret.from_name("token")])
def reads():
    return KEY, os.environ["KEY"], os.getppid() != 0

@app.function()
def has_none():
    return os.environ.get("KEY"), KEY

@app.local_entrypoint()
def main():
    print(*reads.remote()[:2])
"""


def create(env, directory, *keyvalues, value="", force=False):
    """As a user who keeps it off the command line."""
    made = subprocess.run(
        [sys.executable, "-m", "glowplug.cli.main", "secret", "create", "token", *keyvalues]
        + ["--force"] * force,
        env=env,
        cwd=directory,
        input=value,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    return made


def places_of(text, directory):
    return [
        str(path)
        for path in directory.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and text.encode() in path.read_bytes()
    ]


def test_a_value_is_in_the_container_and_nowhere_else(cli, server_env, tmp_path):
    made = create(server_env, tmp_path, "KEY=-", value=CANARY + "\n")
    (tmp_path / "keeps.py").write_text(SCRIPT)
    said = [made.stdout, made.stderr]
    for command in (
        ("run", "keeps.py"),
        ("secret", "list"),
        ("secret", "list", "--json"),
        ("secret", "create", "token", "KEY=other"),
        ("plan", "keeps.py"),
        ("plan", "keeps.py", "--json"),
        ("app", "list", "--all", "--json"),
        ("app", "logs", "keeps-secrets"),
        ("server", "status", "--json"),
        ("server", "logs"),
    ):
        done = cli(*command)
        said += [done.stdout, done.stderr]
        if command == ("run", "keeps.py"):
            assert done.stdout == f"{CANARY[::-1]} {('given-' + CANARY)[::-1]}\ntold without it\n", (
                done.stderr
            )
    assert CANARY not in "".join(said)
    assert not places_of(CANARY, tmp_path)
    for pid in server_processes(server_env):
        for name in ("environ", "cmdline"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                assert CANARY.encode() not in file.read(), (pid, name)


def server_processes(env):
    """Of the server and of what it has started: zygotes, and containers that are kept warm."""
    pid = json.loads(run_cli(["server", "status", "--json"], env).stdout)["pid"]
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        try:
            for thread in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{thread}/children") as file:
                    waiting += [int(child) for child in file.read().split()]
        except OSError:
            continue
    assert len(found) > 1
    return found


def test_a_detached_run_is_taken_up_with_its_secrets_which_the_journal_seals(
    start_app, gate, server_env, tmp_path
):
    begun, go = gate("begun"), gate("go")
    source = (
        "import os\n"
        "def f(x):\n"
        "    open('/gate/begun', 'w').close()\n"
        "    open('/gate/go').close()\n"
        "    return os.environ['KEY'][::-1]\n"
    )
    app = start_app(source, detach=True, f={"definition": {"secrets": [{"variables": {"KEY": CANARY}}]}})
    made = app.spawn("f", 1)
    begun.read_bytes()
    assert until(lambda: (tmp_path / "home" / "journal.sqlite3").exists())
    assert not places_of(CANARY, tmp_path)
    app.client.close()
    pidfd = os.pidfd_open(app.client.server_pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], 60.0)[0]
    os.close(pidfd)
    assert run_cli(["server", "start"], server_env).returncode == 0
    begun.read_bytes()  # by the container of the server after it
    client = Client.connect()
    seen = client.attach_call(made.call_id, Run(client, "", None, {}, Sink()))
    go.write_bytes(b"")
    assert value_of(seen.next(60.0)) == CANARY[::-1]
    client.close()
    stop_server(read_settings(server_env))
    assert not places_of(CANARY, tmp_path)


@pytest.mark.parametrize(
    "read",
    ['KEY = os.environ["KEY"]', 'KEY = os.environ.get("KEY", "absent")', 'KEY = dict(os.environ).get("KEY")'],
)
def test_a_module_that_reads_it_at_import_sees_it_and_its_change(cli, server_env, tmp_path, read):
    (tmp_path / "reads.py").write_text(AT_IMPORT.format(read=read))
    variables = {"KEY": "here"} if "[" in read else {}
    create(server_env, tmp_path, "KEY=first")
    done = cli("run", "reads.py", **variables)
    assert done.stdout == "first first\n", done.stderr
    create(server_env, tmp_path, "KEY=second", force=True)
    assert cli("run", "reads.py", **variables).stdout == "second second\n"


def test_another_function_of_the_module_does_not_see_it(cli, server_env, tmp_path):
    source = AT_IMPORT.format(read='KEY = os.environ.get("KEY", "absent")')
    (tmp_path / "reads.py").write_text(source + "    print(*has_none.remote())\n")
    create(server_env, tmp_path, "KEY=first")
    assert cli("run", "reads.py").stdout == "first first\nNone absent\n"


def test_what_is_missing_is_told_before_anything_runs(cli, server_env, tmp_path):
    (tmp_path / "keeps.py").write_text(SCRIPT)
    absent = cli("run", "keeps.py")
    assert absent.returncode == 1
    assert "function read uses the secret 'token', and there is none. Store it: " in absent.stderr
    assert "`glowplug secret create token KEY=…`" in absent.stderr
    create(server_env, tmp_path, "OTHER=1")
    lacking = cli("run", "keeps.py")
    assert lacking.returncode == 1
    assert "function read requires KEY of the secret 'token', which has OTHER." in lacking.stderr
    assert cli("plan", "keeps.py").returncode == 0
    (tmp_path / "home" / "secrets" / "token.secret").write_bytes(b"")
    damaged = cli("run", "keeps.py")
    assert "function read cannot be started: the secret 'token' is damaged on disk" in damaged.stderr
    assert cli("app", "list", "--all").stdout.startswith("no app runs")


def test_commands_refuse_what_they_cannot_read(cli, server_env, tmp_path):
    (tmp_path / "bad.env").write_text(f"{CANARY}\n")
    (tmp_path / "bad.json").write_text('{"KEY": 3}')
    (tmp_path / "broken.json").write_text(f'{{"KEY": "{CANARY}}}')
    for arguments, said in (
        ((), "one of these"),
        ((CANARY,), "argument 1 is not KEY=VALUE"),
        (("A=1", "A=2"), "A is given twice"),
        (("A=-", "B=-"), "only one value can be read from standard input"),
        (("--from-dotenv", "bad.env"), "line 1: expected NAME=value"),
        (("--from-json", "bad.json"), "the value of KEY is int, not a string"),
        (("--from-json", "broken.json"), "in line 1"),
        (("A-B=1",), "'A-B' is not a name"),
    ):
        refused = cli("secret", "create", "token", *arguments)
        assert refused.returncode == 1, arguments
        assert said in refused.stderr
        assert CANARY not in refused.stderr
    assert cli("secret", "list").stdout.startswith("no secret is stored")
    (tmp_path / "good.json").write_text('{"KEY": "1"}')
    (tmp_path / "good.env").write_text("OTHER=2\n")
    assert cli("secret", "create", "token", "--from-json", "good.json").returncode == 0
    assert cli("secret", "update", "token", "--from-dotenv", "good.env").stdout == (
        "stored the secret token: KEY, OTHER\n"
    )
    assert "add --yes" in cli("secret", "delete", "token").stderr
    assert cli("secret", "delete", "token", "-y").stdout == "deleted the secret token\n"
    gone = cli("secret", "delete", "token", "-y")
    assert (gone.returncode, "there is no secret 'token'" in gone.stderr) == (1, True)
    assert cli("secret", "delete", "token", "-y", "--allow-missing").returncode == 0


def test_files_of_earlier_versions_are_taken_over_with_a_notice(cli, server_env, tmp_path):
    directory = tmp_path / "home" / "secrets"
    directory.mkdir(parents=True)
    (directory / "token.env").write_text(f"KEY={CANARY}\n")
    (tmp_path / "keeps.py").write_text(SCRIPT)
    done = cli("run", "keeps.py")
    assert done.stdout.startswith(CANARY[::-1]), done.stderr
    assert "the secret 'token' is stored encrypted now" in done.stderr
    assert not places_of(CANARY, tmp_path)


def test_scripts_create_list_change_and_delete_them(server_env, tmp_path):
    script = """
import glowplug

Secret = glowplug.Secret
Secret.objects.create("token", {"KEY": "1"})
Secret.objects.create("token", {"KEY": "2"}, allow_existing=True)
secret = Secret.from_name("token")
secret.update({"OTHER": "2"})
print(*(each.name for each in Secret.objects.list()), *secret.info().keys, secret.info().last_used_at)
Secret.objects.delete("token")
Secret.objects.delete("token", allow_missing=True)
try:
    Secret.lookup("token")
except glowplug.exception.NotFoundError as error:
    print(error)
"""
    env = {**server_env, "PYTHONPATH": SOURCE}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[0] == "token KEY OTHER None", done.stderr
    assert done.stdout.splitlines()[1].startswith("there is no secret 'token'")
