"""What the demo asks of real machines."""

from __future__ import annotations

from glowplug.cli.demo.cards import cards_of
from glowplug.model.gpu import parse_gpu
from glowplug.model.node import ForeignUse, Gpu, Node


def machine(*gpus: Gpu, virtual: bool = False) -> list[Node]:
    return [Node("box", gpus, virtual=virtual)]


def card(number: int, type: str = "H100", memory_gb: int = 80, **facts) -> Gpu:
    return Gpu(f"GPU-{number}", type, memory_gb, number, **facts)


def test_one_card_is_all_cards_and_maps_run_without_it():
    cards = cards_of(machine(card(0)))
    assert cards is not None
    assert (cards.one, cards.many, cards.count, cards.mapped) == ("H100", "H100", 1, None)
    assert cards.fallbacks == ("B200", "H100")
    assert cards.fleet == ""


def test_several_cards_of_a_variant_are_asked_for_together():
    cards = cards_of(machine(*(card(number, "A100", 80) for number in range(3)), card(3, "T4", 16)))
    assert cards is not None
    assert (cards.one, cards.many, cards.count, cards.mapped) == ("A100-80GB", "A100-80GB:3", 3, "A100-80GB")


def test_no_more_than_a_type_allows():
    cards = cards_of(machine(*(card(number, "A10G", 24) for number in range(6))))
    assert cards is not None
    assert cards.many == "A10G:4"


def test_the_absent_fallback_is_absent():
    cards = cards_of(machine(card(0, "B200", 180), card(1, "H200", 141)))
    assert cards is not None
    assert cards.fallbacks[0] == "T4"


def test_cards_of_others_and_slices_do_not_count():
    foreign = (ForeignUse(4711, "ann", 2048),)
    assert cards_of(machine(card(0, foreign=foreign), card(1, "A100", 20, is_slice=True))) is None
    cards = cards_of(machine(card(0, foreign=foreign), card(1), card(2, healthy=False)))
    assert cards is not None
    assert (cards.many, cards.count) == ("H100", 1)


def test_a_virtual_fleet_is_not_taken_for_a_real_one():
    assert cards_of(machine(card(0), virtual=True)) is None


def test_what_is_asked_can_be_asked():
    cards = cards_of(machine(card(0), card(1)))
    assert cards is not None
    for value in cards.asked.values():
        parse_gpu(value)
