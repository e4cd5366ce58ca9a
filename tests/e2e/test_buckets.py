"""Buckets as directories of real containers: fetched, uploaded, and told of when they cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import AppStarter, Sink
from e2e.processes import until
from glowplug.model import errors
from object_store import KEYS, ObjectStore, object_store

SOURCE = """
import os


def read(_):
    found = {}
    for directory, _, names in os.walk("/b"):
        for name in names:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, "/b")] = open(path).read()
    return found, sorted(name for name in os.environ if name.startswith("AWS"))


def write(given):
    for path, text in given.items():
        if text is None:
            os.remove(f"/b/{path}")
            continue
        os.makedirs(os.path.dirname(f"/b/{path}"), exist_ok=True)
        with open(f"/b/{path}", "w") as file:
            file.write(text)


def write_and_wait(given):
    write(given)
    open("/gate/written", "w").close()
    open("/gate/go").read()


def try_to_write(_):
    try:
        open("/b/new", "w")
    except OSError as error:
        return error.errno
"""


@pytest.fixture(scope="module")
def objects() -> Iterator[ObjectStore]:
    with object_store() as store:
        yield store


@pytest.fixture
def bucket(objects: ObjectStore, tmp_path: Path) -> str:
    """A new bucket with two objects under runs/ and one elsewhere."""
    name = "b-" + "".join(letter for letter in tmp_path.name.lower() if letter.isalnum())[-40:]
    objects.make(name)
    objects.put(name, runs__a=b"1", runs__d__x=b"2", other=b"3")
    return name


def mounted(
    *names: str, bucket: str, url: str, keys: dict[str, str] | None = KEYS, read_only: bool = False
) -> dict[str, Any]:
    """Functions that have runs/ of the bucket at /b."""
    place = {"bucket": bucket, "endpoint_url": url, "prefix": "runs/"}
    volume = {
        "name": f"s3://{bucket}/runs/",
        "mount_path": "/b",
        "kind": "bucket",
        "read_only": read_only,
        "bucket": place,
    }
    secrets = {"/b": [{"variables": keys}]} if keys is not None else {}
    return {name: {"definition": {"volumes": [volume], "bucket_secrets": secrets}} for name in names}


@pytest.mark.parametrize("mode", ["private", "shared"])
def test_objects_are_files_and_files_become_objects(
    start_app: AppStarter, objects: ObjectStore, bucket: str, mode: str, monkeypatch: pytest.MonkeyPatch
):
    if mode == "shared":
        monkeypatch.setenv("GLOWPLUG_VOLUME_VIEWS", "shared")
    sink = Sink()
    app = start_app(SOURCE, sink=sink, **mounted("read", "write", bucket=bucket, url=objects.url))
    assert app.remote("read", 0) == ({"a": "1", "d/x": "2"}, []), "and no keys in the container"
    app.remote("write", {"a": "new", "e/y": "3", "d/x": None})
    app.run.close()
    assert objects.objects(bucket) == {"runs/a": b"new", "runs/e/y": b"3", "other": b"3"}
    objects.put(bucket, runs__a=b"newer")
    app = start_app(SOURCE, sink=sink, **mounted("read", bucket=bucket, url=objects.url))
    assert app.remote("read", 0)[0] == {"a": "newer", "e/y": "3"}
    assert not [text for _, text in sink.notices if "upload" in text]
    home = start_app.directory / "home"
    for path in home.rglob("*"):
        if path.is_file():
            assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in path.read_bytes(), path


def test_a_running_container_uploads_by_itself(
    start_app: AppStarter, objects: ObjectStore, bucket: str, gate: Any
):
    written, go = gate("written"), gate("go")
    app = start_app(SOURCE, **mounted("write_and_wait", bucket=bucket, url=objects.url))
    call = app.spawn("write_and_wait", {"a": "new"})
    written.read_bytes()
    until(lambda: objects.objects(bucket)["runs/a"] == b"new", "the upload in the background")
    go.write_bytes(b"")
    assert call.next().status == "success"


def test_a_mount_to_read_only_is_that(start_app: AppStarter, objects: ObjectStore, bucket: str):
    app = start_app(SOURCE, **mounted("try_to_write", bucket=bucket, url=objects.url, read_only=True))
    assert app.remote("try_to_write", 0) == 30


def test_what_could_not_be_uploaded_is_told_and_sent_later(start_app: AppStarter, gate: Any):
    written, go = gate("written"), gate("go")
    with object_store() as store:
        store.make("lost")
        sink = Sink()
        functions = mounted("write_and_wait", bucket="lost", url=store.url)
        app = start_app(SOURCE, sink=sink, **functions)
        call = app.spawn("write_and_wait", {"a": "kept"})
        written.read_bytes()
        store.delete_bucket("lost")
        go.write_bytes(b"")
        assert call.next().status == "success"
        app.run.close()
        assert any("not uploaded to the bucket s3://lost/runs/ yet: a" in text for _, text in sink.notices)
        store.make("lost")
        app = start_app(SOURCE, **mounted("read", bucket="lost", url=store.url))
        assert app.remote("read", 0)[0] == {"a": "kept"}
        assert store.objects("lost") == {"runs/a": b"kept"}


def test_each_thing_that_can_be_wrong_is_told_before_the_function_runs(
    start_app: AppStarter, objects: ObjectStore, bucket: str
):
    def refused(**changed: Any) -> str:
        app = start_app(SOURCE, **mounted("read", **{"bucket": bucket, "url": objects.url, **changed}))
        with pytest.raises(errors.Error) as caught:
            app.remote("read", 0)
        app.run.close()
        return str(caught.value)

    assert "it has TOKEN" in refused(keys={"TOKEN": "x"})
    assert "Is 'nobodys' the bucket's name" in refused(bucket="nobodys")
    assert "Is the endpoint right" in refused(url="http://127.0.0.1:9")
