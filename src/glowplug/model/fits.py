"""Which cards hold a model: the memory a model needs, and every type and count that has it.

The arithmetic is deliberately the one of a napkin, and shown: parameters times bytes, plus assumptions that
are stated. GB are 10⁹ bytes. The assumptions, each a constant below:

- Serving keeps 10 % of the weights free for KV cache and activations; long contexts and large batches want
  more.
- Full fine-tuning with Adam in mixed precision takes 16 bytes a parameter: weights and gradients in 16 bits,
  and in fp32 a master copy and Adam's two moments.
- LoRA trains 0.5 % of the parameters (rank 16 on every linear layer) at those 16 bytes, the rest is frozen;
  QLoRA freezes it in 4 bits.
- Training keeps 20 % of the weights for activations: small batches, gradient checkpointing on.
- CUDA context and framework take 1 GB on every GPU.
- A model is split over 1, 2, 4 or 8 GPUs: its attention heads divide by these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glowplug.model import catalog
from glowplug.model.errors import InvalidError
from glowplug.model.gpu_types import GpuType
from glowplug.model.node import Gpu, Node

BYTES_PER_PARAMETER = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int4": 0.5,
    "nf4": 0.5,
}
METHODS = ("inference", "full", "lora", "qlora")
COUNTS = (1, 2, 4, 8)

SERVING_SPARE = 0.10
TRAINING_SPARE = 0.20
TRAINED_SHARE_LORA = 0.005
BYTES_PER_TRAINED_PARAMETER = 16.0
CONTEXT_GB_PER_GPU = 1.0

_MAGNITUDES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_PARAMETERS = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([KMBT]?)", re.IGNORECASE)


@dataclass(frozen=True)
class Term:
    """One line of the sum: what, how it is worked out, and how much."""

    name: str
    working: str
    gb: float


@dataclass(frozen=True)
class Need:
    """The memory a model needs, summed from its terms; each GPU it is spread over adds its context."""

    parameters: float
    dtype: str
    method: str
    weights_gb: float
    terms: tuple[Term, ...]

    def on_gb(self, count: int) -> float:
        return sum(term.gb for term in self.terms) + count * CONTEXT_GB_PER_GPU


@dataclass(frozen=True)
class Fit:
    """A type and the smallest count of it that holds the model."""

    type: str
    memory_gb: int
    count: int
    needed_gb: float
    usd_per_hour: float | None
    """List price of all of them together; None where none is listed."""
    tokens_per_s_ceiling: float | None
    """One prompt at a time, every token reads all weights once: bandwidth over weights. Serving only."""
    is_slice: bool = False
    fleet_count: int = 0
    """How many of them the best machine of the fleet has."""
    fleet_free: int = 0

    @property
    def request(self) -> str:
        """The ``gpu=`` value that asks for it."""
        name = catalog.variant_name(self.type, self.memory_gb)
        return name if self.count == 1 else f"{name}:{self.count}"

    @property
    def have_gb(self) -> int:
        return self.memory_gb * self.count

    @property
    def share(self) -> float:
        return self.needed_gb / self.have_gb

    @property
    def in_fleet(self) -> bool:
        return self.fleet_count >= self.count


@dataclass(frozen=True)
class Fits:
    """The answer: what is needed, what holds it (fewest GPUs first, then cheapest), what was left out."""

    need: Need
    fits: tuple[Fit, ...]
    too_small: tuple[str, ...]
    """Variants of which even the largest count does not hold the model."""
    unable: tuple[str, ...]
    """Types whose hardware does not compute in the dtype."""


def parse_parameters(text: str) -> float:
    """The number of parameters of "34B", "405b", "1.5T", "350M" or "7000000000"."""
    match = _PARAMETERS.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if match is None or float(match[1]) == 0:
        experts = re.fullmatch(r"\s*[0-9]+\s*[xX]\s*[0-9.]+\s*[KMBTkmbt]\s*", text)
        advice = (
            "Name the total of all experts, for example 47B for an 8x7B model."
            if experts
            else 'Write it as "34B", "1.5T" or "350M".'
        )
        raise InvalidError(f'"{text}" is not a number of parameters. {advice}')
    return float(match[1]) * _MAGNITUDES[match[2].upper()]


def need(parameters: str | float, dtype: str = "bf16", method: str = "inference") -> Need:
    """The memory needed to serve or fine-tune a model, with its working."""
    count = parse_parameters(parameters) if isinstance(parameters, str) else float(parameters)
    dtype, method = dtype.strip().lower(), method.strip().lower()
    _check_choice("dtype", dtype, tuple(BYTES_PER_PARAMETER))
    _check_choice("method", method, METHODS)
    if method == "full" and dtype not in ("fp32", "bf16", "fp16"):
        raise InvalidError(
            f"Full fine-tuning in {dtype} is not possible: weights this coarse cannot take Adam's small "
            "steps. Use --dtype bf16, or --method qlora to train adapters on a 4-bit model."
        )
    weights_dtype = "nf4" if method == "qlora" else dtype
    weights_gb = _gb(count, BYTES_PER_PARAMETER[weights_dtype])
    terms = (
        _full_terms(count)
        if method == "full"
        else _frozen_terms(count, weights_dtype, weights_gb, adapters=method != "inference")
    )
    return Need(count, dtype, method, weights_gb, terms)


def fits(
    parameters: str | float,
    dtype: str = "bf16",
    method: str = "inference",
    fleet: Sequence[Node | Gpu] | None = None,
) -> Fits:
    """Every listed card, and every card of the fleet, that holds the model in a count it can be asked for."""
    needed = need(parameters, dtype, method)
    machines = _machines(fleet or ())
    found: list[Fit] = []
    too_small: list[str] = []
    unable: list[str] = []
    for type, memory_gb, is_slice in _candidates(machines):
        gpu_type = catalog.lookup(type)
        if gpu_type is not None and not _computes(gpu_type, needed.dtype):
            unable.append(type)
            continue
        count = _smallest_count(needed, type, memory_gb, is_slice)
        if count is None:
            too_small.append(catalog.variant_name(type, memory_gb))
        else:
            found.append(_fit(needed, type, memory_gb, is_slice, count, machines))
    return Fits(needed, tuple(sorted(found, key=_preference)), tuple(too_small), tuple(dict.fromkeys(unable)))


def format_parameters(parameters: float) -> str:
    """34e9 is "34B"."""
    for suffix in ("T", "B", "M", "K"):
        if parameters >= _MAGNITUDES[suffix]:
            return f"{parameters / _MAGNITUDES[suffix]:.4g}{suffix}"
    return f"{parameters:.0f}"


def _gb(parameters: float, bytes_per_parameter: float) -> float:
    return parameters * bytes_per_parameter / 1e9


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidError(f'{what} "{value}" is not known. Choose one of {", ".join(choices)}.')


def _full_terms(count: float) -> tuple[Term, ...]:
    parameters = format_parameters(count)
    states_gb = _gb(count, BYTES_PER_TRAINED_PARAMETER)
    return (
        Term("weights and gradients", f"{parameters} × (2 + 2) bytes", _gb(count, 4)),
        Term("master weights, fp32", f"{parameters} × 4 bytes", _gb(count, 4)),
        Term("Adam's two moments", f"{parameters} × (4 + 4) bytes", _gb(count, 8)),
        Term("activations", f"{TRAINING_SPARE:.0%} of that, assumed", states_gb * TRAINING_SPARE),
    )


def _frozen_terms(count: float, dtype: str, weights_gb: float, adapters: bool) -> tuple[Term, ...]:
    parameters = format_parameters(count)
    weights = Term("weights", f"{parameters} × {BYTES_PER_PARAMETER[dtype]:g} bytes ({dtype})", weights_gb)
    if not adapters:
        spare_gb = weights_gb * SERVING_SPARE
        return (weights, Term("KV cache, activations", f"{SERVING_SPARE:.0%} of that, assumed", spare_gb))
    trained = count * TRAINED_SHARE_LORA
    working = f"{format_parameters(trained)} ({TRAINED_SHARE_LORA:.1%}) × 16 bytes"
    return (
        weights,
        Term("adapters, trained", working, _gb(trained, BYTES_PER_TRAINED_PARAMETER)),
        Term("activations", f"{TRAINING_SPARE:.0%} of the weights, assumed", weights_gb * TRAINING_SPARE),
    )


def _computes(gpu_type: GpuType, dtype: str) -> bool:
    """Whether the hardware multiplies in this dtype; integer weights are multiplied in 16 bits anywhere."""
    return {"fp8": gpu_type.has_fp8, "bf16": gpu_type.has_bf16}.get(dtype, True)


def _machines(fleet: Iterable[Node | Gpu]) -> list[tuple[Gpu, ...]]:
    """The GPUs of each machine; loose GPUs are taken for one machine."""
    nodes: list[tuple[Gpu, ...]] = []
    loose: list[Gpu] = []
    for member in fleet:
        if isinstance(member, Node):
            nodes.append(member.gpus)
        else:
            loose.append(member)
    return [*nodes, tuple(loose)] if loose else nodes


def _candidates(machines: list[tuple[Gpu, ...]]) -> list[tuple[str, int, bool]]:
    """(type, memory, slice) of the catalog's whole cards, then of whatever else the fleet has."""
    listed = [
        (gpu_type.name, variant.memory_gb, False)
        for gpu_type in catalog.GPU_TYPES
        for variant in gpu_type.variants
    ]
    owned = [(gpu.type, gpu.memory_gb, gpu.is_slice) for machine in machines for gpu in machine]
    return list(dict.fromkeys([*listed, *owned]))


def _smallest_count(needed: Need, type: str, memory_gb: int, is_slice: bool) -> int | None:
    limit = 1 if is_slice else catalog.max_count(type)
    holding = (count for count in COUNTS if count <= limit and needed.on_gb(count) <= memory_gb * count)
    return next(holding, None)


def _fit(
    needed: Need, type: str, memory_gb: int, is_slice: bool, count: int, machines: list[tuple[Gpu, ...]]
) -> Fit:
    same = [
        [gpu for gpu in machine if (gpu.type, gpu.memory_gb, gpu.is_slice) == (type, memory_gb, is_slice)]
        for machine in machines
    ]
    best: list[Gpu] = []
    for gpus in same:
        if (sum(gpu.is_free for gpu in gpus), len(gpus)) > (sum(gpu.is_free for gpu in best), len(best)):
            best = gpus
    operator_price = max((gpu.price_usd_per_hour for gpu in best), default=0.0)
    price = operator_price or catalog.price_usd_per_hour(type, memory_gb, is_slice)
    return Fit(
        type=type,
        memory_gb=memory_gb,
        count=count,
        needed_gb=needed.on_gb(count),
        usd_per_hour=price * count or None,
        tokens_per_s_ceiling=_tokens_per_s(needed, type, memory_gb, is_slice, count),
        is_slice=is_slice,
        fleet_count=len(best),
        fleet_free=sum(gpu.is_free for gpu in best),
    )


def _tokens_per_s(needed: Need, type: str, memory_gb: int, is_slice: bool, count: int) -> float | None:
    bandwidth_gb_s = None if is_slice else catalog.bandwidth_gb_s(type, memory_gb)
    if bandwidth_gb_s is None or needed.method != "inference":
        return None
    return bandwidth_gb_s * count / needed.weights_gb


def _preference(fit: Fit) -> tuple[int, bool, float, int]:
    """Fewest GPUs first, because every split costs traffic between them; then the cheapest."""
    return (fit.count, fit.usd_per_hour is None, fit.usd_per_hour or 0.0, fit.memory_gb)
