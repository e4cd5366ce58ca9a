"""Whether layers are still what they were: what each was like when the first root was made of it.

Roots are made of the files of layers, so what changes one in place changes the layer, and a root made anew of
it would be damaged as well: every image that stands on such a layer is forgotten, and built again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from glowplug.images.disk import read_json, write_json
from glowplug.images.oci.storage import Storage
from glowplug.ports.images import BuildLog


class SeenLayers:
    """``in_room(*arguments)`` runs the export's program and gives what it prints."""

    def __init__(self, storage: Storage, in_room: Callable[..., Any]) -> None:
        self._storage = storage
        self._in_room = in_room
        self._directory = storage.directory / "layers"

    def note(self, layers: Sequence[Path]) -> None:
        """Remember those that were not seen before."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        new = [layer for layer in layers if not self._path(layer).exists()]
        for layer, summary in self._summaries(new).items():
            write_json(self._path(layer), summary)

    def drop_damaged(self, tags: Sequence[str], log: BuildLog) -> list[str]:
        """Forget the images that stand on changed layers of the last of these that is there; their ids."""
        with self._storage.lock("layers"):
            here = self._storage.images()
            stored = next((here[tag] for tag in reversed(tags) if tag in here), None)
            if stored is None:
                return []
            known = {layer: read_json(self._path(layer)) for layer in self._storage.layer_directories(stored)}
            found = self._summaries([layer for layer, summary in known.items() if summary is not None])
            damaged = [layer for layer, summary in found.items() if summary != known[layer]]
            if not damaged:
                return []
            log.line("files of this image were changed on the disk; what stands on them is built anew")
            gone = self._storage.images_with(damaged)
            self._storage.answer("rmi", "--force", *gone)
            for beside in self._directory.iterdir():
                if not self._storage.has_layer(beside.name):
                    beside.unlink()
            return gone

    def _summaries(self, layers: Sequence[Path]) -> dict[Path, Any]:
        found = self._in_room("--check", *map(str, layers)) if layers else {}
        return {layer: found[str(layer)] for layer in layers}

    def _path(self, layer: Path) -> Path:
        return self._directory / self._storage.layer_name(layer)
