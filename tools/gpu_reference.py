"""Writes what docs/gpu.md takes from the catalog: every type, the prices' dates, the answers of --fits.

python tools/gpu_reference.py           rewrites the document
A test fails while the document says something else than this would write.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from glowplug.cli.gpus_fits import fits_table
from glowplug.model import catalog
from glowplug.model.gpu_types import DATA_CENTRE, GEFORCE, RTX_PROFESSIONAL, GpuType
from glowplug.model.node import Gpu, Node

DOCUMENT = Path(__file__).parents[1] / "docs" / "gpu.md"
SECTION = re.compile(
    r"(?P<begin><!-- (?P<name>[\w-]+): written by tools/gpu_reference\.py -->\n)"
    r".*?(?P<end><!-- end of (?P=name) -->)",
    re.S,
)
NONE = "–"


def _fleet(*machines: str) -> list[Node]:
    """Machines such as "2xA10G,2xT4"."""
    nodes: list[Node] = []
    for machine in machines:
        gpus: list[Gpu] = []
        for group in machine.split(","):
            count, variant = group.split("x", 1)
            type, _, memory = variant.partition("-")
            memory_gb = int(memory.removesuffix("GB")) if memory else catalog.default_memory_gb(type)
            gpus += [
                Gpu(uuid=f"{machine}-{variant}-{index}", type=type, memory_gb=memory_gb or 0)
                for index in range(int(count))
            ]
        nodes.append(Node(machine, gpus=tuple(gpus)))
    return nodes


# What GLOWPLUG_GPUS declares for the commands of the documents (tests/docs).
FLEET = _fleet("2xA10G,2xT4", "8xH100", "4xA100-80GB")


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def _price(gpu_type: GpuType) -> str:
    prices = {variant.memory_gb: variant.price for variant in gpu_type.variants if variant.price}
    if not prices:
        return NONE
    amounts = " / ".join(f"{price.usd_per_hour:.2f}" for price in prices.values())
    (note,) = {f"{price.source} {price.date}" for price in prices.values()}
    return f"{amounts} ({note})"


def _names(gpu_type: GpuType) -> str:
    return ", ".join(f"`{name}`" for name in (gpu_type.name, *gpu_type.aliases))


def _bandwidth(gpu_type: GpuType) -> str:
    return " / ".join(dict.fromkeys(f"{variant.bandwidth_gb_s:,}" for variant in gpu_type.variants))


def _rate(gpu_type: GpuType) -> str:
    if gpu_type.has_bf16 or gpu_type.half_tflops is None:
        return _number(gpu_type.half_tflops)
    return f"{NONE} (fp16 {_number(gpu_type.half_tflops)})"


def _row(gpu_type: GpuType) -> tuple[str, ...]:
    sizes = gpu_type.memory_classes_gb
    total = " / ".join(f"{size * gpu_type.max_count:,}" for size in sizes)
    return (
        _names(gpu_type),
        " / ".join(str(size) for size in sizes),
        _bandwidth(gpu_type),
        _rate(gpu_type),
        _number(gpu_type.fp8_tflops),
        gpu_type.architecture,
        f"{gpu_type.max_count} ({total} GB)",
        _price(gpu_type),
    )


HEADER = (
    "`gpu=`",
    "GB",
    "GB/s",
    "bf16 TFLOP/s",
    "fp8 TFLOP/s",
    "architecture",
    "at most",
    "$ an hour",
)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _types(types: tuple[GpuType, ...]) -> Callable[[], str]:
    return lambda: _table(HEADER, [_row(gpu_type) for gpu_type in types])


def _sizes() -> str:
    """Every value that names a memory size, whole cards and slices."""
    rows = [
        (
            f"`{gpu_type.name}`",
            ", ".join(f"`{gpu_type.name}-{size}GB`" for size in gpu_type.memory_classes_gb),
            ", ".join(f"`{gpu_type.name}-{size}GB`" for size in gpu_type.slices_gb) or NONE,
        )
        for gpu_type in catalog.GPU_TYPES
        if len(gpu_type.variants) > 1 or gpu_type.slices_gb
    ]
    return _table(("type", "a whole card, the default first", "a slice"), rows)


def _successors() -> str:
    pairs = [f"`{each.name}+` {each.successor}" for each in catalog.GPU_TYPES if each.successor]
    return ", ".join(pairs) + "."


def _example(*arguments: str) -> Callable[[], str]:
    """A command and what it prints on the fleet of the documents."""

    def written() -> str:
        model, dtype, method = (*arguments, *("", "bf16", "inference")[len(arguments) :])
        options = [f"--fits {model}"]
        options += [f"--dtype {dtype}"] if dtype != "bf16" else []
        options += [f"--method {method}"] if method != "inference" else []
        answer = fits_table(model, dtype, method, FLEET)
        return f"```console\n$ glowplug gpus {' '.join(options)}\n{answer}\n```"

    return written


SECTIONS: dict[str, Callable[[], str]] = {
    "data-centre": _types(DATA_CENTRE),
    "geforce": _types(GEFORCE),
    "rtx": _types(RTX_PROFESSIONAL),
    "sizes": _sizes,
    "successors": _successors,
    "fits-34b": _example("34B"),
    "fits-405b-fp8": _example("405B", "fp8"),
    "fits-70b-full": _example("70B", "bf16", "full"),
}


def written(document: str) -> str:
    """The document with its generated sections brought up to date; each section must be there once."""
    names = [match["name"] for match in SECTION.finditer(document)]
    if sorted(names) != sorted(SECTIONS):
        raise ValueError(f"the document has the sections {names}, not {list(SECTIONS)}")
    return SECTION.sub(lambda match: f"{match['begin']}{SECTIONS[match['name']]()}\n{match['end']}", document)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
