"""Images from a script to a container, with real servers, real uv and wheels made by hand."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import SOURCE, run_cli
from e2e.processes import MARK, marked, until
from glowplug.client.http import UnixConnection, request
from glowplug.client.settings import Settings, read_settings
from glowplug.model.errors import ConflictError, ExecutionError, InvalidError, NotFoundError
from glowplug.model.files import FileEntry, FileTree
from wheels import make_wheel, offline

HOME = Path.home()
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = {
    "operation": "base",
    "fields": {"kind": "debian_slim", "python_version": PYTHON},
    "text": "debian_slim()",
}


@pytest.fixture
def env(server_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of commands on a machine whose only packages are alpha and beta, which needs alpha."""
    make_wheel(tmp_path / "wheels", "alpha")
    make_wheel(tmp_path / "wheels", "beta", requires=["alpha"])
    server_env |= offline(tmp_path / "wheels", tmp_path / "uv-cache")
    # The other Pythons of whoever runs the tests.
    server_env["PYENV_ROOT"] = os.environ.get("PYENV_ROOT", str(HOME / ".pyenv"))
    server_env["UV_PYTHON_INSTALL_DIR"] = str(HOME / ".local/share/uv/python")
    for name, value in server_env.items():
        monkeypatch.setenv(name, value)
    return server_env


@pytest.fixture
def settings(env: dict[str, str]) -> Settings:
    """Of a server that runs."""
    request("GET", "/v1/status", start=True)
    return read_settings(env)


def packages(*names: str, **fields: Any) -> dict[str, Any]:
    text = f"pip_install({', '.join(map(repr, names))})"
    return {"operation": "python_packages", "fields": {"packages": names, **fields}, "text": text}


class Asking:
    """A request for an image."""

    def __init__(self, settings: Settings, *steps: dict[str, Any], **spec: Any) -> None:
        self.connection = UnixConnection(settings.socket_path, 60)
        body = json.dumps({"spec": {"steps": [BASE, *steps], **spec}, "name": "toy"})
        self.connection.request("POST", "/v1/images", body)
        self.answer: http.client.HTTPResponse = self.connection.getresponse()

    def events(self) -> Iterator[dict[str, Any]]:
        for line in self.answer:
            yield json.loads(line)
        self.close()

    def end(self) -> dict[str, Any]:
        *_, last = self.events()
        return last

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def put(settings: Settings, content: bytes, digest: str = "") -> dict[str, Any]:
    connection = UnixConnection(settings.socket_path)
    digest = digest or hashlib.sha256(content).hexdigest()
    connection.request("PUT", f"/v1/blobs/{digest}", content)
    try:
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


# a script's image


SCRIPT = """
import os, sys
from pathlib import Path
import modal

here = Path(__file__).parent
image = (
    modal.Image.debian_slim(python_version="{python}")
    .pip_install("beta")
    .env({{"GREETING": "hello"}})
    .workdir("/work")
    .add_local_file(here / "note.txt", "/data/note.txt")
    .add_local_dir(here / "assets", "/root/assets")
)
app = modal.App("toy", image=image)

with image.imports():
    import alpha

@app.function()
def look():
    import beta
    try:
        import msgspec
        found = True
    except ImportError:
        found = False
    Path("/data/new").write_text("private")
    print("|".join([
        alpha.VERSION, beta.VERSION, os.environ["GREETING"], os.getcwd(), Path("/data/note.txt").read_text(),
        ",".join(sorted(os.listdir("/root/assets"))), ",".join(sorted(os.listdir("/data"))), str(found),
        str(modal.is_local()), sys.prefix,
    ]))

@app.local_entrypoint()
def main():
    look.remote()
"""


def test_a_function_runs_in_its_image(env, tmp_path):
    place = tmp_path / "script"
    (place / "assets").mkdir(parents=True)
    (place / "assets" / "a").touch()
    (place / "note.txt").write_text("noted")
    (place / "toy.py").write_text(SCRIPT.format(python=PYTHON))
    for _ in range(2):
        done = run_cli(["run", str(place / "toy.py")], env, place)
        assert done.returncode == 0, done.stderr
        *found, prefix = done.stdout.strip().split("|")
        assert found == ["1.0", "1.0", "hello", "/work", "noted", "a", "new,note.txt", "False", "False"]
        assert prefix.startswith(env["GLOWPLUG_HOME"])
    assert not (place / "new").exists()
    assert not Path("/data").exists()


def test_another_python_than_the_servers(env, tmp_path):
    found = [run_cli(["image", "list", "--json"], env).stdout]  # has the server up
    others = [f"3.{minor}" for minor in (9, 10, 12, 13) if f"3.{minor}" != PYTHON]
    for version in others:
        step = {"operation": "base", "fields": {"kind": "debian_slim", "python_version": version}}
        if _end_of(read_settings(env), step)["event"] == "built":
            break
    else:
        pytest.skip(f"no other Python than {PYTHON} here")
    assert json.loads(found[0]) == []
    script = tmp_path / "toy.py"
    script.write_text(
        "import modal, sys\n"
        f"image = modal.Image.debian_slim(python_version='{version}').pip_install('alpha')\n"
        "app = modal.App('toy', image=image)\n"
        "@app.function()\ndef f(x):\n    import alpha\n    print('%d.%d' % sys.version_info[:2], x)\n"
        "@app.local_entrypoint()\ndef main():\n    f.remote({'a': (1, 2)})\n"
    )
    done = run_cli(["run", str(script)], env)
    assert done.stdout.strip() == f"{version} {{'a': (1, 2)}}", done.stderr


def _end_of(settings: Settings, base: dict[str, Any]) -> dict[str, Any]:
    connection = UnixConnection(settings.socket_path)
    connection.request("POST", "/v1/images", json.dumps({"spec": {"steps": [base]}}))
    try:
        return json.loads(connection.getresponse().read().splitlines()[-1])
    finally:
        connection.close()


def test_an_import_that_the_image_lacks_is_raised_when_the_function_loads(env, tmp_path):
    script = tmp_path / "toy.py"
    script.write_text(
        "import modal\nimage = modal.Image.debian_slim()\napp = modal.App('toy', image=image)\n"
        "with image.imports():\n    import nowhere_to_be_found\n"
        "@app.function()\ndef f(): pass\n"
        "@app.local_entrypoint()\ndef main():\n    f.remote()\n"
    )
    done = run_cli(["run", str(script)], env)
    assert done.returncode == 1
    assert "No module named 'nowhere_to_be_found'" in done.stderr


def test_a_module_that_cannot_be_forked_runs_in_its_image_all_the_same(env, tmp_path):
    script = tmp_path / "toy.py"
    script.write_text(
        "import modal, threading, time\nimage = modal.Image.debian_slim().pip_install('alpha')\n"
        "app = modal.App('toy', image=image)\n"
        "with image.imports():\n    import alpha\n"
        "if not modal.is_local():\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True, name='lingers').start()\n"
        "@app.function()\ndef f():\n    print(alpha.VERSION)\n"
        "@app.local_entrypoint()\ndef main():\n    f.remote()\n"
    )
    done = run_cli(["run", str(script)], env)
    assert done.stdout.strip() == "1.0", done.stderr
    assert "leaves the thread 'lingers' running" in done.stderr


# builds


def test_ten_processes_ask_at_once_and_one_image_is_built(env, settings):
    code = (
        "import json, sys\nfrom e2e.test_images import Asking, packages\n"
        "from glowplug.client.settings import read_settings\n"
        "sys.stdin.readline()\n"
        "print(json.dumps(list(Asking(read_settings(), packages('beta')).events())))\n"
    )
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**env, "PYTHONPATH": f"{SOURCE}:{Path(__file__).parents[1]}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(10)
    ]
    for process in asking:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    heard = [json.loads(process.communicate(timeout=60)[0]) for process in asking]
    assert {events[-1]["event"] for events in heard} == {"built"}
    assert len({events[-1]["image_id"] for events in heard}) == 1
    layers = Path(env["GLOWPLUG_HOME"], "images", "venv", "layers")
    assert len([path for path in layers.iterdir() if path.is_dir()]) == 2  # the base and beta's, once each


def test_what_is_built_is_known_at_once_also_to_the_next_server(env, settings):
    first = Asking(settings, packages("alpha")).end()
    assert first["cached"] is False
    (only,) = Asking(settings, packages("alpha")).events()
    assert only["cached"] is True
    run_cli(["server", "stop"], env)
    request("GET", "/v1/status", start=True)
    again = Asking(settings, packages("alpha")).end()
    assert (again["cached"], again["image_id"]) == (True, first["image_id"])


def test_a_package_that_does_not_exist(env, settings):
    end = Asking(settings, packages("alpha"), packages("gamma")).end()
    assert (end["event"], end.get("error")) == ("failed", "ImageBuildError"), end
    assert end["message"].startswith("step 3 of 3, pip_install('gamma'), failed: there is no package 'gamma'")
    assert request("GET", "/v1/images")["images"] == []


@contextlib.contextmanager
def silent_index() -> Iterator[str]:
    """The address of a package index that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/simple"


@pytest.fixture
def stuck(env, tmp_path) -> Iterator[Callable[[Settings], Asking]]:
    """Asks for an image whose build does not come to an end, and returns when uv is at it."""
    with silent_index() as index:
        env.pop("UV_NO_INDEX")
        os.environ.pop("UV_NO_INDEX")
        asked: list[Asking] = []

        def ask(settings: Settings) -> Asking:
            asking = Asking(settings, packages("gamma", index_url=index))
            asked.append(asking)
            events = asking.events()
            assert [next(events)["number"] for _ in range(2)] == [1, 2]
            return asking

        yield ask
        for each in asked:
            each.close()


def uv_processes(mark: str) -> list[str]:
    return [command for command in marked(mark).values() if "/uv " in command and "install" in command]


def test_a_build_ends_when_the_last_who_waits_is_gone(env, stuck, monkeypatch):
    monkeypatch.setenv(MARK, "stuck-build")
    request("GET", "/v1/status", start=True)
    settings = read_settings(env)
    asking = [stuck(settings), stuck(settings)]
    until(lambda: len(uv_processes("stuck-build")) == 1, "the one build")
    asking[0].close()
    assert uv_processes("stuck-build")
    asking[1].close()
    until(lambda: not uv_processes("stuck-build"), "the end of uv")
    layers = Path(env["GLOWPLUG_HOME"], "images", "venv", "layers")
    until(lambda: len([path for path in layers.iterdir() if path.is_dir()]) == 1, "the base alone")


def test_a_server_that_ends_ends_its_builds(env, stuck, monkeypatch):
    monkeypatch.setenv(MARK, "ended-build")
    request("GET", "/v1/status", start=True)
    stuck(read_settings(env))
    until(lambda: uv_processes("ended-build"), "the build")
    assert run_cli(["server", "stop", "--force"], env).returncode == 0
    until(lambda: not uv_processes("ended-build"), "the end of uv")


def test_what_a_killed_server_was_building_is_removed_by_the_next(env, stuck, monkeypatch):
    monkeypatch.setenv(MARK, "killed-build")
    status = request("GET", "/v1/status", start=True)
    stuck(read_settings(env))
    until(lambda: uv_processes("killed-build"), "the build")
    os.kill(status["pid"], 9)
    for pid, command in marked("killed-build").items():
        if "/uv " in command:
            os.kill(pid, 9)
    layers = Path(env["GLOWPLUG_HOME"], "images", "venv", "layers")
    assert len(list(layers.glob("*-*"))) > 1
    request("GET", "/v1/status", start=True)
    until(lambda: len(list(layers.glob("*-*"))) == 1, "only the base")


# files


def test_files_are_taken_in_once_and_checked(settings):
    content = os.urandom(3 << 20)
    digest = hashlib.sha256(content).hexdigest()
    assert request("POST", "/v1/blobs/missing", {"digests": [digest]}) == {"missing": [digest]}
    assert put(settings, content) == {"digest": digest, "size": len(content)}
    assert request("POST", "/v1/blobs/missing", {"digests": [digest]}) == {"missing": []}
    wrong = put(settings, b"other", hashlib.sha256(b"wrong").hexdigest())
    assert wrong["error"] == "InvalidError"
    assert "send it again" in wrong["message"]
    with pytest.raises(InvalidError, match="is not a SHA-256"):
        request("POST", "/v1/blobs/missing", {"digests": ["../../etc/passwd"]})
    assert put(settings, b"", "..%2F..%2Fx")["error"] in ("InvalidError", "NotFoundError")


@pytest.mark.parametrize("path", ["../out", "/etc/cron.d/x"])
def test_trees_that_leave_their_place_are_refused(settings, path):
    tree = FileTree((FileEntry(path, hashlib.sha256(b"").hexdigest()),))
    put(settings, b"")
    end = Asking(settings, trees={tree.digest: tree.to_wire()}).end()
    assert (end["event"], end["error"]) == ("failed", "InvalidError")
    assert "cannot be the path of a file in a tree" in end["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"spec": 1}',
        b'{"spec": {"steps": [{"operation": "dig"}]}}',
        b'{"spec": {}, "name": 3}',
    ],
)
def test_what_is_no_definition_is_refused(settings, body):
    connection = UnixConnection(settings.socket_path)
    connection.request("POST", "/v1/images", body)
    answer = connection.getresponse()
    assert answer.status == 400
    assert json.loads(answer.read())["error"] == "InvalidError"
    connection.close()


# the command


def test_the_command_lists_explains_and_forgets(env, settings):
    Asking(settings, packages("alpha")).end()
    image_id = Asking(settings, packages("alpha"), packages("beta")).end()["image_id"]
    listed = json.loads(run_cli(["image", "list", "--json"], env).stdout)
    assert [each["image_id"] for each in listed][:1] == [image_id]
    assert listed[0]["size_bytes"] > 0
    story = run_cli(["image", "why", image_id], env).stdout
    assert "2. pip_install('alpha')  [was there]" in story
    assert "3. pip_install('beta')  [built]" in story
    assert "then it has (nothing more) and this one pip_install('beta')" in story
    assert "every file is as it was built" in story
    assert run_cli(["image", "prune"], env).stdout.startswith("0 images forgotten")
    assert run_cli(["image", "prune", "--all"], env).stdout.startswith("2 images forgotten")
    assert "no images were built here" in run_cli(["image", "list"], env).stdout
    layers = Path(env["GLOWPLUG_HOME"], "images", "venv", "layers")
    assert list(layers.iterdir()) == []
    with pytest.raises(NotFoundError, match=f"there is no image '{image_id}' here"):
        request("DELETE", f"/v1/images/{image_id}")


def test_damage_is_found_by_the_command_and_mended_by_the_next_run(env, settings):
    image_id = Asking(settings, packages("alpha")).end()["image_id"]
    (module,) = Path(env["GLOWPLUG_HOME"]).glob("images/venv/layers/*/lib/*/site-packages/alpha/__init__.py")
    stat = module.stat()
    module.write_text(module.read_text().replace("1.0", "6.6"))
    os.utime(module, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # nothing but its content tells
    assert "alpha: alpha/__init__.py" in run_cli(["image", "why", image_id], env).stdout
    module.write_text("")
    assert Asking(settings, packages("alpha")).end()["cached"] is False
    assert "every file is as it was built" in run_cli(["image", "why", image_id], env).stdout


def test_damage_that_only_an_import_notices_is_mended_by_the_next_run(env, settings, start_app):
    image_id = Asking(settings, packages("alpha")).end()["image_id"]
    (module,) = Path(env["GLOWPLUG_HOME"]).glob("images/venv/layers/*/lib/*/site-packages/alpha/__init__.py")
    until((module.parents[4] / ".compiled").exists, "the bytecode")
    shutil.rmtree(module.parent / "__pycache__")
    stat = module.stat()
    module.write_text("!" * stat.st_size)
    os.utime(module, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert Asking(settings, packages("alpha")).end()["cached"] is True
    definition = {"image": {"image_id": image_id, "mounts": []}}
    app = start_app("import alpha\ndef f():\n    return alpha.VERSION\n", f={"definition": definition})
    with pytest.raises(ExecutionError, match="SyntaxError"):
        app.remote("f")
    until(lambda: not Asking(settings, packages("alpha")).end()["cached"], "the new build")
    again = start_app("import alpha\ndef f():\n    return alpha.VERSION\n", f={"definition": definition})
    assert again.remote("f") == "1.0"


def test_an_image_of_a_running_app_stays(env, settings, start_app):
    image_id = Asking(settings, packages("alpha")).end()["image_id"]
    definition = {"image": {"image_id": image_id, "mounts": []}}
    app = start_app("def f():\n    import alpha\n    return alpha.VERSION\n", f={"definition": definition})
    assert app.remote("f") == "1.0"
    assert run_cli(["image", "prune", "--all"], env).stdout.startswith("0 images forgotten")
    with pytest.raises(ConflictError, match="is in use"):
        request("DELETE", f"/v1/images/{image_id}")
    assert app.remote("f") == "1.0"


def test_an_image_that_is_gone_is_said(settings, start_app):
    definition = {"image": {"image_id": "im-0123456789abcdef", "mounts": []}}
    with pytest.raises(NotFoundError, match="image im-0123456789abcdef is not on this machine any more"):
        start_app("def f(): pass\n", f={"definition": definition})
