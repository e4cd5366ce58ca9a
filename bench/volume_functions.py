"""What ``volume.py`` runs in containers."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import volume as measures

import glowplug

app = glowplug.App("bench-volume")
stored = glowplug.Volume.from_name("bench", create_if_missing=True)


@app.function(volumes={"/v": stored})
def write(large_bytes: int) -> dict[str, float]:
    if not large_bytes:
        return {}
    found = {"write": measures.write_files("/v", large_bytes)}
    began = time.perf_counter()
    stored.commit()
    return {**found, "commit": time.perf_counter() - began}


@app.function(volumes={"/v": stored})
def read() -> dict[str, float]:
    began = time.perf_counter()
    stored.reload()
    found = {"reload": time.perf_counter() - began}
    return {**found, "read": measures.read_files("/v")}


@app.function(volumes={"/v": stored})
def change_one_byte() -> dict[str, Any]:
    stored.reload()
    with open("/v/large", "r+b") as file:
        file.seek(5 << 20)
        byte = file.read(1)[0]
        file.seek(5 << 20)
        file.write(bytes([byte ^ 1]))
    began = time.perf_counter()
    done = stored._stored.commit()
    return {"commit_byte": time.perf_counter() - began, "moved_bytes": done["stored_bytes"]}


@app.function(volumes={"/v": stored})
def clear() -> None:
    stored.reload()
    for path in Path("/v").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    stored.commit()
