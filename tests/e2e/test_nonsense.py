"""Whatever is said to a server's socket, it serves on: nonsense costs the connection that said it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from glowplug.client.launch import connect, dial_server
from glowplug.client.settings import read_settings
from glowplug.wire import messages
from glowplug.wire.codec import frame

ROUNDS = 50


def nonsense(chance: random.Random, known: list[str], depth: int = 0) -> Any:
    kind = chance.randrange(9 if depth < 3 else 6)
    if kind == 6:
        return {chance.choice(["name", "functions", "a"]): nonsense(chance, known, depth + 1)}
    if kind > 6:
        return [nonsense(chance, known, depth + 1) for _ in range(chance.randrange(5))]
    return chance.choice([None, True, chance.randrange(-5, 100), b"bytes", "in-x-0", *known])


@pytest.mark.parametrize("seed", [1])
def test_a_server_serves_on(start_app, seed):
    chance = random.Random(seed)
    app = start_app("def f(x): return x", f={})
    known = [app.run.app_id, app.run.function_ids["f"], "fc-x", "in-x-1"]
    harmful = {messages.OPEN_APP, messages.CLOSE_APP}  # with a known id these may end its run, and rightly so
    for round_ in range(ROUNDS):
        if round_ % 5 == 0:
            sock = connect(read_settings())
            greeting = [messages.HELLO, *(nonsense(chance, []) for _ in range(chance.randrange(7)))]
            said = [b"GET /" + bytes(20), chance.randbytes(50), b"\0\0"]
            said += [frame(greeting), frame(nonsense(chance, []))]
            sock.sendall(chance.choice(said))
        else:
            sock, _ = dial_server()
            for _ in range(chance.randrange(1, 4)):
                kind = chance.choice([4, 7, 10, 15, 20, 28, 30, chance.randrange(40)])
                fields = [nonsense(chance, known) for _ in range(chance.randrange(6))]
                if kind not in harmful or app.run.app_id not in fields:
                    try:
                        sock.sendall(frame([kind, *fields]))
                    except OSError:
                        break  # it has had enough
        sock.close()
        if round_ % 10 == 0:
            assert app.remote("f", round_) == round_
    assert app.remote("f", "still there") == "still there"
    assert app.run.close().inputs == ROUNDS // 10 + 1
