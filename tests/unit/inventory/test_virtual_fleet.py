"""The declaration of a virtual fleet."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowplug.backends.local.inventory import parse_fleet
from glowplug.model.errors import InvalidError


def shown(text, **labels):
    return [[gpu.variant for gpu in node.gpus] for node in parse_fleet(text, labels=labels)]


@pytest.mark.parametrize(
    ("text", "machines"),
    [
        ("2xH100", [["H100", "H100"]]),
        ("H100", [["H100"]]),
        ("1xH100,2xT4;1xA100-80GB", [["H100", "T4", "T4"], ["A100-80GB"]]),
        ("  2 X h100 , t4 ;a100-80gb ", [["H100", "H100", "T4"], ["A100-80GB"]]),
        ("2×L4", [["L4", "L4"]]),
        ("2*L4", [["L4", "L4"]]),
        ("L4:2", [["L4", "L4"]]),
        ("2xA100", [["A100-40GB", "A100-40GB"]]),
        ("rtx 4090", [["RTX-4090"]]),
        ("2xA10", [["A10G", "A10G"]]),
        ("none", [[]]),
    ],
)
def test_machines(text, machines):
    assert shown(text) == machines


def test_a_partial_size_is_slices():
    [node] = parse_fleet("2xA100-20GB,A100-80GB")
    assert [(gpu.uuid, gpu.memory_gb, gpu.is_slice) for gpu in node.gpus] == [
        ("MIG-virtual-1-0", 20, True),
        ("MIG-virtual-1-1", 20, True),
        ("GPU-virtual-1-2", 80, False),
    ]


def test_what_a_virtual_machine_is():
    first, second = parse_fleet("H100;T4", cpus=16.0, memory_mib=64000)
    assert (first.id, second.id) == ("virtual-1", "virtual-2")
    assert first.virtual
    assert (first.cpus, first.memory_mib) == (8.0, 32000)
    [gpu] = first.gpus
    assert gpu.is_free
    assert gpu.minor == -1
    assert gpu.memory_mib == 81920
    assert gpu.price_usd_per_hour > 0


def test_uuids_are_unique_and_the_same_every_time():
    uuids = [gpu.uuid for node in parse_fleet("8xH100,2xA100-20GB;8xH100") for gpu in node.gpus]
    assert len(set(uuids)) == 18
    assert uuids == [gpu.uuid for node in parse_fleet("8xH100,2xA100-20GB;8xH100") for gpu in node.gpus]


def test_labels_belong_to_their_machine():
    first, second, third = parse_fleet(
        "8xH100 @cloud=gcp @market=spot; T4@Region = eu-west-1, L4 ;L4", labels={"cloud": "here"}
    )
    assert first.labels == {"cloud": "gcp", "market": "spot"}
    assert second.labels == {"cloud": "here", "region": "eu-west-1"}
    assert len(second.gpus) == 2
    assert third.labels == {"cloud": "here"}


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("8xH10O", 'at character 1, "8xH10O"', 'Did you mean "H100"'),
        ("8xH100, 2xT5;L4", 'at character 9, "2xT5"', 'no GPU type is called "T5"'),
        ("8xH100;", "at character 8:", "no GPU type is named"),
        ("8xH100,,T4", "at character 8:", "no GPU type is named"),
        ("", "at character 1:", "no GPU type is named"),
        ("8x", 'at character 1, "8x"', "no GPU type is named"),
        ("0xH100", 'at character 1, "0xH100"', 'at least 1, not "0"'),
        ("-1xH100", 'at character 1, "-1xH100"', 'at least 1, not "-1"'),
        ("H100:x", 'at character 1, "H100:x"', 'not "x"'),
        ("H100:", 'at character 1, "H100:"', 'not ""'),
        ("129xT4", 'at character 1, "129xT4"', "at most 128 GPUs"),
        ("100xT4,99xL4", 'at character 8, "99xL4"', "at most 128 GPUs"),
        ("99999999999xT4", "at character 1", "at most 128 GPUs"),
        ("2xany", 'at character 1, "2xany"', "is a request"),
        ("H100!", 'at character 1, "H100!"', "is a request"),
        ("2xA100-33GB", 'at character 1, "2xA100-33GB"', "A100 has no variant with 33 GB"),
        ("H100 @colour=red", 'at character 6, "@colour=red"', "cloud, region, zone, market"),
        ("H100 @cloud", 'at character 6, "@cloud"', "@KEY=VALUE"),
        ("H100@cloud=gcp,T4@cloud=aws", 'at character 18, "@cloud=aws"', "already has cloud=gcp"),
        ("@cloud=gcp", "at character 1:", "no GPU type is named"),
    ],
)
def test_mistakes_name_the_place_and_an_example(text, place, words):
    with pytest.raises(InvalidError) as caught:
        parse_fleet(text)
    message = str(caught.value)
    assert message.startswith(f'GLOWPLUG_GPUS="{text}": {place}')
    assert words in message
    assert '"8xH100,2xT4;4xA100-80GB @cloud=gcp"' in message


def test_too_many_machines():
    with pytest.raises(InvalidError, match="1001 machines"):
        parse_fleet(";".join(["T4"] * 1001))


@given(st.text(alphabet="8x×H100T4A-GB,;@=:! \tcloud", max_size=30))
def test_any_text_gives_machines_or_one_clear_error(text):
    try:
        nodes = parse_fleet(text)
    except InvalidError as error:
        outcome = str(error)
    else:
        outcome = f"{len(nodes)} machines"
    assert re.search(r"at character \d|^[1-9]\d* machines$", outcome)
