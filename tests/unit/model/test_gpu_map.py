"""``--gpu-map``: both sides become canonical names, and a mistake names its pair."""

from __future__ import annotations

import pytest

from glowplug.model.errors import InvalidError
from glowplug.model.gpu_map import parse_gpu_map


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], {}),
        ([""], {}),
        (["A10G=RTX-4090"], {"A10G": "RTX-4090"}),
        (["a10 = rtx 4090"], {"A10G": "RTX-4090"}),
        (["A100-80GB=H100"], {"A100-80GB": "H100"}),
        (["T4=L4,A10G=L4", "H100=A100-80GB"], {"T4": "L4", "A10G": "L4", "H100": "A100-80GB"}),
        (["A10G=T4", "A10=L4"], {"A10G": "L4"}),
    ],
)
def test_pairs(entries: list[str], expected: dict[str, str]) -> None:
    assert parse_gpu_map(entries) == expected


def test_a_card_only_the_fleet_knows() -> None:
    assert parse_gpu_map(["A10G=foo-x99"], known_types=["FOO-X99"]) == {"A10G": "FOO-X99"}
    assert parse_gpu_map(["A10G=rtx-4090-48gb"], known_types=["RTX-4090-48GB"]) == {"A10G": "RTX-4090-48GB"}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("A10G", "write the type asked for, =, and the type to use"),
        ("A10G=", "write the type asked for"),
        ("=T4", "write the type asked for"),
        ("A10G=H10O", 'no GPU type is called "H10O". Did you mean "H100"?'),
        ("A1OG=T4", 'no GPU type is called "A1OG"'),
        ("any=T4", '"any" takes what is there already'),
        ("A10G=T4:2", "without count or mark"),
        ("H100!=H200", "without count or mark"),
    ],
)
def test_a_mistake_names_the_pair(pair: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_gpu_map([pair])
    assert str(caught.value).startswith(f'--gpu-map "{pair}": ')
    assert message in str(caught.value)
