"""What a container with a card needs of the node's NVIDIA driver when its root is an image's: libraries that
must fit the kernel's module, programs, and the descriptions by which EGL and Vulkan find them.

They are named by the node's CDI description where there is one, else found in the linker's cache. All of it
is shown in a directory of its own, found through variables: an image has its own idea of where libraries
lie, and nothing of it is covered.
"""

from __future__ import annotations

import functools
import glob
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CDI_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
INSIDE = "/.glowplug/driver"
LINKER_TIMEOUT_S = 10.0
_LIBRARIES = re.compile(
    r"^lib(cuda|cudadebugger|nvcuvid|nvoptix|nvidia-[^/]+|EGL_nvidia|GLX_nvidia|GLESv1_CM_nvidia|GLESv2_nvidia"
    r"|vdpau_nvidia)\.so"
)
_PROGRAMS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")
_DESCRIPTIONS = {
    "glvnd/egl_vendor.d": ("*nvidia*.json",),
    "vulkan/icd.d": ("nvidia*.json",),
    "vulkan/implicit_layer.d": ("nvidia*.json",),
    "egl/egl_external_platform.d": ("*nvidia*.json",),
}
_SHARES = ("/usr/share", "/etc")
_PAIR = re.compile(r"^\s*(?:- )?(hostPath|containerPath):\s*[\"']?([^\"'\s#]+)[\"']?\s*$")


@dataclass(frozen=True)
class DriverFiles:
    binds: tuple[tuple[str, str], ...] = ()
    """(source on the node, path inside)."""

    def variables(self, given: Mapping[str, str]) -> dict[str, str]:
        """What finds them, after what the image itself has. ``given``: the image's variables."""
        if not self.binds:
            return {}
        share = f"{INSIDE}/share"
        vendors = f"{share}/glvnd/egl_vendor.d:/etc/glvnd/egl_vendor.d:/usr/share/glvnd/egl_vendor.d"
        return {
            "LD_LIBRARY_PATH": ":".join(filter(None, [given.get("LD_LIBRARY_PATH"), f"{INSIDE}/lib"])),
            "__EGL_VENDOR_LIBRARY_DIRS": given.get("__EGL_VENDOR_LIBRARY_DIRS") or vendors,
            "__EGL_EXTERNAL_PLATFORM_CONFIG_DIRS": f"{share}/egl/egl_external_platform.d",
            "XDG_DATA_DIRS": f"{given.get('XDG_DATA_DIRS') or '/usr/local/share:/usr/share'}:{share}",
            "PATH": f"{given.get('PATH') or '/usr/local/bin:/usr/bin:/bin'}:{INSIDE}/bin",
        }


@functools.cache
def driver_files() -> DriverFiles:
    """Of this node; found once, as a driver changes with a restart of the machine."""
    described = list(described_by_cdi(CDI_DIRECTORIES))
    return sort_files(described or [*found_by_linker(_linker_cache()), *_programs(), *_descriptions()])


def sort_files(paths: Iterable[str]) -> DriverFiles:
    """Where each file of the driver is shown; a library also under the names that lead to it."""
    binds: dict[str, str] = {}
    for path in paths:
        name = os.path.basename(path)
        if not os.path.isfile(path):
            continue
        if _LIBRARIES.match(name):
            # In the 32-bit directories are files of the same names.
            if "/lib32" in path or "/i386-" in path:
                continue
            real = os.path.realpath(path)
            for each in _names_of(real) | {name}:
                binds.setdefault(f"{INSIDE}/lib/{each}", real)
        elif name.endswith(".json"):
            kind = next((each for each in _DESCRIPTIONS if f"/{each}/" in path), None)
            if kind is not None:
                binds.setdefault(f"{INSIDE}/share/{kind}/{name}", path)
        elif name in _PROGRAMS:
            binds.setdefault(f"{INSIDE}/bin/{name}", path)
    return DriverFiles(tuple((source, path) for path, source in sorted(binds.items())))


def described_by_cdi(directories: Sequence[str]) -> Iterator[str]:
    """Host paths that the descriptions of NVIDIA's cards mount into containers."""
    for directory in directories:
        for path in sorted(glob.glob(f"{directory}/*.json") + glob.glob(f"{directory}/*.y*ml")):
            try:
                text = Path(path).read_text()
            except OSError:
                continue
            if "nvidia.com/gpu" in text:
                yield from _mounts_of_json(text) if path.endswith(".json") else _mounts_of_yaml(text)


def _mounts_of_json(text: str) -> Iterator[str]:
    try:
        description: Any = json.loads(text)
        edits = [description.get("containerEdits") or {}]
        edits += [each.get("containerEdits") or {} for each in description.get("devices") or ()]
        for edit in edits:
            for mount in edit.get("mounts") or ():
                yield mount["hostPath"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return


def _mounts_of_yaml(text: str) -> Iterator[str]:
    """A mount is the two lines that only mounts have, in either order."""
    pair: dict[str, str] = {}
    for line in text.splitlines():
        found = _PAIR.match(line)
        if found is None:
            pair = {}
            continue
        pair[found[1]] = found[2]
        if len(pair) == 2:
            yield pair["hostPath"]
            pair = {}


def found_by_linker(cache: str) -> Iterator[str]:
    """Paths of the driver's libraries in what ``ldconfig -p`` prints."""
    for line in cache.splitlines():
        name, arrow, path = line.strip().partition(" => ")
        if arrow and _LIBRARIES.match(name.split(" ")[0]):
            yield path


def _linker_cache() -> str:
    try:
        return subprocess.run(
            ["/sbin/ldconfig", "-p"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LINKER_TIMEOUT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _names_of(path: str) -> set[str]:
    """A library's own name and those of the links beside it."""
    directory, name = os.path.split(path)
    stem = name.split(".so")[0]
    beside = (each for each in os.listdir(directory) if each.startswith(f"{stem}.so"))
    return {each for each in beside if os.path.realpath(f"{directory}/{each}") == path}


def _programs() -> list[str]:
    return [f"/usr/bin/{name}" for name in _PROGRAMS]


def _descriptions() -> list[str]:
    return [
        path
        for share in _SHARES
        for kind, patterns in _DESCRIPTIONS.items()
        for pattern in patterns
        for path in sorted(glob.glob(f"{share}/{kind}/{pattern}"))
    ]
