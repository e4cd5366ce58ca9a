"""The catalog: names of requests and of drivers become types; its facts agree with each other."""

from __future__ import annotations

import datetime

import pytest

from glowplug.model import catalog
from glowplug.model.catalog import GPU_TYPES
from glowplug.model.gpu_types import GpuType


def by_name(gpu_type: GpuType) -> str:
    return gpu_type.name


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("a10", "A10G"),
        ("A10G", "A10G"),
        ("rtx 4090", "RTX-4090"),
        ("RTX_4090", "RTX-4090"),
        ("h100", "H100"),
        ("A100-80GB", None),
        ("foo", None),
        ("", None),
    ],
)
def test_spellings_of_a_request(name: str, type: str | None) -> None:
    assert catalog.canonical_type(name) == type


@pytest.mark.parametrize(
    ("driver_name", "type"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100-PCIE-40GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("A100-SXM4-40GB", "A100"),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "A100"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H100 NVL", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GB200", "B200"),
        ("NVIDIA B300 SXM6 AC", "B300"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("Tesla T4", "T4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A10", "A10G"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("Tesla V100S-PCIE-32GB", "V100"),
        ("Tesla P100-PCIE-16GB", "P100"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX-4070-TI-SUPER"),
        ("GeForce GTX 1080 Ti", "GTX-1080-TI"),
        ("NVIDIA GeForce RTX 3060", "RTX-3060"),
        ("NVIDIA TITAN RTX", "TITAN-RTX"),
        ("NVIDIA RTX A6000", "RTX-A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-ADA"),
        ("NVIDIA RTX 4000 SFF Ada Generation", "RTX-4000-SFF-ADA"),
        ("Quadro RTX 6000", "QUADRO-RTX-6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX-PRO-6000"),
        ("NVIDIA RTX PRO 5000 Blackwell", "RTX-PRO-5000"),
        # Unlisted cards keep a name a request can spell.
        ("NVIDIA Foo X99", "FOO-X99"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", "RTX-3080-LAPTOP"),
        ("NVIDIA", "NVIDIA"),
        ("", "UNKNOWN"),
    ],
)
def test_names_of_drivers(driver_name: str, type: str) -> None:
    assert catalog.type_from_driver_name(driver_name) == type


@pytest.mark.parametrize("gpu_type", GPU_TYPES, ids=by_name)
def test_every_type_is_found_by_its_own_name(gpu_type: GpuType) -> None:
    assert catalog.lookup(gpu_type.name) is gpu_type
    assert catalog.canonical_type(gpu_type.name) == gpu_type.name
    assert catalog.type_from_driver_name(f"NVIDIA {gpu_type.name.replace('-', ' ')}") == gpu_type.name


def test_no_spelling_names_two_types() -> None:
    spellings = [spelling for each in GPU_TYPES for spelling in (each.name, *each.aliases)]
    keys = [spelling.replace("-", "") for spelling in spellings]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("memory_mib", "type", "memory_gb"),
    [
        (81559, "H100", 80),
        (81920, "A100", 80),
        (81251, "A100", 80),
        (40960, "A100", 40),
        (40536, "A100", 40),
        (20096, "A100", 20),
        (9856, "A100", 10),
        (4864, "A100", 5),
        (95830, "H100", 94),
        (143771, "H200", 141),
        (183359, "B200", 180),
        (189471, "B200", 180),
        (275040, "B300", 288),
        (15360, "T4", 16),
        (15109, "T4", 16),
        (23034, "L4", 24),
        (23028, "A10G", 24),
        (46068, "L40S", 48),
        (24564, "RTX-4090", 24),
        (10240, "RTX-3080", 10),
        (12288, "RTX-3080", 12),
        # Not one of the type's sizes, and unlisted cards: the usual sizes, else what there is.
        (49140, "RTX-4090", 48),
        (16303, None, 16),
        (24576, "FOO-X99", 24),
        (7168, None, 7),
        (57344, None, 56),
        (300, None, 1),
    ],
)
def test_memory_is_the_nearest_class_within_ten_percent(
    memory_mib: int, type: str | None, memory_gb: int
) -> None:
    assert catalog.nominal_memory_gb(memory_mib, type) == memory_gb


@pytest.mark.parametrize(
    ("type", "memory_gb", "name"),
    [
        ("A100", 40, "A100-40GB"),
        ("A100", 80, "A100-80GB"),
        ("A100", 20, "A100-20GB"),
        ("A100", None, "A100"),
        ("H100", 80, "H100"),
        ("H100", 94, "H100-94GB"),
        ("T4", 16, "T4"),
        ("RTX-3080", 10, "RTX-3080"),
        ("RTX-3080", 12, "RTX-3080-12GB"),
        ("RTX-4090", 48, "RTX-4090-48GB"),
        ("FOO-X99", 24, "FOO-X99"),
        ("ANY", None, "ANY"),
    ],
)
def test_memory_is_named_where_it_tells_variants_apart(type: str, memory_gb: int | None, name: str) -> None:
    assert catalog.variant_name(type, memory_gb) == name


@pytest.mark.parametrize(
    ("type", "memory_gb", "partial"),
    [
        ("A100", 20, True),
        ("A100", 10, True),
        ("A100", 40, False),  # a whole card, although an 80 GB one can be cut to it
        ("A100", 80, False),
        ("A100", None, False),
        ("H100", 40, True),
        ("H200", 18, True),
        ("T4", 16, False),
        ("FOO-X99", 12, False),
        ("ANY", None, False),
    ],
)
def test_a_part_of_a_card_is_a_slice(type: str, memory_gb: int | None, partial: bool) -> None:
    assert catalog.is_partial(type, memory_gb) is partial


@pytest.mark.parametrize(
    ("type", "memory_gb", "eligible"),
    [
        ("T4", 16, True),
        ("L4", 24, True),
        ("A10G", 24, True),
        ("RTX-4090", 24, True),
        ("RTX-4090", 48, False),
        ("RTX-5090", 32, False),
        ("GTX-1080-TI", 11, True),
        ("RTX-A5000", 24, True),
        ("RTX-A6000", 48, False),
        ("RTX-3080-LAPTOP", 16, True),
        ("V100", 16, False),
        ("A100", 40, False),
        ("H100", 80, False),
        ("FOO-X99", 16, False),
    ],
)
def test_what_serves_any(type: str, memory_gb: int, eligible: bool) -> None:
    assert catalog.any_eligible(type, memory_gb) is eligible


def test_a_slice_never_serves_any() -> None:
    assert not catalog.any_eligible("RTX-4090", 24, is_slice=True)


def test_limits_of_counts() -> None:
    assert catalog.max_count("A10G") == 4
    for type in ("T4", "L4", "L40S", "A100", "H100", "H200", "B200", "FOO-X99", "ANY"):
        assert catalog.max_count(type) == 8


def test_prices_are_dated_and_a_slice_costs_its_share() -> None:
    whole = catalog.list_price("A100", 40)
    assert whole is not None
    assert whole.source
    assert catalog.price_usd_per_hour("A100") == whole.usd_per_hour
    assert catalog.price_usd_per_hour("A100", 80) > whole.usd_per_hour
    assert catalog.price_usd_per_hour("A100", 20, is_slice=True) == pytest.approx(whole.usd_per_hour / 2)
    # A slice of the 80 GB card alone: its share of that.
    assert catalog.price_usd_per_hour("A100", 40, is_slice=True) == pytest.approx(
        catalog.price_usd_per_hour("A100", 80) / 2
    )
    assert catalog.price_usd_per_hour("FOO-X99", 24) == 0.0
    assert catalog.price_usd_per_hour("FOO-X99", 24, is_slice=True) == 0.0


def test_successors() -> None:
    assert catalog.successors("B200") == ("B300",)
    assert catalog.successors("H100") == ("H200",)
    assert catalog.successors("B300") == ()
    assert catalog.successors("FOO-X99") == ()


@pytest.mark.parametrize("gpu_type", [each for each in GPU_TYPES if each.successor], ids=by_name)
def test_a_successor_is_listed_and_has_no_less_memory(gpu_type: GpuType) -> None:
    successor = catalog.lookup(gpu_type.successor)
    assert successor is not None
    assert successor.default_memory_gb >= gpu_type.default_memory_gb


def test_no_chain_of_successors_is_a_circle() -> None:
    for gpu_type in GPU_TYPES:
        seen = [gpu_type.name]
        while following := catalog.successors(seen[-1]):
            assert following[0] not in seen
            seen.append(following[0])


@pytest.mark.parametrize("gpu_type", GPU_TYPES, ids=by_name)
def test_facts_are_plausible(gpu_type: GpuType) -> None:
    assert gpu_type.name == gpu_type.name.upper()
    assert " " not in gpu_type.name
    assert gpu_type.max_count in (4, 8)
    assert any(variant.common for variant in gpu_type.variants)
    for variant in gpu_type.variants:
        assert 2 <= variant.memory_gb <= 288
        assert 100 <= variant.bandwidth_gb_s <= 8000
        assert all(size < variant.memory_gb for size in variant.slices_gb)
        if variant.price:
            assert 0 < variant.price.usd_per_hour < 20
            datetime.date.fromisoformat(variant.price.date)
    if gpu_type.fp8_tflops is not None:
        assert gpu_type.has_fp8
        assert gpu_type.half_tflops is not None
        # fp8 runs at twice the 16-bit rate on every card that has it.
        assert gpu_type.fp8_tflops == pytest.approx(2 * gpu_type.half_tflops, rel=0.03)


def test_rates_exist_only_where_the_hardware_has_the_type() -> None:
    a100, t4, l4 = (next(each for each in GPU_TYPES if each.name == name) for name in ("A100", "T4", "L4"))
    assert (a100.bf16_tflops, a100.fp8_tflops, a100.has_fp8) == (312, None, False)
    assert (t4.bf16_tflops, t4.half_tflops) == (None, 65)
    assert l4.has_fp8


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("H10O", "H100"),
        ("A1000", "A100"),
        ("A100-80", "A100-80GB"),
        ("4090", "RTX-4090"),
        ("RTX-409O", "RTX-4090"),
        ("L40-S", "L40S"),
        ("B20", "B200"),
        ("foo", None),
        ("tpu-v5", None),
    ],
)
def test_the_nearest_spelling(name: str, suggestion: str | None) -> None:
    assert catalog.nearest(name) == suggestion
