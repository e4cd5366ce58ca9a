"""Async functions, and calling many at once from async code.

glowplug run async_calls.py
"""

from __future__ import annotations

import asyncio

import glowplug

app = glowplug.App("async-calls")


@app.function(gpu="any")
async def embed(text: str) -> list[float]:
    """How often each vowel occurs: two things awaited at once inside one container."""
    count, length = await asyncio.gather(count_vowels(text), measure(text))
    return [round(number / length, 2) for number in count]


async def count_vowels(text: str) -> list[int]:
    await asyncio.sleep(0)
    return [text.count(vowel) for vowel in "aeiou"]


async def measure(text: str) -> int:
    await asyncio.sleep(0)
    return max(1, len(text))


@app.local_entrypoint()
async def main():
    first, second = await asyncio.gather(embed.remote.aio("a warm engine"), embed.remote.aio("a cold one"))
    print("nearness:", round(sum(x * y for x, y in zip(first, second, strict=True)), 3))
    async for vector in embed.map.aio(["plug", "glow"]):
        print(vector)
