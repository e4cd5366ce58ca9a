"""Images of an app, asked of the server: all different ones at once, told about as they go.

A build goes on at the server for as long as somebody waits for it; ending the request ends the wait.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from glowplug.client.blobs import upload_missing
from glowplug.client.http import LineStream
from glowplug.client.session import BuildEvent
from glowplug.client.settings import Settings
from glowplug.model import errors
from glowplug.model.image_spec import ImageSpec

MAX_PARALLEL = 16
"""Images asked for at a time."""


@dataclass(frozen=True)
class ImageRequest:
    """One image to have, and where the contents of its files are."""

    spec: ImageSpec
    name: str
    """How messages call it: the functions it is for."""
    places: dict[str, str] = field(default_factory=dict[str, str])


class BuildSink(Protocol):
    """Where events of builds go. Called on the thread of the build; must not block."""

    def on_build(self, event: BuildEvent) -> None: ...


def build_images(
    requests: Sequence[ImageRequest], sink: BuildSink, settings: Settings | None = None
) -> list[str]:
    """The ids of these images, built if they were not, in the order asked.

    Raises ``ImageBuildError`` with the server's text, or what else it refuses; the other builds are then no
    longer waited for, nor are they when the caller is interrupted.
    """
    if not requests:
        return []
    places = {digest: path for each in requests for digest, path in each.places.items()}
    upload_missing(places, lambda done, total: sink.on_build(BuildEvent("", "upload", done, total)), settings)
    if len(requests) == 1:
        return [_Build(requests[0], sink, settings).wait()]
    builds = [_Build(each, sink, settings) for each in requests]
    ended: queue.Queue[_Build] = queue.Queue()
    free = threading.BoundedSemaphore(MAX_PARALLEL)
    for build in builds:
        threading.Thread(target=build.run, args=(ended, free), daemon=True).start()
    try:
        for _ in builds:
            build = ended.get()
            if build.error is not None:
                raise build.error
    except BaseException:
        for build in builds:
            build.stream.close()
        raise
    return [build.image_id for build in builds]


class _Build:
    def __init__(self, request: ImageRequest, sink: BuildSink, settings: Settings | None) -> None:
        self._name = request.name
        self._sink = sink
        self.stream = LineStream(
            "POST", "/v1/images", {"spec": request.spec.to_wire(), "name": request.name}, settings
        )
        self.image_id = ""
        self.error: BaseException | None = None

    def run(self, ended: queue.Queue[_Build], free: threading.Semaphore) -> None:
        try:
            with free:
                self.image_id = self.wait()
        except BaseException as error:
            self.error = error
        ended.put(self)

    def wait(self) -> str:
        try:
            for line in self.stream:
                image_id = self._tell(line)
                if image_id:
                    return image_id
        finally:
            self.stream.close()
        raise errors.ConnectionError(
            f"the server ended while it built the image of {self._name}. `glowplug server logs` may say why; "
            "run it again: what was built of it is kept."
        )

    def _tell(self, line: dict[str, Any]) -> str:
        kind = line.get("event", "")
        if kind == "failed":
            message = line.get("message", "")
            self._sink.on_build(BuildEvent(self._name, "failed", text=message))
            raise errors.error_class(line.get("error", "ImageBuildError"))(message)
        if kind == "step":
            step = BuildEvent(
                self._name,
                kind,
                line["number"],
                line["count"],
                line.get("text", ""),
                line.get("cached", False),
            )
            self._sink.on_build(step)
        elif kind == "line":
            self._sink.on_build(BuildEvent(self._name, kind, text=line.get("text", "")))
        elif kind == "built":
            cached, seconds = bool(line.get("cached")), float(line.get("seconds", 0.0))
            self._sink.on_build(BuildEvent(self._name, kind, cached=cached, seconds=seconds))
            return line["image_id"]
        return ""  # a kind that later servers may add
