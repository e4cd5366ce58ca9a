"""The grammar of ``gpu=``: every form of the reference, every mistake with its advice, and the round trip."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowplug.model import catalog
from glowplug.model.errors import DeprecationError, InvalidError
from glowplug.model.gpu import ANY, GpuRequest, format_request, parse_gpu


@dataclass
class Wish:
    """Stands for the objects of the SDK: anything with ``gpu_request()``."""

    request: GpuRequest

    def gpu_request(self) -> GpuRequest:
        return self.request


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("any", GpuRequest(ANY)),
        ("Any:4", GpuRequest(ANY, 4)),
        ("T4", GpuRequest("T4")),
        ("l4", GpuRequest("L4")),
        (" H100 ", GpuRequest("H100")),
        ("H100 : 2", GpuRequest("H100", 2)),
        ("H100:08", GpuRequest("H100", 8)),
        ("a10", GpuRequest("A10G")),
        ("A10G:4", GpuRequest("A10G", 4)),
        ("A100", GpuRequest("A100")),
        ("a100-40gb", GpuRequest("A100", memory_gb=40)),
        ("A100-80GB:8", GpuRequest("A100", 8, memory_gb=80)),
        ("A100 80GB", GpuRequest("A100", memory_gb=80)),
        ("a100_80gb", GpuRequest("A100", memory_gb=80)),
        ("a100-20g", GpuRequest("A100", memory_gb=20)),
        ("H100-40GB", GpuRequest("H100", memory_gb=40)),
        ("H100-94GB", GpuRequest("H100", memory_gb=94)),
        ("T4-16GB", GpuRequest("T4", memory_gb=16)),
        ("H100!", GpuRequest("H100", exact=True)),
        ("H100! :8", GpuRequest("H100", 8, exact=True)),
        ("A100-80GB!", GpuRequest("A100", memory_gb=80, exact=True)),
        ("B200+", GpuRequest("B200", or_successor=True)),
        ("b200+:2", GpuRequest("B200", 2, or_successor=True)),
        ("rtx-pro-6000", GpuRequest("RTX-PRO-6000")),
        ("RTX 4090", GpuRequest("RTX-4090")),
        ("rtx4090:2", GpuRequest("RTX-4090", 2)),
        ("RTX_6000_Ada", GpuRequest("RTX-6000-ADA")),
        ("A6000", GpuRequest("RTX-A6000")),
    ],
)
def test_each_form_of_a_string(value: str, expected: GpuRequest) -> None:
    assert parse_gpu(value) == (expected,)


@pytest.mark.parametrize("value", [None, False])
def test_no_gpu(value: object) -> None:
    assert parse_gpu(value) == ()


@pytest.mark.parametrize("value", [["h100", "a100-40gb:2"], ("h100", "a100-40gb:2")])
def test_fallbacks_keep_their_order_and_their_own_counts(value: object) -> None:
    assert parse_gpu(value) == (GpuRequest("H100"), GpuRequest("A100", 2, memory_gb=40))


def test_objects_mix_with_strings_in_a_list() -> None:
    wish = Wish(GpuRequest("H100", 8))
    assert parse_gpu([wish, "a100", "any"]) == (GpuRequest("H100", 8), GpuRequest("A100"), GpuRequest(ANY))


def test_an_object_may_spell_its_type_as_scripts_do() -> None:
    assert parse_gpu(Wish(GpuRequest("a10", 2))) == (GpuRequest("A10G", 2),)


def test_true_is_any_and_deprecated() -> None:
    with pytest.warns(DeprecationError, match="gpu=True is deprecated"):
        assert parse_gpu(True) == (GpuRequest(ANY),)


def test_strings_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_gpu(["H100:8", "any"])


@pytest.mark.parametrize(
    ("value", "what", "advice"),
    [
        ("H10O", 'no GPU type is called "H10O"', 'Did you mean "H100"?'),
        ("A100-80", 'no GPU type is called "A100-80"', 'Did you mean "A100-80GB"?'),
        ("4090", 'no GPU type is called "4090"', 'Did you mean "RTX-4090"?'),
        ("foo", 'no GPU type is called "foo"', "Known types: T4, L4, A10G,"),
        ("inf2", 'no GPU type is called "inf2"', "Known types: T4, L4, A10G,"),
        ("A100-79GB", "A100 has no variant with 79 GB", 'Did you mean "A100-80GB"?'),
        ("H100-79GB:2", "H100 has no variant with 79 GB", 'Did you mean "H100-80GB:2"?'),
        ("A10G:5", "A10G supports up to 4 GPUs per container, not 5", 'Did you mean "A10G:4"?'),
        ("a10:5", "A10G supports up to 4 GPUs per container, not 5", 'Did you mean "A10G:4"?'),
        ("H100:9", "H100 supports up to 8 GPUs per container, not 9", 'Did you mean "H100:8"?'),
        ("A100-80GB:9", "A100-80GB supports up to 8", 'Did you mean "A100-80GB:8"?'),
        ("any:9", "any supports up to 8", 'Did you mean "any:8"?'),
        ("H100:0", "at least 1, not 0", 'Did you mean "H100"?'),
        ("H100:-1", "at least 1", 'Did you mean "H100"?'),
        ("H100:x", '"x" is not a whole number', 'Did you mean "H100"?'),
        ("H100:2.0", '"2.0" is not a whole number', 'Did you mean "H100"?'),
        ("H100:²", '"²" is not a whole number', 'Did you mean "H100"?'),
        ("H100:", "the count after the colon is missing", 'Did you mean "H100"?'),
        ("H100:8:2", "one count only", 'Did you mean "H100:8"?'),
        ("H100:8!", '"!" belongs right after the type', 'Did you mean "H100!:8"?'),
        ("B200:2+", '"+" belongs right after the type', 'Did you mean "B200+:2"?'),
        ("!H100", '"!" belongs right after the type', 'Did you mean "H100!"?'),
        ("H100!!", "one mark at most", 'Did you mean "H100!"?'),
        ("B300+", "the catalog knows no successor of B300", 'Use "B300"'),
        ("any!", '"any" names no type', 'Use "any"'),
        ("any-24GB", '"any" takes no memory size', 'Use "any"'),
        ("a100-20g:2", "one slice only", 'Did you mean "A100-20GB"?'),
        ("", "no GPU type is named", "Use gpu=None for no GPU"),
        ("  ", "no GPU type is named", "Use gpu=None for no GPU"),
        (":2", "no GPU type is named", "Use gpu=None for no GPU"),
        ("none", "no GPU type is named", "Use gpu=None for no GPU"),
        ("H100, A100", "fallbacks are a list", "Did you mean gpu=['H100', 'A100']?"),
        ([], "the list of fallbacks is empty", "Use gpu=None"),
        (["H100", ["A100"]], "entry 2, ['A100']: a fallback is one GPU request", "into one list"),
        (["H100", None], 'entry 2, None: a list of fallbacks cannot contain "no GPU"', "Leave it out"),
        (["H100", False], "entry 2, False", "Leave it out"),
        (["H100", "A10G:5"], "entry 2, 'A10G:5': A10G supports up to 4", 'Did you mean "A10G:4"?'),
        (42, "a string, not int", 'For example gpu="any"'),
        (1.5, "a string, not float", 'For example gpu="any"'),
        (b"H100", "a string, not bytes", 'For example gpu="any"'),
        ({"H100", "A100"}, "a set has no order of preference", "Use a list"),
        (Wish, "Wish is a class", "Did you mean Wish()?"),
        (Wish(GpuRequest("H100", 0)), "at least 1, not 0", 'Did you mean "H100"?'),
        (Wish(GpuRequest("H100", True)), "must be a whole number, not True", 'Did you mean "H100"?'),
        (Wish(GpuRequest("H100", "2")), "must be a whole number, not '2'", 'Did you mean "H100"?'),  # type: ignore[arg-type]
        (Wish(GpuRequest("A100", 2, memory_gb=20)), "one slice only", 'Did you mean "A100-20GB"?'),
        (Wish(GpuRequest("A100", memory_gb=30)), "no variant with 30 GB", "Did you mean"),
        (Wish(GpuRequest("X100")), 'no GPU type is called "X100"', "Did you mean"),
    ],
)
def test_a_mistake_names_the_value_what_is_wrong_and_the_nearest_valid_one(
    value: Any, what: str, advice: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_gpu(value)
    message = str(caught.value)
    assert message.startswith(f"gpu={value!r}: ")
    assert what in message
    assert advice in message


def test_every_suggestion_is_itself_valid() -> None:
    for value in ("H10O", "A100-80", "A10G:5", "H100:9", "H100:8!", "a100-20g:2", "H100-79GB:2", "B200:2+"):
        with pytest.raises(InvalidError) as caught:
            parse_gpu(value)
        suggestion = str(caught.value).split('Did you mean "')[1].split('"')[0]
        assert parse_gpu(suggestion)


def test_types_of_an_operator_or_of_the_fleet_are_accepted_when_told() -> None:
    with pytest.raises(InvalidError):
        parse_gpu("foo x99")
    assert parse_gpu("foo x99:3", known_types=["FOO-X99"]) == (GpuRequest("FOO-X99", 3),)
    assert parse_gpu("FOO-X99-24GB", known_types=["foo-x99"]) == (GpuRequest("FOO-X99", memory_gb=24),)


def test_a_variant_the_catalog_does_not_list_is_accepted_when_the_fleet_has_it() -> None:
    with pytest.raises(InvalidError, match="no variant with 48 GB"):
        parse_gpu("RTX-4090-48GB")
    expected = GpuRequest("RTX-4090", memory_gb=48)
    assert parse_gpu("RTX-4090-48GB", known_types=["RTX-4090-48GB"]) == (expected,)


def test_a_misspelt_type_of_the_fleet_is_suggested() -> None:
    with pytest.raises(InvalidError, match='Did you mean "FOO-X99"'):
        parse_gpu("FO-X99", known_types=["FOO-X99"])


def test_an_operator_may_raise_a_limit() -> None:
    assert parse_gpu("H100:16", max_counts={"H100": 16}) == (GpuRequest("H100", 16),)
    with pytest.raises(InvalidError, match="up to 16"):
        parse_gpu("H100:17", max_counts={"H100": 16})


@st.composite
def requests(draw: st.DrawFn) -> GpuRequest:
    """Any valid request: a listed type in one of its sizes, a mark, a count within its limit."""
    gpu_type = draw(st.sampled_from(catalog.GPU_TYPES))
    sizes = (*gpu_type.memory_classes_gb, *gpu_type.slices_gb)
    memory_gb = draw(st.none() | st.sampled_from(sizes))
    mark = draw(st.sampled_from(["", "!", "+"] if gpu_type.successor else ["", "!"]))
    limit = 1 if catalog.is_partial(gpu_type.name, memory_gb) else gpu_type.max_count
    return GpuRequest(
        gpu_type.name,
        draw(st.integers(1, limit)),
        memory_gb,
        exact=mark == "!",
        or_successor=mark == "+",
    )


spaces = st.text(" \t", max_size=2)


@given(requests() | st.integers(1, 8).map(lambda count: GpuRequest(ANY, count)))
def test_a_formatted_request_reads_back(request: GpuRequest) -> None:
    assert parse_gpu(format_request(request)) == (request,)


@given(requests(), st.data())
def test_case_and_spaces_do_not_matter(request: GpuRequest, data: st.DataObject) -> None:
    text = format_request(request)
    cased = "".join(data.draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in text)
    spaced = cased.replace(":", data.draw(spaces) + ":" + data.draw(spaces))
    assert parse_gpu(data.draw(spaces) + spaced + data.draw(spaces)) == (request,)


@given(st.lists(requests(), min_size=1, max_size=5))
def test_a_list_is_its_entries(entries: list[GpuRequest]) -> None:
    assert parse_gpu([format_request(entry) for entry in entries]) == tuple(entries)


@given(requests(), st.integers(9, 10**6))
def test_no_count_over_the_limit_passes(request: GpuRequest, count: int) -> None:
    with pytest.raises(InvalidError):
        parse_gpu(format_request(replace(request, count=count)))


@given(st.text(max_size=30) | st.text("AHTL0148:!+-GB ", max_size=12))
def test_any_text_is_a_request_or_an_invalid_error(text: str) -> None:
    try:
        requests = parse_gpu(text)
    except InvalidError as error:
        message = str(error)
    else:
        assert parse_gpu(format_request(requests[0])) == requests
        return
    assert message.startswith(f"gpu={text!r}: ")
