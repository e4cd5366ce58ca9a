"""Apps with images, from the script to the container. Nothing here needs a package index."""

from __future__ import annotations

import json
from pathlib import Path

from e2e.processes import until

SCRIPT = """
import sys
import modal

image = (
    modal.Image.debian_slim()
    .env({"WHO": "image"})
    .add_local_dir("assets", "/assets", ignore=["*.tmp"])
    .add_local_python_source("beside")
)
app = modal.App("pictures", image=image)


@app.function()
def both():
    import os

    import beside

    found = sorted(os.listdir("/assets"))
    there = os.path.isfile("/root/beside.py")
    return [os.environ["WHO"], found, open("/assets/a.txt").read(), there, beside.__name__]


@app.function(image=modal.Image.debian_slim().env({"WHO": "other"}))
def other():
    import os

    return [os.environ["WHO"], os.path.exists("/assets")]


@app.local_entrypoint()
def main():
    import json

    print(json.dumps([both.remote(), other.remote()]))
"""

OLD_SCRIPT = """
import modal

stub = modal.Stub("old", mounts=[modal.Mount.from_local_file("one.txt", "/data/one.txt")])


@stub.function(mounts=[modal.Mount.from_local_dir("assets", remote_path="/data/assets")])
def f():
    import os

    return sorted(os.listdir("/data")), sorted(os.listdir("/data/assets"))


@stub.local_entrypoint()
def main():
    print(f.remote())
"""


def make(directory: Path, script: str) -> str:
    (directory / "assets").mkdir()
    (directory / "assets" / "a.txt").write_text("a")
    (directory / "assets" / "b.tmp").write_text("b")
    (directory / "one.txt").write_text("1")
    (directory / "beside.py").write_text("")
    (directory / "s.py").write_text(script)
    return "s.py"


def test_images_files_and_variables_reach_the_container(cli, tmp_path):
    script = make(tmp_path, SCRIPT)
    first = cli("run", script)
    assert first.returncode == 0, first.stderr
    both, other = json.loads(first.stdout)
    assert both == ["image", ["a.txt"], "a", True, "beside"]
    assert other == ["other", False]
    assert ": step 1 of " in first.stderr, "of one of them: they have it in common"
    again = cli("run", script)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "image of" not in again.stderr, "what was built is not mentioned"
    (tmp_path / "assets" / "a.txt").write_text("changed")
    changed = cli("run", script)
    assert json.loads(changed.stdout)[0][2] == "changed"
    assert "image of" not in changed.stderr, "files that are laid over build nothing"


def test_mounts_of_old_scripts(cli, tmp_path):
    ended = cli("run", make(tmp_path, OLD_SCRIPT))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "(['assets', 'one.txt'], ['a.txt', 'b.tmp'])\n"


def test_what_fails_is_said_once_and_starts_nothing(cli, tmp_path):
    script = make(tmp_path, SCRIPT.replace('"assets", "/assets"', '"nowhere", "/assets"'))
    ended = cli("run", script)
    assert ended.returncode == 1
    assert f"Image.add_local_dir: there is no directory nowhere ({tmp_path}/nowhere)" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert json.loads(cli("app", "list", "--json").stdout) == []


def test_image_build_returns_when_it_is_built(cli, tmp_path):
    (tmp_path / "s.py").write_text(
        "import modal\n"
        "if __name__ == '__main__':\n"
        "    image = modal.Image.debian_slim().env({'A': 'B'})\n"
        "    assert image.build() is image\n"
        "app = modal.App('x')\n"
    )
    ended = cli("run", "s.py")
    assert ended.returncode == 0, ended.stderr
    listed = json.loads(until(lambda: cli("image", "list", "--json").stdout))
    assert len(listed) == 1


def test_a_file_that_was_damaged_on_the_server_is_sent_again_by_the_next_run(cli, server_env, tmp_path):
    script = make(tmp_path, SCRIPT)
    whole = cli("run", script)
    assert whole.returncode == 0, whole.stderr
    home = Path(server_env["GLOWPLUG_HOME"])
    (made,) = home.glob("trees/**/a.txt")
    blobs = home.glob("blobs-by-content/??/*")
    for path in (made, *(each for each in blobs if each.read_bytes() == b"a")):
        path.chmod(0o644)
        path.write_text("z")
    ended = cli("run", script)  # the same server, whose zygotes show the damaged directory
    assert (ended.returncode, ended.stdout) == (0, whole.stdout), ended.stderr
