"""What ``gpu=VALUE`` means here beside what each official client made of it.

Measured by calling the clients' own parser. Where these differ among themselves, the newest that accepts
a value decides, since scripts of every year are to run. Where we differ from that, the row says why.
"""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from glowplug.model.errors import DeprecationError
from glowplug.model.gpu import format_request, parse_gpu
from glowplug.sdk import gpu

CLIENTS = ("0.55.4216", "0.62.181", "0.73.172", "1.0.5", "1.6.4")
# Accepted by clients that leave the judgement to their server, which knows no such type either.
NO_GPU_TYPES = {"INF2", "FOO", ""}
REFUSALS = {"InvalidError", "ValueError", "TypeError", "AttributeError", "DeprecationError"}


class Row(NamedTuple):
    value: str
    """As a script writes it."""
    ours: str
    """The requests in their string form, "none" for no GPU, or the class of the error."""
    theirs: tuple[str, ...]
    """By client; a count of 0 is one that the client left to its server."""
    why: str = ""

    @property
    def expected(self) -> str:
        """What the newest client that accepts the value makes of it, else how the newest refuses it."""
        accepted = [outcome for outcome in self.theirs if outcome not in REFUSALS]
        return accepted[-1] if accepted else self.theirs[-1]


ROWS = (
    Row("None", "none", ("none", "none", "none", "none", "none")),
    Row(
        "True",
        "any",
        ("DeprecationError", "DeprecationError", "InvalidError", "InvalidError", "InvalidError"),
        'taken as "any" with a deprecation warning: the oldest scripts mean that',
    ),
    Row("False", "none", ("none", "none", "InvalidError", "InvalidError", "InvalidError")),
    Row('"any"', "any", ("any", "any", "any", "any", "any")),
    Row('"ANY"', "any", ("any", "any", "any", "any", "any")),
    Row('"t4"', "T4", ("T4", "T4", "T4", "T4", "T4")),
    Row('"T4"', "T4", ("T4", "T4", "T4", "T4", "T4")),
    Row('"L4"', "L4", ("L4", "L4", "L4", "L4", "L4")),
    Row('"a10"', "A10G", ("InvalidError", "InvalidError", "A10", "A10", "A10"), "one type with two names"),
    Row('"A10"', "A10G", ("InvalidError", "InvalidError", "A10", "A10", "A10"), "one type with two names"),
    Row('"a10g"', "A10G", ("A10G", "A10G", "A10G", "A10G", "A10G")),
    Row('"A10G"', "A10G", ("A10G", "A10G", "A10G", "A10G", "A10G")),
    Row('"A100"', "A100", ("A100", "A100-40GB", "A100", "A100", "A100")),
    Row(
        '"a100-20g"',
        "A100-20GB",
        ("ValueError", "ValueError", "A100-20G", "A100-20G", "A100-20G"),
        "the same slice, written in full",
    ),
    Row('"A100-20GB"', "A100-20GB", ("InvalidError", "InvalidError", "A100-20GB", "A100-20GB", "A100-20GB")),
    Row('"a100-40gb"', "A100-40GB", ("InvalidError", "A100-40GB", "A100-40GB", "A100-40GB", "A100-40GB")),
    Row('"A100-80GB"', "A100-80GB", ("InvalidError", "A100-80GB", "A100-80GB", "A100-80GB", "A100-80GB")),
    Row('"L40S"', "L40S", ("InvalidError", "InvalidError", "L40S", "L40S", "L40S")),
    Row('"H100"', "H100", ("InvalidError", "H100", "H100", "H100", "H100")),
    Row('"H100!"', "H100!", ("InvalidError", "InvalidError", "H100!", "H100!", "H100!")),
    Row('"h200"', "H200", ("InvalidError", "InvalidError", "H200", "H200", "H200")),
    Row('"B200"', "B200", ("InvalidError", "InvalidError", "B200", "B200", "B200")),
    Row('"B200+"', "B200+", ("InvalidError", "InvalidError", "B200+", "B200+", "B200+")),
    Row(
        '"RTX-PRO-6000"',
        "RTX-PRO-6000",
        ("InvalidError", "InvalidError", "RTX-PRO-6000", "RTX-PRO-6000", "RTX-PRO-6000"),
    ),
    Row(
        '"inf2"',
        "InvalidError",
        ("INF2", "InvalidError", "INF2", "INF2", "INF2"),
        "no GPU, and nothing here can stand in for it",
    ),
    Row('"H100:8"', "H100:8", ("InvalidError", "H100:8", "H100:8", "H100:8", "H100:8")),
    Row(
        '"H100:0"',
        "InvalidError",
        ("InvalidError", "H100:0", "H100:0", "H100:0", "H100:0"),
        "refused where it is written, not by a server later",
    ),
    Row(
        '"H100:-1"',
        "InvalidError",
        ("InvalidError", "ValueError", "ValueError", "ValueError", "ValueError"),
        "one class of error for every bad value",
    ),
    Row(
        '"H100:"',
        "InvalidError",
        ("InvalidError", "InvalidError", "InvalidError", "InvalidError", "InvalidError"),
    ),
    Row(
        '"H100:x"',
        "InvalidError",
        ("InvalidError", "InvalidError", "InvalidError", "InvalidError", "InvalidError"),
    ),
    Row('"H100!:8"', "H100!:8", ("InvalidError", "InvalidError", "H100!:8", "H100!:8", "H100!:8")),
    Row(
        '"H100:8:2"',
        "InvalidError",
        ("InvalidError", "InvalidError", "InvalidError", "InvalidError", "InvalidError"),
    ),
    Row(
        '" H100"',
        "H100",
        ("InvalidError", "InvalidError", " H100", " H100", " H100"),
        "spaces do not matter; the clients leave the space to the server",
    ),
    Row(
        '"H100 :2"',
        "H100:2",
        ("InvalidError", "InvalidError", "H100 :2", "H100 :2", "H100 :2"),
        "spaces do not matter; the clients leave the space to the server",
    ),
    Row(
        '""',
        "InvalidError",
        ("InvalidError", "InvalidError", "", "", ""),
        "names nothing; refused where it is written",
    ),
    Row(
        '"foo"',
        "InvalidError",
        ("InvalidError", "InvalidError", "FOO", "FOO", "FOO"),
        "refused where it is written; types of an operator are told to the parser",
    ),
    Row(
        '["H100","A100:2"]',
        "H100, A100:2",
        ("InvalidError", "InvalidError", "InvalidError", "InvalidError", "InvalidError"),
        "a list is fallbacks; the clients read it elsewhere, before this function",
    ),
    Row(
        '("H100",)',
        "H100",
        ("InvalidError", "InvalidError", "InvalidError", "InvalidError", "InvalidError"),
        "a tuple is fallbacks too",
    ),
    Row(
        "42", "InvalidError", ("InvalidError", "InvalidError", "InvalidError", "InvalidError", "InvalidError")
    ),
    Row("modal.gpu.T4()", "T4", ("T4", "T4", "T4", "T4", "AttributeError")),
    Row("modal.gpu.T4(2)", "T4:2", ("T4:2", "T4:2", "T4:2", "T4:2", "AttributeError")),
    Row("modal.gpu.T4(count=2)", "T4:2", ("T4:2", "T4:2", "T4:2", "T4:2", "AttributeError")),
    Row("modal.gpu.L4()", "L4", ("L4", "L4", "L4", "L4", "AttributeError")),
    Row("modal.gpu.A10G(count=2)", "A10G:2", ("A10G:2", "A10G:2", "A10G:2", "A10G:2", "AttributeError")),
    Row(
        "modal.gpu.A10G(2)",
        "TypeError",
        ("TypeError", "TypeError", "TypeError", "TypeError", "AttributeError"),
    ),
    Row(
        "modal.gpu.A100()",
        "A100",
        ("A100", "A100-40GB", "A100-40GB", "A100-40GB", "AttributeError"),
        "40 GB preferred, and an 80 GB card when none is left",
    ),
    Row(
        "modal.gpu.A100(memory=20)",
        "A100-20GB",
        ("ValueError", "ValueError", "TypeError", "TypeError", "AttributeError"),
        "the slice of 2023, which no later client has",
    ),
    Row(
        "modal.gpu.A100(memory=40)",
        "A100-40GB",
        ("A100-40GB", "A100-40GB", "TypeError", "TypeError", "AttributeError"),
    ),
    Row(
        "modal.gpu.A100(memory=80)",
        "A100-80GB",
        ("A100-80GB", "A100-80GB", "TypeError", "TypeError", "AttributeError"),
    ),
    Row(
        'modal.gpu.A100(size="40GB")',
        "A100-40GB",
        ("TypeError", "A100-40GB", "A100-40GB", "A100-40GB", "AttributeError"),
    ),
    Row(
        'modal.gpu.A100(size="80GB",count=4)',
        "A100-80GB:4",
        ("TypeError", "A100-80GB:4", "A100-80GB:4", "A100-80GB:4", "AttributeError"),
    ),
    Row(
        'modal.gpu.A100(size="20GB")',
        "A100-20GB",
        ("TypeError", "ValueError", "ValueError", "ValueError", "AttributeError"),
        "as memory=20",
    ),
    Row(
        "modal.gpu.A100(count=0)",
        "InvalidError",
        ("A100:0", "A100-40GB:0", "A100-40GB:0", "A100-40GB:0", "AttributeError"),
        "refused where it is written, not by a server later",
    ),
    Row(
        "modal.gpu.H100(count=8)",
        "H100:8",
        ("AttributeError", "H100:8", "H100:8", "H100:8", "AttributeError"),
    ),
    Row("modal.gpu.L40S()", "L40S", ("AttributeError", "AttributeError", "L40S", "L40S", "AttributeError")),
    Row(
        "modal.gpu.H200()",
        "AttributeError",
        ("AttributeError", "AttributeError", "AttributeError", "AttributeError", "AttributeError"),
    ),
    Row("modal.gpu.Any()", "any", ("any", "any", "any", "any", "AttributeError")),
    Row("modal.gpu.Any(count=2)", "any:2", ("any:2", "any:2", "any:2", "any:2", "AttributeError")),
    Row(
        "modal.gpu.Inferentia2()",
        "InvalidError",
        ("INF2", "AttributeError", "AttributeError", "AttributeError", "AttributeError"),
        "no GPU, and nothing here can stand in for it",
    ),
    Row(
        '[modal.gpu.H100(),"a100"]',
        "H100, A100",
        ("AttributeError", "InvalidError", "InvalidError", "InvalidError", "AttributeError"),
        "objects mix with strings",
    ),
)


def outcome(text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationError)
            value: Any = eval(text, {"modal": SimpleNamespace(gpu=gpu)})
            requests = parse_gpu(value)
    except Exception as error:  # the class is what is compared
        return type(error).__name__
    return ", ".join(map(format_request, requests)) or "none"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.value)
def test_a_value_means(row: Row) -> None:
    assert outcome(row.value) == row.ours


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.value)
def test_a_difference_has_its_reason_and_only_a_difference_has_one(row: Row) -> None:
    same = row.ours == row.expected or {row.ours, row.expected} <= REFUSALS - {"InvalidError"}
    assert bool(row.why) is not same


def test_the_table_is_whole() -> None:
    assert len(ROWS) == len({row.value for row in ROWS}) == 60
    assert all(len(row.theirs) == len(CLIENTS) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.value)
def test_no_valid_request_of_any_client_is_refused(row: Row) -> None:
    accepted = {each for each in row.theirs if each not in REFUSALS and not each.endswith(":0")}
    assert row.ours not in REFUSALS or accepted <= NO_GPU_TYPES


def test_objects_warn_and_strings_do_not() -> None:
    with pytest.warns(DeprecationError, match="H100:8"):
        value = gpu.H100(count=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_gpu(value)
