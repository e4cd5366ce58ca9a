"""The built-in table of GPU types: facts of vendor datasheets and dated list prices, nothing decided here.

Sources. Memory, bandwidth and rates: NVIDIA's datasheets and architecture papers of each card, read up to
2026-11-22. Rates are dense tensor rates that accumulate in fp32 (no structured sparsity), in TFLOP/s; where
form factors differ, the SXM or desktop card's. Prices: what renting one such GPU costs on demand, from the
public price list named in each row's ``ListPrice``; a card nobody listed then has none.
"""

from __future__ import annotations

from dataclasses import dataclass

ARCHITECTURES_WITH_BF16 = frozenset({"Ampere", "Ada", "Hopper", "Blackwell"})
ARCHITECTURES_WITH_FP8 = frozenset({"Ada", "Hopper", "Blackwell"})


@dataclass(frozen=True)
class ListPrice:
    """What one whole GPU cost per hour, where, and when the list was read."""

    usd_per_hour: float
    source: str
    date: str


@dataclass(frozen=True)
class GpuVariant:
    """One memory size a type is made in."""

    memory_gb: int
    bandwidth_gb_s: int
    price: ListPrice | None = None
    slices_gb: tuple[int, ...] = ()
    """Memory of the MIG slices this card can be cut into, largest first."""
    common: bool = True
    """Uncommon sizes are always named; a common one only where the type has several."""


@dataclass(frozen=True)
class GpuType:
    """A type of GPU. The first variant is the one meant when a request names no memory."""

    name: str
    architecture: str
    variants: tuple[GpuVariant, ...]
    half_tflops: float | None = None
    """Dense 16-bit rate: bf16 where the architecture has it, else fp16; None without tensor cores."""
    fp8_tflops: float | None = None
    max_count: int = 8
    any_eligible: bool = False
    """Serves ``gpu="any"`` (up to 24 GB)."""
    successor: str = ""
    aliases: tuple[str, ...] = ()
    """Other spellings a request may use."""
    driver_names: tuple[str, ...] = ()
    """Names the driver reports that do not reduce to ``name`` by themselves (see catalog.py)."""

    @property
    def memory_classes_gb(self) -> tuple[int, ...]:
        return tuple(variant.memory_gb for variant in self.variants)

    @property
    def default_memory_gb(self) -> int:
        return self.variants[0].memory_gb

    @property
    def slices_gb(self) -> tuple[int, ...]:
        """Slice sizes of all variants that are no whole card's memory too, largest first."""
        sizes = {size for variant in self.variants for size in variant.slices_gb}
        return tuple(sorted(sizes - set(self.memory_classes_gb), reverse=True))

    @property
    def has_bf16(self) -> bool:
        return self.architecture in ARCHITECTURES_WITH_BF16

    @property
    def has_fp8(self) -> bool:
        return self.architecture in ARCHITECTURES_WITH_FP8

    @property
    def bf16_tflops(self) -> float | None:
        return self.half_tflops if self.has_bf16 else None


def _modal(usd_per_hour: float) -> ListPrice:
    return ListPrice(usd_per_hour, "Modal", "2026-05-08")


def _akash(usd_per_hour: float) -> ListPrice:
    return ListPrice(usd_per_hour, "Akash", "2026-09-20")


def _runpod(usd_per_hour: float) -> ListPrice:
    return ListPrice(usd_per_hour, "RunPod", "2026-10-07")


def _card(
    name: str,
    architecture: str,
    memory_gb: int,
    bandwidth_gb_s: int,
    half_tflops: float | None = None,
    fp8_tflops: float | None = None,
    *,
    price: ListPrice | None = None,
    also: tuple[GpuVariant, ...] = (),
    successor: str = "",
    aliases: tuple[str, ...] = (),
    driver_names: tuple[str, ...] = (),
) -> GpuType:
    """A GeForce or RTX card: serves ``any`` in its sizes up to 24 GB."""
    return GpuType(
        name=name,
        architecture=architecture,
        variants=(GpuVariant(memory_gb, bandwidth_gb_s, price), *also),
        half_tflops=half_tflops,
        fp8_tflops=fp8_tflops,
        any_eligible=True,
        successor=successor,
        aliases=aliases,
        driver_names=driver_names,
    )


DATA_CENTRE = (
    GpuType("T4", "Turing", (GpuVariant(16, 320, _modal(0.59)),), 65, any_eligible=True, successor="L4"),
    GpuType("L4", "Ada", (GpuVariant(24, 300, _modal(0.80)),), 121, 242, any_eligible=True),
    GpuType(
        # The A10 computes 125 TFLOP/s; the row shows the smaller rate, that of the A10G.
        "A10G",
        "Ampere",
        (GpuVariant(24, 600, _modal(1.10)),),
        70,
        max_count=4,
        any_eligible=True,
        aliases=("A10",),
    ),
    GpuType("L40S", "Ada", (GpuVariant(48, 864, _modal(1.95)),), 362, 733, successor="RTX-PRO-6000"),
    GpuType(
        "A100",
        "Ampere",
        (
            GpuVariant(40, 1555, _modal(2.10), slices_gb=(20, 10, 5)),
            GpuVariant(80, 2039, _modal(2.50), slices_gb=(40, 20, 10)),
        ),
        312,
        successor="H100",
        driver_names=("A100X", "A800"),
    ),
    GpuType(
        "RTX-PRO-6000",
        "Blackwell",
        (GpuVariant(96, 1792, _modal(3.03), slices_gb=(48, 24)),),
        504,
        1008,
    ),
    GpuType(
        "H100",
        "Hopper",
        (
            GpuVariant(80, 3350, _modal(3.95), slices_gb=(40, 20, 10)),
            GpuVariant(94, 3938, slices_gb=(47, 24, 12), common=False),
        ),
        989,
        1979,
        successor="H200",
        driver_names=("H800",),
    ),
    GpuType(
        "H200", "Hopper", (GpuVariant(141, 4800, _modal(4.54), (71, 35, 18)),), 989, 1979, successor="B200"
    ),
    GpuType(
        # Sold as 192 GB; the driver reports 179 GiB and most lists say 180.
        "B200",
        "Blackwell",
        (GpuVariant(180, 8000, _modal(6.25), (90, 45, 23)),),
        2250,
        4500,
        successor="B300",
        driver_names=("GB200",),
    ),
    GpuType(
        "B300",
        "Blackwell",
        (GpuVariant(288, 8000, _runpod(7.89), (135, 67, 34)),),
        2250,
        4500,
        driver_names=("GB300",),
    ),
    GpuType("GH200", "Hopper", (GpuVariant(96, 4000), GpuVariant(144, 4900, common=False)), 990, 1979),
    GpuType("H20", "Hopper", (GpuVariant(96, 4000), GpuVariant(141, 4800, common=False)), 148, 296),
    GpuType("L40", "Ada", (GpuVariant(48, 864),), 181, 362, successor="L40S"),
    GpuType("A40", "Ampere", (GpuVariant(48, 696),), 150, successor="L40"),
    GpuType("A30", "Ampere", (GpuVariant(24, 933, slices_gb=(12, 6)),), 165),
    GpuType("A2", "Ampere", (GpuVariant(16, 200),), 18),
    GpuType(
        "V100",
        "Volta",
        (GpuVariant(16, 900, _akash(0.36)), GpuVariant(32, 900, _akash(0.17))),
        125,
        successor="A100",
        driver_names=("V100S",),
    ),
    GpuType("P100", "Pascal", (GpuVariant(16, 732), GpuVariant(12, 549, common=False)), successor="V100"),
    GpuType("P40", "Pascal", (GpuVariant(24, 347, _akash(0.08)),)),
    GpuType("P4", "Pascal", (GpuVariant(8, 192, _akash(0.03)),), successor="T4"),
)

GEFORCE = (
    _card("RTX-5090", "Blackwell", 32, 1792, 209, 419, price=_akash(0.67)),
    _card("RTX-5080", "Blackwell", 16, 960, 113, 225),
    _card("RTX-5070-TI", "Blackwell", 16, 896, 88, 176),
    _card("RTX-5070", "Blackwell", 12, 672, 62, 123),
    _card("RTX-5060-TI", "Blackwell", 16, 448, 47, 95, also=(GpuVariant(8, 448),)),
    _card("RTX-5060", "Blackwell", 8, 448, 38, 77),
    _card(
        "RTX-4090",
        "Ada",
        24,
        1008,
        165,
        330,
        price=_akash(0.39),
        successor="RTX-5090",
        driver_names=("RTX-4090-D",),
    ),
    _card("RTX-4080-SUPER", "Ada", 16, 736, 104, 209, successor="RTX-5080"),
    _card("RTX-4080", "Ada", 16, 717, 97, 195, price=_akash(0.15), successor="RTX-5080"),
    _card("RTX-4070-TI-SUPER", "Ada", 16, 672, 88, 176, successor="RTX-5070-TI"),
    _card("RTX-4070-TI", "Ada", 12, 504, 80, 160, successor="RTX-5070-TI"),
    _card("RTX-4070-SUPER", "Ada", 12, 504, 71, 142, successor="RTX-5070"),
    _card("RTX-4070", "Ada", 12, 504, 58, 117, successor="RTX-5070"),
    _card("RTX-4060-TI", "Ada", 8, 288, 44, 88, also=(GpuVariant(16, 288),), successor="RTX-5060-TI"),
    _card("RTX-4060", "Ada", 8, 272, 30, 60, successor="RTX-5060"),
    _card("RTX-3090-TI", "Ampere", 24, 1008, 80, price=_akash(0.25), successor="RTX-4090"),
    _card("RTX-3090", "Ampere", 24, 936, 71, price=_akash(0.16), successor="RTX-4090"),
    _card("RTX-3080-TI", "Ampere", 12, 912, 68, successor="RTX-4080"),
    _card("RTX-3080", "Ampere", 10, 760, 60, also=(GpuVariant(12, 912, common=False),), successor="RTX-4080"),
    _card("RTX-3070-TI", "Ampere", 8, 608, 43, successor="RTX-4070-TI"),
    _card("RTX-3070", "Ampere", 8, 448, 41, successor="RTX-4070"),
    _card("RTX-3060-TI", "Ampere", 8, 448, 32, successor="RTX-4060-TI"),
    _card(
        "RTX-3060",
        "Ampere",
        12,
        360,
        25,
        price=_akash(0.14),
        also=(GpuVariant(8, 240, common=False),),
    ),
    _card("RTX-3050", "Ampere", 8, 224, 18, also=(GpuVariant(6, 168, common=False),)),
    _card("RTX-2080-TI", "Turing", 11, 616, 54, successor="RTX-3080-TI"),
    _card("RTX-2080-SUPER", "Turing", 8, 496, 45, successor="RTX-3080"),
    _card("RTX-2080", "Turing", 8, 448, 40, successor="RTX-3080"),
    _card("RTX-2070-SUPER", "Turing", 8, 448, 36, successor="RTX-3070"),
    _card("RTX-2070", "Turing", 8, 448, 30, successor="RTX-3070"),
    _card("RTX-2060-SUPER", "Turing", 8, 448, 29, successor="RTX-3060"),
    _card("RTX-2060", "Turing", 6, 336, 26, also=(GpuVariant(12, 336, common=False),), successor="RTX-3060"),
    _card("GTX-1660-TI", "Turing", 6, 288),
    _card("GTX-1660-SUPER", "Turing", 6, 336),
    _card("GTX-1660", "Turing", 6, 192),
    _card("GTX-1650", "Turing", 4, 128),
    _card("GTX-1080-TI", "Pascal", 11, 484, successor="RTX-2080-TI"),
    _card("GTX-1080", "Pascal", 8, 320, successor="RTX-2080"),
    _card("GTX-1070-TI", "Pascal", 8, 256, price=_akash(0.08), successor="RTX-2070"),
    _card("GTX-1070", "Pascal", 8, 256, successor="RTX-2070"),
    _card("GTX-1060", "Pascal", 6, 192, also=(GpuVariant(3, 192, common=False),), successor="RTX-2060"),
    _card("TITAN-RTX", "Turing", 24, 672, 130),
    _card("TITAN-V", "Volta", 12, 653, 110, successor="TITAN-RTX"),
    _card("TITAN-XP", "Pascal", 12, 548, successor="TITAN-V"),
)

RTX_PROFESSIONAL = (
    _card("RTX-PRO-5000", "Blackwell", 48, 1344, also=(GpuVariant(72, 1344, common=False),)),
    _card("RTX-PRO-4500", "Blackwell", 32, 896),
    _card("RTX-PRO-4000", "Blackwell", 24, 672),
    _card("RTX-6000-ADA", "Ada", 48, 960, 364, 728, successor="RTX-PRO-6000"),
    _card("RTX-5000-ADA", "Ada", 32, 576, 261, 522, successor="RTX-PRO-5000"),
    _card("RTX-4500-ADA", "Ada", 24, 432, 158, 317, successor="RTX-PRO-4500"),
    _card("RTX-4000-ADA", "Ada", 20, 360, 107, 214, price=_akash(0.41), successor="RTX-PRO-4000"),
    _card("RTX-4000-SFF-ADA", "Ada", 20, 280, 77, 153),
    _card("RTX-2000-ADA", "Ada", 16, 224, 48, 96),
    _card("RTX-A6000", "Ampere", 48, 768, 155, successor="RTX-6000-ADA", aliases=("A6000",)),
    _card("RTX-A5500", "Ampere", 24, 768, 136, successor="RTX-5000-ADA", aliases=("A5500",)),
    _card("RTX-A5000", "Ampere", 24, 768, 111, successor="RTX-5000-ADA", aliases=("A5000",)),
    _card("RTX-A4500", "Ampere", 20, 640, 95, successor="RTX-4500-ADA", aliases=("A4500",)),
    _card("RTX-A4000", "Ampere", 16, 448, 77, successor="RTX-4000-ADA", aliases=("A4000",)),
    _card(
        "RTX-A2000",
        "Ampere",
        12,
        288,
        32,
        also=(GpuVariant(6, 288, common=False),),
        successor="RTX-2000-ADA",
        aliases=("A2000",),
    ),
    _card("QUADRO-RTX-8000", "Turing", 48, 672, 130, price=_akash(0.21), successor="RTX-A6000"),
    _card("QUADRO-RTX-6000", "Turing", 24, 672, 130, price=_akash(0.17), successor="RTX-A6000"),
    _card("QUADRO-RTX-5000", "Turing", 16, 448, 89, successor="RTX-A5000"),
    _card("QUADRO-RTX-4000", "Turing", 8, 416, 57, successor="RTX-A4000"),
)

GPU_TYPES: tuple[GpuType, ...] = (*DATA_CENTRE, *GEFORCE, *RTX_PROFESSIONAL)
"""Every built-in type, in the order the reference lists them."""
