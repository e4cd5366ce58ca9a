"""Asking a server for images and sending it files, against a small server of these tests."""

from __future__ import annotations

import hashlib
import http.server
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glowplug.client.blobs import upload_missing
from glowplug.client.images import ImageRequest, build_images
from glowplug.client.session import BuildEvent
from glowplug.client.settings import Settings
from glowplug.model.errors import ConnectionError, ImageBuildError, InvalidError
from glowplug.model.image_spec import BuildStep, ImageSpec

Answer = Callable[[Any, dict[str, Any]], None]


class FakeServer(socketserver.ThreadingUnixStreamServer):
    """Keeps blobs and answers builds by ``build(say, spec)``."""

    daemon_threads = True

    def __init__(self, settings: Settings) -> None:
        settings.runtime_directory.mkdir(parents=True, exist_ok=True)
        super().__init__(str(settings.socket_path), Handler)
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.build: Any = lambda say, body: say({"event": "built", "image_id": "im-1", "cached": True})


class Handler(http.server.BaseHTTPRequestHandler):
    server: FakeServer

    def do_POST(self) -> None:
        if self.path == "/v1/blobs":
            self._take_bundle(self.rfile.read(int(self.headers["content-length"])))
            return
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(self.path)
        if self.path == "/v1/blobs/missing":
            self._answer(
                200, {"missing": [each for each in body["digests"] if each not in self.server.blobs]}
            )
            return
        self.send_response(200)
        self.end_headers()

        def say(event: dict[str, Any]) -> None:
            self.wfile.write(json.dumps(event).encode() + b"\n")
            self.wfile.flush()

        self.server.build(say, body)

    def do_PUT(self) -> None:
        digest = self.path.rpartition("/")[2]
        content = self.rfile.read(int(self.headers["content-length"]))
        if hashlib.sha256(content).hexdigest() != digest:
            self._answer(400, {"error": "InvalidError", "message": "the content has another digest"})
            return
        self.server.blobs[digest] = content
        self._answer(200, {})

    def _take_bundle(self, bundle: bytes) -> None:
        while bundle:
            digest, size = bundle[:32].hex(), int.from_bytes(bundle[32:40], "big")
            self.server.blobs[digest], bundle = bundle[40 : 40 + size], bundle[40 + size :]
            assert hashlib.sha256(self.server.blobs[digest]).hexdigest() == digest
        self._answer(200, {})

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class Events:
    def __init__(self) -> None:
        self.all: list[BuildEvent] = []

    def on_build(self, event: BuildEvent) -> None:
        self.all.append(event)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", runtime_directory=tmp_path / "run", config={})


@pytest.fixture
def server(settings: Settings) -> Iterator[FakeServer]:
    with FakeServer(settings) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def wanted(text: str, places: dict[str, str] | None = None) -> ImageRequest:
    return ImageRequest(ImageSpec((BuildStep("run", {"commands": [text]}),)), text, places or {})


def test_a_build_is_told_as_it_goes(server, settings):
    def build(say, body):
        assert body["name"] == "make"
        assert ImageSpec.from_wire(body["spec"]) == wanted("make").spec
        say({"event": "step", "number": 1, "count": 2, "text": "debian_slim()", "cached": True})
        say({"event": "step", "number": 2, "count": 2, "text": "run", "cached": False, "later": 1})
        say({"event": "line", "text": "made"})
        say({"event": "something new"})
        say({"event": "built", "image_id": "im-9", "cached": False, "seconds": 1.5})

    server.build, events = build, Events()
    assert build_images([wanted("make")], events, settings) == ["im-9"]
    assert events.all == [
        BuildEvent("make", "step", 1, 2, "debian_slim()", cached=True),
        BuildEvent("make", "step", 2, 2, "run"),
        BuildEvent("make", "line", text="made"),
        BuildEvent("make", "built", seconds=1.5),
    ]
    assert server.requests == ["/v1/images"], "one round trip where there are no files"


def test_bytes_survive_the_way(server, settings):
    step = BuildStep("run_function", {"serialized": b"\x80\x05\xff", "source": "s", "arguments": b"a"})
    seen = []
    server.build = lambda say, body: (
        seen.append(ImageSpec.from_wire(body["spec"])),
        say({"event": "built", "image_id": "im-1"}),
    )
    build_images([ImageRequest(ImageSpec((step,)), "f")], Events(), settings)
    assert seen == [ImageSpec((step,))]


def test_different_images_are_built_at_once(server, settings):
    together = threading.Barrier(3)

    def build(say, body):
        together.wait(30)
        say({"event": "built", "image_id": "im-" + body["name"]})

    server.build = build
    requests = [wanted(name) for name in ("b", "a", "c")]
    assert build_images(requests, Events(), settings) == ["im-b", "im-a", "im-c"]


def test_the_first_failure_ends_the_wait_for_the_others(server, settings):
    others = threading.Semaphore(0)
    fail = threading.Semaphore(0)

    def build(say, body):
        if body["name"] == "bad":
            fail.acquire()
            say({"event": "failed", "error": "ImageBuildError", "message": "step 2: no such package"})
            return
        fail.release()
        try:
            while True:  # until nobody reads any more
                say({"event": "line", "text": "x" * 1000})
        except OSError:
            others.release()

    server.build, events = build, Events()
    with pytest.raises(ImageBuildError, match="step 2: no such package"):
        build_images([wanted("good"), wanted("bad")], events, settings)
    assert others.acquire(timeout=30)
    assert BuildEvent("bad", "failed", text="step 2: no such package") in events.all


@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_an_interrupted_wait_ends_the_request(server, settings, names):
    gone = threading.Semaphore(0)
    together = threading.Barrier(len(names))

    class Interrupting(Events):
        def on_build(self, event):
            raise KeyboardInterrupt

    def build(say, body):
        together.wait(30)  # a request that was not made yet would not be
        try:
            while True:
                say({"event": "line", "text": "x" * 1000})
        except OSError:
            gone.release()

    server.build = build
    with pytest.raises(KeyboardInterrupt):
        build_images([wanted(name) for name in names], Interrupting(), settings)
    for _ in names:
        assert gone.acquire(timeout=30)


def test_a_server_that_ends_meanwhile(server, settings):
    server.build = lambda say, body: say({"event": "line", "text": "x"})
    with pytest.raises(ConnectionError, match="the server ended while it built the image of make"):
        build_images([wanted("make")], Events(), settings)


def contents(tmp_path: Path, *all_of_them: bytes) -> dict[str, str]:
    places = {}
    for number, content in enumerate(all_of_them):
        path = tmp_path / f"file-{number}"
        path.write_bytes(content)
        places[hashlib.sha256(content).hexdigest()] = str(path)
    return places


def test_only_what_the_server_lacks_is_sent(server, settings, tmp_path):
    large = bytes(range(256)) * 20_000
    places = contents(tmp_path, b"one", b"", large)
    known = hashlib.sha256(b"one").hexdigest()
    server.blobs[known] = b"one"
    told: list[tuple[int, int]] = []
    assert upload_missing(places, lambda done, total: told.append((done, total)), settings) == len(large)
    assert sorted(server.blobs.values()) == sorted([b"one", b"", large])
    assert told[-1] == (len(large), len(large))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert upload_missing(places, None, settings) == 0
    assert upload_missing({}, None, settings) == 0
    assert server.requests == ["/v1/blobs/missing"] * 2


def test_small_files_go_together(server, settings, tmp_path):
    places = contents(tmp_path, *(b"%d" % number for number in range(3000)), b"x" * (300 << 10))
    assert upload_missing(places, None, settings) > 300 << 10
    assert len(server.blobs) == 3001
    assert {hashlib.sha256(content).hexdigest() for content in server.blobs.values()} == set(places)


def test_files_go_before_the_image_that_needs_them(server, settings, tmp_path):
    places = contents(tmp_path, b"source")
    server.build = lambda say, body: say({"event": "built", "image_id": f"im-{len(server.blobs)}"})
    assert build_images([wanted("a", places), wanted("b")], Events(), settings) == ["im-1", "im-1"]


@pytest.mark.parametrize("before", [(b"before",), (b"other", b"before")])
def test_a_file_that_changed_since_is_refused(server, settings, tmp_path, before):
    places = contents(tmp_path, *before)
    path = list(places.values())[-1]
    Path(path).write_bytes(before[-1][::-1])
    with pytest.raises(InvalidError, match=rf"{path} changed while it was sent"):
        upload_missing(places, None, settings)
    Path(path).unlink()
    with pytest.raises(InvalidError, match=rf"{path} cannot be read"):
        upload_missing(places, None, settings)
    assert server.blobs == {}
