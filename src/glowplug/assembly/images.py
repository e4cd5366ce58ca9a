"""Images of a local server: which builders there are, and where their things lie under its home."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from glowplug.client.settings import read_settings
from glowplug.images.bytecode import BytecodeCompiler
from glowplug.images.files import ContentFiles
from glowplug.images.oci import OciBuilder
from glowplug.images.oci.builder import OciSettings
from glowplug.images.store import ImageStore
from glowplug.images.trees import Trees
from glowplug.images.venv import VenvBuilder


@dataclass(frozen=True)
class ImageParts:
    store: ImageStore
    files: ContentFiles
    compiler: BytecodeCompiler

    def close(self) -> None:
        """End what still builds."""
        self.store.close()
        self.compiler.close()


def make_images(
    home: Path, environ: Mapping[str, str], secrets: Callable[[str], dict[str, str]]
) -> ImageParts:
    """``secrets``: the variables of a stored secret by its name."""
    directory = home / "images"
    files = ContentFiles(home / "blobs-by-content")
    trees = Trees(home / "trees", files)
    compiler = BytecodeCompiler()
    venv = VenvBuilder(directory / "venv", trees.directory, environ, compiler)
    settings = OciSettings(base=environ.get("GLOWPLUG_IMAGE_BASE", "").strip() or "auto")
    volatile = read_settings(dict(environ)).runtime_directory
    root = OciBuilder(home, volatile, settings=settings, environ=environ)
    store = ImageStore(directory, files, trees, venv, root, "", secrets)
    return ImageParts(store, files, compiler)
