"""The steps of the demo: each does one thing for real, asserts what it claims, and says it in a few lines."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import quote

from glowplug.cli.demo.cards import Cards
from glowplug.client.http import request
from glowplug.model import errors

PATIENCE_S = 30.0
"""How long one thing may take before the demo is called broken."""
LOOK_S = 0.005
MAPPED = 1000
WARM_TURNS, CALLS_A_TURN = 10, 50

T = TypeVar("T")


class Broken(Exception):
    """Something the demo claims does not hold here."""


@dataclass
class Stage:
    """What the steps play on."""

    cards: Cards
    script: ModuleType
    app_id: str
    home: Path
    notices: list[str]
    warnings: list[str]
    """What the server has said; a warning that a step expected is taken out."""
    pids: set[int] = field(default_factory=set)
    """Processes of containers seen on the way."""

    @property
    def real(self) -> bool:
        return not self.cards.fleet

    def function(self, name: str) -> dict[str, Any]:
        rows = request("GET", f"/v1/functions?app={self.app_id}")["functions"]
        return next(row for row in rows if row["name"] == name)

    def containers(self) -> dict[str, dict[str, Any]]:
        """Those that exist now, by id."""
        rows = request("GET", f"/v1/containers?app={self.app_id}")["containers"]
        self.pids.update(pid for row in rows for pid in row["host_pids"])
        return {row["container_id"]: row for row in rows}

    def started(self, name: str) -> dict[str, Any]:
        """The container that runs an input of the function, once there is one."""
        return until(
            lambda: next(
                (c for c in self.containers().values() if c["function"] == name and c["running"]), None
            ),
            f"{name} runs",
        )

    def reason(self, name: str, *codes: str) -> str:
        """Why the function's input waits, in the server's words, once it does for one of these reasons."""

        def look() -> str | None:
            waiting = self.function(name)["waiting"]
            return waiting["text"] if waiting and waiting["code"] in codes else None

        return until(look, f"{name} waits")

    def rerun(self) -> int:
        return request("GET", f"/v1/apps/{self.app_id}")["rerun"]

    def check_devices(self, seen: dict[str, Any], count: int) -> None:
        """What a container says it sees is what the server allotted to it."""
        row = self.containers().get(seen["container"])
        expect(row is not None, f"the server does not know {seen['container']}")
        allotted = row["gpu_uuids"] if row else []
        expect(sorted(seen["uuids"]) == sorted(allotted), f"{seen['uuids']} are visible, {allotted} allotted")
        expect(seen["devices"] == len(set(seen["uuids"])) == count, f"{seen} has not {count} devices")


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def until(look: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = look()
        if found is not None:
            return found
        expect(time.monotonic() < deadline, f"within {PATIENCE_S:.0f} s it did not happen that {what}")
        time.sleep(LOOK_S)


def show_any(stage: Stage) -> Iterator[str]:
    seen = stage.script.land.remote(stage.real)
    stage.check_devices(seen, 1)
    who = "libcuda there" if stage.real else "the container"
    yield f'gpu="any" landed on {seen["type"]} of {seen["node"]};'
    yield f"{who} counts 1 device: {seen['uuids'][0]}, as allotted"


def show_fallback(stage: Stage) -> Iterator[str]:
    script, cards = stage.script, stage.cards
    wanted = ", ".join(f'"{each}"' for each in cards.fallbacks)
    if cards.preferred:
        held, asked = script.hold_preferred.spawn(), None
        try:
            stage.started("hold_preferred")
            asked = script.insist.spawn()
            why = stage.reason("insist", "gpu-busy")
            seen = script.fall_back.remote(stage.real)
        finally:
            held.cancel()
            if asked is not None:
                asked.cancel()
    else:
        seen = script.fall_back.remote(stage.real)
        why = until(lambda: next((n for n in stage.notices if "fall_back" in n), None), "the server says why")
    expect(seen["type"] == cards.fallbacks[1], f"it ran on {seen['type']}")
    stage.check_devices(seen, 1)
    yield f"gpu=[{wanted}] ran on {seen['type']}, because"
    yield why


def show_count(stage: Stage) -> Iterator[str]:
    script, cards = stage.script, stage.cards
    first = script.small.spawn()
    try:
        stage.started("small")
        waiting = script.large.spawn(stage.real)
        why = stage.reason("large", "gpu-busy")
    finally:
        first.cancel()
    began = time.monotonic()
    seen = waiting.get(timeout=PATIENCE_S)
    waited_s = time.monotonic() - began
    stage.check_devices(seen, cards.count)
    yield f'gpu="{cards.many}" waits behind gpu="{cards.one}":'
    yield why
    devices = "1 device" if cards.count == 1 else f"{cards.count} devices of one machine"
    yield f"that one ended; {waited_s * 1000:.0f} ms later it had run with {devices}"


def show_map(stage: Stage) -> Iterator[str]:
    before = stage.rerun()
    results: Counter[int] = Counter()
    by_container: Counter[str] = Counter()
    killed, pid, at = "", 0, 0
    for square, container in stage.script.square.map(range(MAPPED), order_outputs=False):
        results[square] += 1
        by_container[container] += 1
        if not killed and len(by_container) == 2 and results.total() >= MAPPED // 2:
            killed, at = container, results.total()
            pid = stage.containers()[killed]["host_pids"][0]
            os.kill(pid, signal.SIGKILL)
    expect(bool(killed), f"the map ran in {len(by_container)} container, not in two")
    expect(results == Counter(n * n for n in range(MAPPED)), f"{len(results)} different results of {MAPPED}")
    words = until(
        lambda: next((text for text in stage.warnings if killed in text), None),
        f"the end of {killed} is told",
    )
    stage.warnings.remove(words)
    expect("signal 9" in words, f"the server does not know how {killed} ended: {words}")
    where = f'gpu="{stage.cards.mapped}"' if stage.cards.mapped else "without GPU (one card)"
    yield f"{MAPPED:,} inputs over 2 containers, {where}; after {at} results: kill -9 {pid}"
    yield words
    yield (
        f"{results.total():,}/{MAPPED:,} results, each right, each once; {stage.rerun() - before} re-run; "
        f"{len(by_container)} containers in all"
    )


def show_drain(stage: Stage) -> Iterator[str]:
    marks = stage.home / "network-file-systems" / "demo"
    call = stage.script.move.spawn()
    until(lambda: (marks / "1").exists() or None, "the first attempt begins")
    first = stage.started("move")["node_id"]
    request("POST", f"/v1/nodes/{quote(first)}/drain", {"grace_s": 5, "reason": "demo"})
    try:
        elsewhere = len(request("GET", "/v1/nodes")["nodes"]) > 1
        if not elsewhere:
            why = stage.reason("move", "draining")
    finally:
        if not elsewhere:
            request("POST", f"/v1/nodes/{quote(first)}/undrain")
    node, attempt = call.get(timeout=PATIENCE_S)
    if elsewhere:
        request("POST", f"/v1/nodes/{quote(first)}/undrain")
    expect(attempt == 2, f"it ended at attempt {attempt}")
    expect((node != first) == elsewhere, f"it went from {first} to {node}")
    if elsewhere:
        yield f"{first} drained while an input of a function with retries=0 ran there:"
        yield f"moved, attempt 2 ended on {node}; no retry spent, for it has none"
    else:
        yield f"{first} drained while an input of a function with retries=0 ran there: it was put back;"
        yield f"{why}; after the drain attempt 2 ended, no retry spent, for it has none"


def show_refusal(stage: Stage) -> Iterator[str]:
    try:
        type(stage.script.app)("refused").function(gpu="A10G:5")(show_refusal)
    except errors.InvalidError as error:
        expect('"A10G:4"' in str(error), f"the error does not say what would do: {error}")
        yield str(error).partition(": ")[2]
    else:
        raise Broken('gpu="A10G:5" was accepted')


def show_warm(stage: Stage) -> Iterator[str]:
    """Both in turns, so that whatever else this machine does hits both."""
    warm = stage.script.warm
    ours, theirs = [], []
    with ProcessPoolExecutor(
        1,
        mp_context=get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        expect(warm.remote(-1) == -1 and pool.submit(abs, -1).result() == 1, "a call returned something else")
        for _ in range(WARM_TURNS):
            ours += timed(lambda: warm.remote(-1))
            theirs += timed(lambda: pool.submit(abs, -1).result())
    our_us, their_us = statistics.median(ours) * 1e6, statistics.median(theirs) * 1e6
    yield (
        f"{our_us:.0f} µs; ProcessPoolExecutor, in turns with it, {their_us:.0f} µs: "
        f"{our_us / their_us:.2f} × that (medians of {len(ours)})"
    )


def timed(call: Callable[[], object]) -> list[float]:
    """How long each of one turn's calls took."""
    taken = []
    for _ in range(CALLS_A_TURN):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken


STEPS: tuple[tuple[str, Callable[[Stage], Iterator[str]]], ...] = (
    ("any", show_any),
    ("fallback", show_fallback),
    ("count", show_count),
    ("map", show_map),
    ("drain", show_drain),
    ("refused", show_refusal),
    ("warm call", show_warm),
)
