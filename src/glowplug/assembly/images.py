"""Images of a local server: which builders there are, and where their things lie under its home."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from glowplug.backends.local.driver import driver_files
from glowplug.client.config import read_config
from glowplug.client.settings import read_settings
from glowplug.images.bytecode import BytecodeCompiler
from glowplug.images.files import ContentFiles
from glowplug.images.oci import OciBuilder
from glowplug.images.oci.builder import OciSettings
from glowplug.images.oci.debian import MIRROR
from glowplug.images.store import ImageStore
from glowplug.images.trees import Trees
from glowplug.images.venv import VenvBuilder
from glowplug.ports.volumes import VolumeViews


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
    home: Path,
    environ: Mapping[str, str],
    secrets: Callable[[str], dict[str, str]],
    volumes: VolumeViews,
    has_cards: bool,
) -> ImageParts:
    """``secrets``: the variables of a stored secret by its name; ``has_cards``: real ones, so that steps with
    ``gpu=`` are shown them and their driver."""
    directory = home / "images"
    files = ContentFiles(home / "blobs-by-content")
    trees = Trees(home / "trees", files)
    compiler = BytecodeCompiler()
    venv = VenvBuilder(directory / "venv", trees.directory, environ, compiler)
    config = read_config(dict(environ)).images
    settings = OciSettings(
        base=environ.get("GLOWPLUG_IMAGE_BASE", "").strip() or config.get("base", "auto"),
        debian_mirror=config.get("debian_mirror", MIRROR),
    )
    volatile = read_settings(dict(environ)).runtime_directory
    root = OciBuilder(
        home, volatile, settings=settings, environ=environ, volumes=volumes,
        driver=driver_files if has_cards else lambda: None,
    )  # fmt: skip
    store = ImageStore(directory, files, trees, venv, root, "", secrets)
    return ImageParts(store, files, compiler)
