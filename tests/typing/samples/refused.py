"""What type checkers must refuse: each line that says so, and no other. Checked, never run."""

from __future__ import annotations

from glowplug import App, Retries, Volume

app = App("typed")


@app.function(gpu="T4")
def train(epochs: int, name: str = "x") -> float:
    return 1.0 * epochs


@app.function()
async def later(x: int) -> bytes:
    return bytes(x)


train.remote("three")  # refused
train.remote(3, title="x")  # refused
train.remote()  # refused
train.local(epochs="x")  # refused
train.spawn([])  # refused
word: str = train.remote(3)  # refused
text: str = later.remote(3)  # refused
train.remote.sync(3)  # refused
train.spawn(3).get(timeout="x")  # refused
app.function(gpus="T4")  # refused
app.function(retries="three")  # refused
app.function(timeout="60")  # refused
app.function(gpu=3)  # refused
app.function(volumes={"/data": "name"})  # refused
app.functoin(gpu="T4")  # refused
Retries(3)  # refused
Volume.from_name(3)  # refused


async def asynchronously() -> None:
    print(await train.remote.aio(3) + "x")  # refused
    await later.remote.aio("x")  # refused
