"""``glowplug gpus --fits 34B``: the text and the JSON that answer which cards hold a model.

The sum comes first, so that a reader can disagree with it; then what holds it, and why others are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glowplug.model import catalog, fits
from glowplug.model.fits import Fit, Fits, Need
from glowplug.model.node import Gpu, Node

ROWS_BEYOND_FLEET = 12
_LESS_THAN = {"full": ("lora", "qlora"), "lora": ("qlora",)}
_COMPARED_MEMORY_GB = 80


def fits_table(
    model: str, dtype: str = "bf16", method: str = "inference", fleet: Sequence[Node | Gpu] | None = None
) -> str:
    """The answer for a terminal. ``model`` is a parameter count ("34B"); bad input raises InvalidError."""
    answer = fits.fits(model, dtype, method, fleet)
    return "\n".join(render_fits(answer, fleet_known=fleet is not None))


def fits_json(
    model: str, dtype: str = "bf16", method: str = "inference", fleet: Sequence[Node | Gpu] | None = None
) -> dict[str, Any]:
    """The same answer for programs: everything that fits, nothing cut."""
    answer = fits.fits(model, dtype, method, fleet)
    need = answer.need
    return {
        "parameters": need.parameters,
        "dtype": need.dtype,
        "method": need.method,
        "weights_gb": round(need.weights_gb, 2),
        "terms": [
            {"name": term.name, "working": term.working, "gb": round(term.gb, 2)} for term in need.terms
        ],
        "context_gb_per_gpu": fits.CONTEXT_GB_PER_GPU,
        "fits": [_fit_json(fit) for fit in answer.fits],
        "too_small": list(answer.too_small),
        "unable": list(answer.unable),
    }


def _fit_json(fit: Fit) -> dict[str, Any]:
    tokens_per_s = fit.tokens_per_s_ceiling
    return {
        "gpu": fit.request,
        "type": fit.type,
        "memory_gb": fit.memory_gb,
        "count": fit.count,
        "needed_gb": round(fit.needed_gb, 2),
        "have_gb": fit.have_gb,
        "share": round(fit.share, 4),
        "usd_per_hour": None if fit.usd_per_hour is None else round(fit.usd_per_hour, 4),
        "tokens_per_s_ceiling": None if tokens_per_s is None else round(tokens_per_s, 1),
        "is_slice": fit.is_slice,
        "fleet_count": fit.fleet_count,
        "fleet_free": fit.fleet_free,
    }


def render_fits(answer: Fits, fleet_known: bool = False) -> list[str]:
    """The lines of ``fits_table``."""
    need = answer.need
    lines = [
        f"{fits.format_parameters(need.parameters)} parameters, {need.dtype}, {_method_words(need)}",
        "",
        *_sum_lines(need),
        "",
    ]
    if answer.fits:
        lines += _table_lines(answer, fleet_known)
        if fleet_known and not any(fit.in_fleet for fit in answer.fits):
            lines.append("  This fleet has none of these.")
    else:
        lines.append("No listed type holds this on one machine.")
    notes = _notes(answer)
    return [*lines, "", *notes] if notes else lines


def _method_words(need: Need) -> str:
    return {"inference": "inference", "full": "full fine-tuning"}.get(
        need.method, f"{need.method} fine-tuning"
    )


def _sum_lines(need: Need) -> list[str]:
    rows = [(term.name, term.working, f"{term.gb:.1f} GB") for term in need.terms]
    rows.append(("CUDA, framework", "a GPU, assumed", f"{fits.CONTEXT_GB_PER_GPU:.1f} GB"))
    rows.append(("needed on one GPU", "", f"{need.on_gb(1):.1f} GB"))
    return _columns(rows, right=(2,))


def _table_lines(answer: Fits, fleet_known: bool) -> list[str]:
    """The fleet's own cards, then priced ones, then (if there is room) those nobody lists a price for."""
    serving = answer.need.method == "inference"
    here = [fit for fit in answer.fits if fit.in_fleet]
    others = [fit for fit in answer.fits if not fit.in_fleet]
    priced = [fit for fit in others if fit.usd_per_hour is not None]
    shown = [*here, *(priced or others)[:ROWS_BEYOND_FLEET]]
    header = ["gpu=", "memory", "filled", "$/hour"]
    header += ["tokens/s"] if serving else []
    header += ["this fleet"] if fleet_known else []
    rows = [tuple(header), *(_row(fit, serving, fleet_known) for fit in shown)]
    lines = _columns(rows, right=(1, 2, 3, 4) if serving else (1, 2, 3))
    more = len(answer.fits) - len(shown)
    return [*lines, f"  and {more} more: --json lists all"] if more > 0 else lines


def _row(fit: Fit, serving: bool, fleet_known: bool) -> tuple[str, ...]:
    memory = f"{fit.memory_gb} GB" if fit.count == 1 else f"{fit.count} × {fit.memory_gb} GB"
    price = "–" if fit.usd_per_hour is None else f"{fit.usd_per_hour:.2f}"
    tokens = "–" if fit.tokens_per_s_ceiling is None else f"≤ {fit.tokens_per_s_ceiling:.0f}"
    fleet = "" if not fit.fleet_count else f"has {fit.fleet_count}, {fit.fleet_free} free"
    return (
        fit.request,
        memory,
        f"{fit.share:.0%}",
        price,
        *([tokens] if serving else []),
        *([fleet] if fleet_known else []),
    )


def _notes(answer: Fits) -> list[str]:
    need = answer.need
    notes = _less_lines(need)
    single = [fit.memory_gb for fit in answer.fits if fit.count == 1]
    if single:
        notes.append(f"One card does it from {min(single)} GB up.{_next_smaller(need, min(single))}")
    if any(fit.count > 1 for fit in answer.fits):
        how = "split the weights" if need.method == "inference" else "shard all of it (FSDP, ZeRO)"
        notes.append(f"Several GPUs {how}, on one machine; more than two may wait longer.")
    if answer.unable:
        instead = {"fp8": "int8 takes as much memory", "bf16": "fp16 takes as much memory"}[need.dtype]
        notes.append(
            f"Not offered, no {need.dtype} arithmetic: {_some(answer.unable)}. "
            f"--dtype {instead} and runs there."
        )
    if need.method == "inference" and answer.fits:
        notes.append("tokens/s: what one prompt at a time cannot exceed; every token reads all weights once.")
    if any(fit.usd_per_hour for fit in answer.fits):
        notes.append("$/hour: list prices, dated in docs/gpu.md.")
    return notes


def _next_smaller(need: Need, holds_gb: int) -> str:
    """Why the next smaller memory class is not enough, in the same numbers."""
    sizes = {
        variant.memory_gb
        for gpu_type in catalog.GPU_TYPES
        for variant in gpu_type.variants
        if variant.common and variant.memory_gb < holds_gb
    }
    return f" {max(sizes)} GB is too small for {need.on_gb(1):.1f} GB." if sizes else ""


def _less_lines(need: Need) -> list[str]:
    """What this and the less demanding ways need, in cards of one size: other methods or fewer bits."""
    if need.method == "inference":
        dtypes = dict.fromkeys((need.dtype, "fp8", "int4"))
        ways = [(dtype, need.method) for dtype in dtypes if _bytes(dtype) <= _bytes(need.dtype)]
    else:
        ways = [(need.dtype, method) for method in (need.method, *_LESS_THAN.get(need.method, ()))]
    if len(ways) == 1:
        return []
    rows: list[tuple[str, ...]] = []
    for dtype, method in ways:
        other = fits.need(need.parameters, dtype, method)
        counts = [count for count in fits.COUNTS if other.on_gb(count) <= _COMPARED_MEMORY_GB * count]
        cards = f"{counts[0]} of them" if counts else f"{fits.COUNTS[-1]} are not enough"
        rows.append((dtype if method == "inference" else method, f"{other.on_gb(1):.1f} GB", cards))
    return [f"In cards of {_COMPARED_MEMORY_GB} GB:", *_columns(rows, right=(1,)), ""]


def _bytes(dtype: str) -> float:
    return fits.BYTES_PER_PARAMETER[dtype]


def _some(names: Sequence[str], at_most: int = 6) -> str:
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"


def _columns(rows: Sequence[tuple[str, ...]], right: tuple[int, ...]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
