"""Which cards hold a model: the sums, the statements of the reference, and how the fleet is marked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowplug.cli.gpus_fits import fits_json, fits_table
from glowplug.model import fits
from glowplug.model.errors import InvalidError
from glowplug.model.fits import Fits, parse_parameters
from glowplug.model.node import ForeignUse, Gpu, Node


def requests(answer: Fits) -> list[str]:
    return [fit.request for fit in answer.fits]


def counts(answer: Fits, type: str, memory_gb: int) -> list[int]:
    return [fit.count for fit in answer.fits if (fit.type, fit.memory_gb) == (type, memory_gb)]


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("34B", 34e9),
        ("405b", 405e9),
        (" 1.5T ", 1.5e12),
        ("350M", 350e6),
        ("7000000000", 7e9),
        ("7_000M", 7e9),
    ],
)
def test_parameters(text: str, parameters: float) -> None:
    assert parse_parameters(text) == parameters


@pytest.mark.parametrize("text", ["", "B", "34G", "-7B", "0B", "7B8", "llama", "8x7B", "1e9", "²B"])
def test_what_is_no_number_of_parameters(text: str) -> None:
    with pytest.raises(InvalidError, match="is not a number of parameters"):
        parse_parameters(text)


def test_experts_are_added_up_by_the_asker() -> None:
    with pytest.raises(InvalidError, match="total of all experts"):
        parse_parameters("8x7B")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("7B", "bf17", "inference"), "Choose one of fp32, bf16"),
        (("7B", "bf16", "train"), "Choose one of inference, full, lora, qlora"),
        (("7B", "int4", "full"), "--method qlora"),
        (("7B", "fp8", "full"), "--dtype bf16"),
    ],
)
def test_bad_input_says_what_to_choose(arguments: tuple[str, str, str], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        fits.fits(*arguments)


def test_34b_in_bf16_needs_80_gb_and_not_40() -> None:
    answer = fits.fits("34B")
    assert answer.need.weights_gb == 68
    assert counts(answer, "A100", 80) == [1]
    assert counts(answer, "A100", 40) == [2]
    assert min(fit.memory_gb for fit in answer.fits if fit.count == 1 and fit.type in ("A100", "H100")) == 80
    assert requests(answer)[0] == "A100-80GB"


def test_405b_in_fp8_is_8_h100() -> None:
    answer = fits.fits("405B", "fp8")
    assert answer.need.weights_gb == 405
    assert "H100:8" in requests(answer)
    assert 405 < 8 * 80 < 810  # which is why bf16 is not an option there
    assert counts(fits.fits("405B", "bf16"), "H100", 80) == []


def test_an_a100_is_not_offered_for_fp8() -> None:
    answer = fits.fits("7B", "fp8")
    assert "A100" in answer.unable
    assert not [fit for fit in answer.fits if fit.type == "A100"]
    assert {"H100", "L4", "RTX-4090"} <= {fit.type for fit in answer.fits}
    assert "A100" in fits_table("7B", "fp8").partition("no fp8 arithmetic: ")[2]


def test_a_t4_is_offered_for_fp16_and_not_for_bf16() -> None:
    assert "T4" in fits.fits("1B", "bf16").unable
    assert counts(fits.fits("1B", "fp16"), "T4", 16) == [1]


def test_70b_on_four_cards_of_80_gb_is_lora_or_qlora_and_not_full() -> None:
    assert counts(fits.fits("70B", "bf16", "full"), "A100", 80) == []
    assert counts(fits.fits("70B", "bf16", "lora"), "A100", 80) == [4]
    assert counts(fits.fits("70B", "bf16", "qlora"), "A100", 80) == [1]
    table = fits_table("70B", "bf16", "full")
    (full,) = [line for line in table.splitlines() if line.startswith("  full")]
    (lora,) = [line for line in table.splitlines() if line.startswith("  lora")]
    assert full.endswith("8 are not enough")
    assert lora.endswith("4 of them")


def test_full_fine_tuning_of_7b_needs_several_gpus_of_80_gb() -> None:
    answer = fits.fits("7B", "bf16", "full")
    assert [term.gb for term in answer.need.terms[:3]] == [28, 28, 56]
    assert counts(answer, "H100", 80) == [2]
    assert counts(answer, "A10G", 24) == []


def test_a_smaller_method_or_dtype_never_needs_more() -> None:
    methods = [fits.need("13B", "bf16", method).on_gb(1) for method in ("full", "lora", "qlora")]
    assert methods == sorted(methods, reverse=True)
    dtypes = [fits.need("13B", dtype).on_gb(1) for dtype in ("fp32", "bf16", "fp8", "int4")]
    assert dtypes == sorted(dtypes, reverse=True)


@given(
    st.integers(10**6, 2 * 10**12),
    st.sampled_from(sorted(fits.BYTES_PER_PARAMETER)),
    st.sampled_from(["inference", "lora", "qlora"]),
)
def test_every_answer_fits_and_half_of_it_would_not(parameters: int, dtype: str, method: str) -> None:
    answer = fits.fits(float(parameters), dtype, method)
    for fit in answer.fits:
        assert fit.needed_gb <= fit.have_gb
        assert 0 < fit.share <= 1
        assert fit.count in fits.COUNTS
        if fit.count > 1:
            assert answer.need.on_gb(fit.count // 2) > fit.memory_gb * fit.count // 2
    assert [fit.count for fit in answer.fits] == sorted(fit.count for fit in answer.fits)


def test_an_a10g_is_never_asked_for_more_than_four_times() -> None:
    # 70 GB of weights would fit on eight.
    assert counts(fits.fits("70B", "int8"), "A10G", 24) == [4]
    assert counts(fits.fits("90B", "int8"), "A10G", 24) == []
    assert counts(fits.fits("90B", "int8"), "L4", 24) == [8]


def test_one_prompt_at_a_time_is_bound_by_bandwidth() -> None:
    (a100,) = [fit for fit in fits.fits("34B").fits if fit.request == "A100-80GB"]
    assert a100.tokens_per_s_ceiling == pytest.approx(2039 / 68)
    assert all(fit.tokens_per_s_ceiling is None for fit in fits.fits("7B", "bf16", "lora").fits)


def gpu(uuid: str, type: str, memory_gb: int, **more: object) -> Gpu:
    return Gpu(uuid=uuid, type=type, memory_gb=memory_gb, **more)  # type: ignore[arg-type]


FLEET = [
    Node("small", gpus=(gpu("a", "A10G", 24), gpu("b", "A10G", 24))),
    Node(
        "big",
        gpus=(
            gpu("c", "H100", 80),
            gpu("d", "H100", 80, foreign=(ForeignUse(pid=7, user="ada", memory_mib=900),)),
        ),
    ),
    Node("odd", gpus=(gpu("e", "RTX-4090", 48, price_usd_per_hour=0.5), gpu("f", "FOO-X99", 96))),
]


def test_the_fleet_is_marked_with_what_one_machine_has() -> None:
    by_request = {fit.request: fit for fit in fits.fits("34B", fleet=FLEET).fits}
    assert (by_request["H100"].fleet_count, by_request["H100"].fleet_free) == (2, 1)
    assert by_request["H100"].in_fleet
    assert (by_request["A10G:4"].fleet_count, by_request["A10G:4"].in_fleet) == (2, False)
    assert by_request["A100-80GB"].fleet_count == 0


def test_cards_only_the_fleet_has_are_offered_with_their_own_price() -> None:
    by_request = {fit.request: fit for fit in fits.fits("34B", fleet=FLEET).fits}
    assert by_request["RTX-4090-48GB:2"].usd_per_hour == 1.0
    assert not by_request["RTX-4090-48GB:2"].in_fleet
    assert by_request["FOO-X99"].in_fleet
    assert by_request["FOO-X99"].usd_per_hour is None


def test_loose_gpus_are_one_machine() -> None:
    loose = [gpu("a", "A10G", 24), gpu("b", "A10G", 24)]
    by_request = {fit.request: fit for fit in fits.fits("13B", fleet=loose).fits}
    assert by_request["A10G:2"].in_fleet


def test_a_slice_is_offered_once_and_only_one() -> None:
    answer = fits.fits("7B", fleet=[gpu("m", "A100", 20, is_slice=True)])
    slices = [fit for fit in answer.fits if fit.is_slice]
    assert [(fit.request, fit.in_fleet) for fit in slices] == [("A100-20GB", True)]
    assert not [
        fit for fit in fits.fits("13B", fleet=[gpu("m", "A100", 20, is_slice=True)]).fits if fit.is_slice
    ]


def test_the_table_shows_the_sum_then_the_fleets_own_cards_first() -> None:
    lines = fits_table("34B", fleet=FLEET).splitlines()
    assert lines[0] == "34B parameters, bf16, inference"
    assert any(
        line.split() == ["weights", "34B", "×", "2", "bytes", "(bf16)", "68.0", "GB"] for line in lines
    )
    header = next(index for index, line in enumerate(lines) if line.startswith("  gpu="))
    assert lines[header + 1].split()[0] == "H100"
    assert lines[header + 1].endswith("has 2, 1 free")
    assert "One card does it from 80 GB up. 48 GB is too small for 75.8 GB." in lines


def test_the_table_says_when_nothing_fits() -> None:
    assert "No listed type holds this on one machine." in fits_table("5T")
    assert "This fleet has none of these." in fits_table("405B", "fp8", fleet=FLEET)


def test_the_json_has_everything() -> None:
    answer = fits_json("34B", fleet=FLEET)
    assert json.loads(json.dumps(answer)) == answer
    assert len(answer["fits"]) == len(fits.fits("34B", fleet=FLEET).fits)
    assert {"gpu": "H100", "count": 1, "fleet_free": 1}.items() <= {
        key: value for fit in answer["fits"] if fit["gpu"] == "H100" for key, value in fit.items()
    }.items()
