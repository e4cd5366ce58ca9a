"""Ray-trace a few toys: each band of the picture is one input, on whichever cards are free.

glowplug run render_toy_story.py --width 640 --height 360 --out toys.png
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import glowplug
from devices import arrays

app = glowplug.App("render-toy-story")

# centre, radius, colour, how much it mirrors
TOYS = [
    ((-1.3, 0.8, 4.2), 0.8, (0.90, 0.15, 0.15), 0.25),
    ((0.5, 1.1, 5.2), 1.1, (0.95, 0.75, 0.10), 0.10),
    ((1.6, 0.5, 3.4), 0.5, (0.15, 0.35, 0.90), 0.35),
    ((-0.1, 0.35, 3.0), 0.35, (0.20, 0.75, 0.35), 0.05),
]
EYE = (0.0, 1.4, -1.5)
SUN = (-0.5, 0.75, -0.43)
BOUNCES = 2
BAND = 12
"""Rows of one input: enough to fill a card, few enough to share the picture out."""


@app.function(gpu="any")
def render_toy_story(first_row: int, width: int, height: int) -> bytes:
    """A band of the picture, three bytes a pixel."""
    np = arrays()
    rows = np.arange(first_row, min(first_row + BAND, height))
    x = (np.tile(np.arange(width), len(rows)) + 0.5 - width / 2) / height
    y = (height / 2 - np.repeat(rows, width) - 0.5) / height
    directions = np.stack([x, y - 0.12, np.full(x.shape, 0.9)], axis=1)
    directions = directions / np.sqrt((directions**2).sum(axis=1))[:, None]
    colours = trace(np, np.zeros_like(directions) + np.asarray(EYE), directions, BOUNCES)
    return (np.clip(colours, 0, 1) ** 0.45 * 255).astype("uint8").tobytes()


def trace(np: Any, origins: Any, directions: Any, bounces: int) -> Any:
    """The colour each ray sees."""
    distances, normals, colours, mirrors = nearest(np, origins, directions)
    height = directions[:, 1:2]
    sky = np.asarray((0.35, 0.55, 0.95)) * np.clip(height, 0, 1) + np.asarray((0.75, 0.80, 0.90)) * (
        1 - height
    )
    hit = np.isfinite(distances)[:, None]
    points = origins + np.where(hit, distances[:, None], 0) * directions + normals * 1e-4
    sun = np.zeros_like(points) + np.asarray(SUN)
    in_shade = np.isfinite(nearest(np, points, sun)[0])
    light = 0.25 + 0.75 * np.where(in_shade, 0, np.clip((normals * sun).sum(axis=1), 0, 1))
    seen = colours * light[:, None]
    if bounces:
        mirrored = directions - 2 * (directions * normals).sum(axis=1)[:, None] * normals
        reflection = trace(np, points, mirrored, bounces - 1)
        seen = seen * (1 - mirrors[:, None]) + reflection * mirrors[:, None]
    return np.where(hit, seen, sky)


def nearest(np: Any, origins: Any, directions: Any) -> tuple[Any, Any, Any, Any]:
    """What each ray meets first: how far, and there the normal, the colour and how much it mirrors."""
    # The floor is a chessboard at height 0.
    down = directions[:, 1]
    floor = np.where(down < -1e-6, -origins[:, 1] / np.minimum(down, -1e-6), np.inf)
    floor = np.where((floor > 1e-3) & (floor < 60), floor, np.inf)
    points = origins + np.where(np.isfinite(floor), floor, 0)[:, None] * directions
    dark = (np.floor(points[:, 0]) + np.floor(points[:, 2])) % 2
    distances = floor
    normals = np.zeros_like(origins) + np.asarray((0.0, 1.0, 0.0))
    colours = np.where(dark[:, None] > 0, np.asarray((0.35, 0.25, 0.20)), np.asarray((0.85, 0.80, 0.70)))
    mirrors = np.full(len(origins), 0.08)
    for centre, radius, colour, mirror in TOYS:
        between = origins - np.asarray(centre)
        half = (between * directions).sum(axis=1)
        inside = half**2 - ((between**2).sum(axis=1) - radius**2)
        distance = -half - np.sqrt(np.maximum(inside, 0))
        closer = (inside > 0) & (distance > 1e-3) & (distance < distances)
        distances = np.where(closer, distance, distances)
        surface = (between + np.where(closer, distance, 0)[:, None] * directions) / radius
        normals = np.where(closer[:, None], surface, normals)
        colours = np.where(closer[:, None], np.asarray(colour), colours)
        mirrors = np.where(closer, mirror, mirrors)
    return distances, normals, colours, mirrors


def png(pixels: bytes, width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = [pixels[start : start + 3 * width] for start in range(0, len(pixels), 3 * width)]
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@app.local_entrypoint()
def main(width: int = 320, height: int = 180, out: str = "toy_story.png"):
    bands = render_toy_story.map(range(0, height, BAND), kwargs={"width": width, "height": height})
    picture = png(b"".join(bands), width, height)
    with open(out, "wb") as file:
        file.write(picture)
    print(f"{out}: {width} × {height} pixels, {len(picture):,} bytes")
