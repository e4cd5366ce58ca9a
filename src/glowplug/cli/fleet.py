"""The fleet a command shows: as the running server sees it, with who holds what; else as this machine is."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from glowplug.client.http import UnixConnection
from glowplug.client.settings import Settings, read_settings

ANSWER_TIMEOUT_S = 10.0


def load_fleet(settings: Settings | None = None) -> dict[str, Any]:
    """``{"banner": str, "nodes": [Node.to_wire() with "held_by" on every GPU]}``.

    A server that was started with another configuration holds another fleet than this command asks for, so
    then, and when none runs, the inventory is read here and nothing is held.
    """
    settings = settings or read_settings()
    answer = ask_server(settings.socket_path, "/v1/nodes")
    if answer is not None and answer.get("config_digest", settings.config_digest) == settings.config_digest:
        return answer
    return read_inventory(settings)


def ask_server(socket_path: Path, path: str) -> dict[str, Any] | None:
    """The server's JSON answer; None when no server runs there or it does not know ``path``."""
    connection = UnixConnection(socket_path, ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        return json.loads(body) if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def read_inventory(settings: Settings) -> dict[str, Any]:
    from glowplug.assembly.fleet import looked_at

    with looked_at(settings) as inventory:
        nodes = [node.to_wire() for node in inventory.nodes()]
        for node in nodes:
            node["gpus"] = [{**gpu, "held_by": None} for gpu in node["gpus"]]
        return {"banner": inventory.banner(), "nodes": nodes}
