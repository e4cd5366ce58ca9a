"""Arrays through containers while files and mappings are used again: nobody sees another's bytes, whoever
writes, keeps or dies."""

from __future__ import annotations

import random

import numpy as np

from glowplug.client.serializer import pack, unpack

COUNT = 120
IN_FLIGHT = 12
SOURCE = """
import os
import numpy as np
kept = []
def f(array, size, number, dies):
    assert (array == number % 251).all(), "its argument is another's"
    array[: len(array) // 2] = 7
    if dies and not os.path.exists(f"/gate/{number}"):
        open(f"/gate/{number}", "w").close()
        os.kill(os.getpid(), 9)
    made = np.full(size, number * 7 % 251, np.uint8)
    if number % 3 == 0:
        kept.append(array)
    if number % 5 == 0:
        kept.append(made)
    del kept[:-4]
    return made, made.copy() if number % 2 else made
"""


def is_right(number: int, value: tuple[np.ndarray, np.ndarray]) -> bool:
    return all((array == number * 7 % 251).all() for array in value)


def test_every_array_stays_what_it_was(start_app):
    chance = random.Random(11)
    app = start_app(SOURCE, f={})
    call = app.run.call(app.run.function_ids["f"])
    kept: list[tuple[int, tuple[np.ndarray, np.ndarray]]] = []
    spoilt: list[np.ndarray] = []
    sent = 0
    for answered in range(COUNT):
        while sent < min(COUNT, answered + IN_FLIGHT):
            array = np.full(chance.choice([300_000, 1_100_000, 2_500_000, 5_000_000]), sent % 251, np.uint8)
            size = chance.choice([200_000, 1_200_000, 3_333_333, 6_000_000])
            call.add([pack(((array, size, sent, sent % 40 == 39), {}))])
            array[:] = 99  # the sender may go on with it at once
            sent += 1
        output = call.next(60.0)
        assert output.status == "success", output.message
        value = unpack(output.payload)
        assert is_right(output.index, value)
        if chance.random() < 0.3:
            kept.append((output.index, value))
        elif chance.random() < 0.3:
            value[0][:] = 1
            spoilt.append(value[0])
            kept.append((output.index, unpack(output.payload)))  # unpacked again, it is as it was sent
        while len(kept) > 20:
            assert is_right(*kept.pop(chance.randrange(len(kept))))
    assert all(is_right(*each) for each in kept)
    assert all((array == 1).all() for array in spoilt)
    assert app.run.close().rerun >= COUNT // 40
