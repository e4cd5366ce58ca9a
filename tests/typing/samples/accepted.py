"""What type checkers must accept, and the types they must see. Checked, never run."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, Literal, assert_type

import glowplug
from glowplug import App, Function, FunctionCall, Image, Period, Retries, Secret, Volume, gpu

app = App("typed", image=Image.debian_slim(), secrets=[Secret.from_dict({"A": "1"})])
stub = glowplug.Stub("old")


@app.function(
    gpu=["H100", "A100-80GB:2", gpu.A100(size="80GB")],
    gpu_fallback_after=60,
    cpu=(1.0, 2.0),
    memory=1024,
    retries=Retries(max_retries=3),
    schedule=Period(hours=1),
    volumes={"/data": Volume.from_name("data")},
    timeout=600,
    region=["us-east"],
    keep_warm=1,
)
def train(epochs: int, name: str = "x") -> float:
    return 1.0 * epochs


@app.function
def bare(x: int) -> str:
    return str(x)


@app.function()
async def later(x: int) -> bytes:
    return bytes(x)


@app.function()
def items(n: int) -> Generator[int, None, None]:
    yield from range(n)


@app.local_entrypoint()
def main(count: int = 3, when: datetime.datetime | None = None, kind: Literal["a", "b"] = "a") -> None: ...


@app.local_entrypoint
async def other(x: int) -> int:
    return x


assert_type(train.remote(3, name="y"), float)
assert_type(train.local(3), float)
assert_type(train(3), float)
assert_type(train.spawn(3), FunctionCall[float])
assert_type(train.spawn(3).get(timeout=3), float)
assert_type(train.map([1, 2]), Generator[float, None, None])
assert_type(train.starmap([(1, "a")], order_outputs=False), Generator[float, None, None])
assert_type(train.for_each([1]), None)
assert_type(train.spawn_map([1]).get(index=0), float)
assert_type(bare.remote(1), str)
assert_type(later.remote(1), bytes)
assert_type(later.local(1), Coroutine[Any, Any, bytes])
assert_type(items.remote_gen(3), Generator[Any, None, None])
assert_type(main(count=3), None)
assert_type(asyncio.run(other.raw_f(3)), int)


async def asynchronously() -> None:
    assert_type(await train.remote.aio(3), float)
    assert_type(await later.remote.aio(3), bytes)
    assert_type(train.map.aio([1]), AsyncGenerator[float, None])
    async for item in items.remote_gen.aio(3):
        print(item)
    call = await train.spawn.aio(3)
    assert_type(await call.get.aio(), float)
    await call.cancel.aio(terminate_containers=True)
    await Volume.from_name("data").commit.aio()
    async with app.run():
        pass
    async with app.run.aio():
        pass


def takes_function(f: Function[..., float, float]) -> None: ...


takes_function(train)
with app.run(detach=True) as running:
    assert_type(running, App)

image = Image.debian_slim("3.11").apt_install("git").pip_install("torch", ["numpy"], pre=True)
assert_type(image, Image)
assert_type(image.env({"A": "1"}).run_function(bare.raw_f, args=(1,)).add_local_dir(".", "/x"), Image)
assert_type(image.build(), Image)
assert_type(image.pipe(lambda chain, name: chain.pip_install(name), "x"), Image)
matcher = glowplug.FilePatternMatcher("**/*.py")
assert_type(Image.from_registry("ubuntu").add_local_dir(".", "/x", ignore=~matcher), Image)
