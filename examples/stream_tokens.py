"""A generator: tokens arrive while the next ones are made, and who has enough stops it.

glowplug run stream_tokens.py --enough 12
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import glowplug

app = glowplug.App("stream-tokens")

TEXT = "the plug glows before the engine starts so the first stroke fires as well as the last"
WORDS = TEXT.split()


@app.function(gpu="any")
def tokens(seed: int = 0) -> Iterator[str]:
    """Words without end, each one that somewhere follows the word before it."""
    draws = random.Random(seed)
    word = WORDS[0]
    while True:
        yield word
        after = [second for first, second in itertools.pairwise(WORDS) if first == word]
        word = draws.choice(after or WORDS)


@app.local_entrypoint()
def main(enough: int = 12):
    said = []
    for token in tokens.remote_gen():
        said.append(token)
        if len(said) == enough:
            break  # ends the generator in its container, too
    print(" ".join(said))
