"""Whether an environment is still what was built: by size and time of its files, or by their content.

The first is looked at whenever it is asked for: for all files, or the telling ones where there are very many.
The second reads everything, against the digests that each package came with.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILES_LOOKED_AT = 5_000
"""With more, only the largest and those that say what is installed are looked at: a look stays quick."""
LARGEST = 500
COMPILED = "__pycache__"


@dataclass(frozen=True)
class Manifest:
    """Size and time of files by their path in the environment, and how much all of it is."""

    files: dict[str, tuple[int, int]]
    total_bytes: int
    count: int

    def to_wire(self) -> dict[str, Any]:
        return {
            "files": {path: list(found) for path, found in self.files.items()},
            "total_bytes": self.total_bytes,
            "count": self.count,
        }

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Manifest:
        files = {path: (size, at) for path, (size, at) in wire["files"].items()}
        return cls(files, wire["total_bytes"], wire["count"])


def take_manifest(directory: Path) -> Manifest:
    found: dict[str, tuple[int, int]] = {}
    start = len(str(directory)) + 1
    for parent, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if name != COMPILED]
        for name in names:
            path = os.path.join(parent, name)
            stat = os.lstat(path)
            found[path[start:]] = (stat.st_size, stat.st_mtime_ns)
    total = sum(size for size, _ in found.values())
    count = len(found)
    if count > FILES_LOOKED_AT:
        by_size = sorted(found, key=lambda path: -found[path][0])
        kept = set(by_size[:LARGEST]) | {path for path in found if _is_telling(path)}
        found = {path: found[path] for path in sorted(kept)}
    return Manifest(found, total, count)


def changed(directory: Path, manifest: Manifest) -> str:
    """The first file that is not as it was; empty when all are."""
    for path, (size, at) in manifest.files.items():
        try:
            stat = os.lstat(directory / path)
        except OSError:
            return path
        if stat.st_size != size or stat.st_mtime_ns != at:
            return path
    return ""


def damaged(site_packages: Path) -> dict[str, list[str]]:
    """Files whose content is not what their package came with, by package. Reads everything."""
    found: dict[str, list[str]] = {}
    for record in sorted(site_packages.glob("*.dist-info/RECORD")):
        package = record.parent.name.split("-")[0].replace("_", "-")
        try:
            rows = list(csv.reader(record.read_text(encoding="utf-8").splitlines()))
        except (OSError, ValueError, csv.Error):
            found.setdefault(package, []).append(f"{record.parent.name}/RECORD")
            continue
        for row in rows:
            if len(row) >= 2 and row[1] and not _is_as_recorded(site_packages / row[0], row[1]):
                found.setdefault(package, []).append(row[0])
    return found


def _is_as_recorded(path: Path, recorded: str) -> bool:
    name, _, expected = recorded.partition("=")
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, name).digest()
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == expected.rstrip("=")


def _is_telling(path: str) -> bool:
    parts = path.split("/")
    if ".dist-info" in path:
        return parts[-1] in ("RECORD", "METADATA")
    for packages in ("site-packages", "dist-packages"):
        if packages in parts:  # at whatever depth: roots have theirs deeper than environments
            return parts[-1] == "__init__.py" and len(parts) - parts.index(packages) <= 4
    return parts[0] == "bin" or len(parts) < 2
