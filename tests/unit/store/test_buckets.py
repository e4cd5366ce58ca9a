"""Buckets against a store in memory that can be made to fail: what is fetched, what is sent, what is kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from glowplug.model import errors
from glowplug.ports.volumes import BUCKET, BucketPlace, View, VolumeUse
from glowplug.store.buckets.bucket import usable
from glowplug.store.buckets.buckets import Buckets
from glowplug.store.buckets.remote import RemoteObject, S3Remote
from glowplug.store.volumes.views import Views
from glowplug.store.volumes.volumes import Volumes

PLACE = BucketPlace("b", prefix="p/")
USE = VolumeUse("s3://b/p/", "/b", kind=BUCKET, bucket=PLACE)


class Fake:
    """A bucket in memory. ``fetched`` and ``sent`` say what moved; ``refuses`` makes every upload fail."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.fetched: list[str] = []
        self.sent: list[str] = []
        self.deleted: list[str] = []
        self.refuses = False
        self.versions = 0

    def __call__(self, place: BucketPlace, credentials: Mapping[str, str] | None) -> Fake:
        return self

    def put(self, key: str, content: bytes) -> None:
        self.versions += 1
        self.objects[key] = content, self.versions

    def list(self) -> list[RemoteObject]:
        return [
            RemoteObject(key, str(version), len(content)) for key, (content, version) in self.objects.items()
        ]

    def fetch(self, key: str, path: str) -> None:
        self.fetched.append(key)
        if key not in self.objects:
            raise FileNotFoundError(key)
        Path(path).write_bytes(self.objects[key][0])

    def upload(self, key: str, path: str) -> RemoteObject:
        if self.refuses:
            raise errors.ExecutionError("no way there.")
        self.put(key, Path(path).read_bytes())
        self.sent.append(key)
        return next(each for each in self.list() if each.key == key)

    def delete(self, key: str) -> None:
        if self.refuses:
            raise errors.ExecutionError("no way there.")
        self.objects.pop(key, None)
        self.deleted.append(key)


@pytest.fixture
def fake() -> Fake:
    fake = Fake()
    fake.put("p/a", b"1")
    fake.put("p/d/x", b"22")
    return fake


@pytest.fixture
def views(fake: Fake, tmp_path: Path) -> Views:
    return make_views(fake, tmp_path)


def make_views(fake: Fake, home: Path, limit_bytes: int = 1 << 20) -> Views:
    return Views(Volumes(home), Buckets(home, connect=fake, limit_bytes=limit_bytes))


def seen(view: View) -> dict[str, bytes]:
    root = Path(view.source)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_second_container_fetches_only_what_changed(views: Views, fake: Fake):
    (view,) = views.open("c1", [USE], True)
    assert seen(view) == {"a": b"1", "d/x": b"22"}
    assert views.close("c1") == []
    fake.fetched.clear()
    fake.put("p/a", b"one")
    fake.put("p/empty", b"")
    del fake.objects["p/d/x"]
    (view,) = views.open("c2", [USE], True)
    assert fake.fetched == ["p/a"]
    assert seen(view) == {"a": b"one", "empty": b""}
    assert views.close("c2") == []
    assert (fake.sent, fake.deleted) == ([], []), "nothing was written"


def test_a_commit_sends_what_was_written_and_a_new_home_sees_it(views: Views, fake: Fake, tmp_path: Path):
    (view,) = views.open("c", [USE], True)
    Path(view.upper, "new").write_bytes(b"333")
    views.commit("c")
    assert fake.sent == ["p/new"]
    views.commit("c", background=True)
    assert views.close("c") == []
    assert fake.sent == ["p/new"], "once"
    (view,) = make_views(fake, tmp_path / "other").open("c", [USE], True)
    assert seen(view)["new"] == b"333"


def test_a_failed_upload_is_told_once_in_the_background_kept_and_sent_by_the_next_server(
    views: Views, fake: Fake, tmp_path: Path
):
    (view,) = views.open("c", [USE], True)
    Path(view.upper, "a").write_bytes(b"mine")
    fake.refuses = True
    with pytest.raises(errors.ExecutionError, match=r"not uploaded to the bucket s3://b/p/ yet: a\. no way"):
        views.commit("c", background=True)
    views.commit("c", background=True)
    (told,) = views.close("c")
    assert "not uploaded" in told
    assert fake.objects["p/a"][0] == b"1"
    fake.refuses = False
    (view,) = make_views(fake, tmp_path).open("c2", [USE], True)
    assert fake.objects["p/a"][0] == b"mine"
    assert seen(view)["a"] == b"mine"


def test_what_is_still_to_be_sent_is_not_replaced_by_what_is_there(views: Views, fake: Fake):
    (view,) = views.open("c", [USE], True)
    Path(view.upper, "a").write_bytes(b"mine")
    fake.refuses = True
    assert views.close("c")
    fake.put("p/a", b"theirs")
    (view,) = views.open("c2", [USE], True)
    assert seen(view)["a"] == b"mine"
    fake.refuses = False
    assert views.close("c2") == []
    assert fake.objects["p/a"][0] == b"mine"


def test_what_a_container_of_a_killed_server_wrote_is_sent(views: Views, fake: Fake, tmp_path: Path):
    (view,) = views.open("c", [USE], True)
    Path(view.upper, "left").write_bytes(b"here")
    make_views(fake, tmp_path).open("c2", [USE], True)
    assert fake.objects["p/left"][0] == b"here"


def test_a_copy_that_was_lost_deletes_nothing_in_the_bucket(views: Views, fake: Fake, tmp_path: Path):
    views.open("c", [USE], True)
    views.close("c")
    (head,) = tmp_path.glob("buckets/*/HEAD")
    head.unlink()
    with pytest.raises(errors.DataLossError, match=f"Remove {head.parent} to have it fetched again"):
        make_views(fake, tmp_path).open("c2", [USE], True)
    assert fake.deleted == []
    shutil.rmtree(head.parent)
    (view,) = make_views(fake, tmp_path).open("c2", [USE], True)
    assert fake.deleted == []
    assert seen(view) == {"a": b"1", "d/x": b"22"}


def test_a_mount_to_read_only_sends_nothing(views: Views, fake: Fake):
    read_only = VolumeUse("s3://b/p/", "/b", read_only=True, kind=BUCKET, bucket=PLACE)
    (view,) = views.open("c", [read_only], True)
    assert (view.upper, seen(view)["a"]) == ("", b"1")
    views.commit("c")
    assert views.close("c") == []
    assert fake.sent == []


def test_more_than_the_limit_is_refused_with_what_to_do(fake: Fake, tmp_path: Path):
    views = make_views(fake, tmp_path, limit_bytes=2)
    with pytest.raises(errors.ResourceExhaustedError, match=r"give key_prefix=, a narrower one than 'p/'"):
        views.open("c", [USE], True)
    assert fake.fetched == []
    assert views.close("c") == []


def test_links_are_told_of(views: Views):
    (view,) = views.open("c", [USE], True)
    Path(view.upper, "link").symlink_to("a")
    (told,) = views.close("c")
    assert "cannot hold links, and was not sent link" in told


def test_keys_that_no_file_can_have_are_left_alone():
    keys = ["p/a", "p/a/b", "p/", "p/d/", "p//x", "p/../y", "p/" + "n" * 300, "p/ok"]
    assert sorted(usable(PLACE, [RemoteObject(key, "1", 1) for key in keys])) == ["a/b", "ok"]


def test_a_secret_without_keys_is_told_without_values():
    pytest.importorskip("s3fs")
    with pytest.raises(errors.AuthError, match=r"AWS_ACCESS_KEY_ID and .* it has TOKEN") as caught:
        S3Remote(PLACE, {"TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(errors.NotFoundError, match=r"pip install 'glowplug\[s3\]'"):
        S3Remote(PLACE, None)
