"""The listener by itself: who asks is answered, even when the answer is that the server ends."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from glowplug.server.listener import Listener
from glowplug.wire import messages
from glowplug.wire.codec import frame
from glowplug.wire.receive import FrameReceiver


def test_a_greeting_that_ends_the_server_is_answered(tmp_path: Path):
    async def ask() -> list[list[object]]:
        loop = asyncio.get_running_loop()
        listener: list[Listener] = []

        def on_hello(_: object) -> tuple[list[object], bool]:
            listener[0].close()
            return [messages.HELLO, "ended for another"], False

        path = str(tmp_path / "socket")
        listener.append(Listener(loop, path, on_hello, *[lambda *_: None] * 3))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(frame([messages.HELLO]))
            receiver = FrameReceiver(client)
            await loop.run_in_executor(None, receiver.wait)
            return receiver.receive()

    assert asyncio.run(ask()) == [[messages.HELLO, "ended for another"]]
