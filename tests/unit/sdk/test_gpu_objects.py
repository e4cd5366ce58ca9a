"""GPU requests as objects: what each era could write means what its string means."""

from __future__ import annotations

import pytest

from glowplug import gpu
from glowplug.model.errors import DeprecationError, InvalidError
from glowplug.model.gpu import parse_gpu


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: gpu.Any(), "any"),
        (lambda: gpu.Any(count=2), "any:2"),
        (lambda: gpu.T4(), "T4"),
        (lambda: gpu.T4(2), "T4:2"),
        (lambda: gpu.T4(count=2), "T4:2"),
        (lambda: gpu.L4(), "L4"),
        (lambda: gpu.A10G(count=2), "A10G:2"),
        (lambda: gpu.A100(), "A100"),
        (lambda: gpu.A100(memory=0), "A100"),
        (lambda: gpu.A100(memory=20), "A100-20GB"),
        (lambda: gpu.A100(memory=40), "A100-40GB"),
        (lambda: gpu.A100(memory=80, count=2), "A100-80GB:2"),
        (lambda: gpu.A100(size="40GB"), "A100-40GB"),
        (lambda: gpu.A100(size="80gb", count=4), "A100-80GB:4"),
        (lambda: gpu.H100(count=8), "H100:8"),
        (lambda: gpu.L40S(), "L40S"),
    ],
)
def test_objects_mean_their_string_and_say_it(make, text):
    with pytest.warns(DeprecationError, match=f'gpu="{text}"') as warned:
        made = make()
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert str(made) == text
    assert parse_gpu(made) == parse_gpu(text)
    assert parse_gpu([made, "T4"]) == parse_gpu([text, "T4"])


@pytest.mark.filterwarnings("ignore::glowplug.model.errors.DeprecationError")
@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda: parse_gpu(gpu.A100(count=0)), "at least 1"),
        (lambda: parse_gpu(gpu.A10G(count=5)), "up to 4"),
        (lambda: parse_gpu(gpu.T4("x")), "whole number"),
        (lambda: parse_gpu(gpu.A100(memory=30)), "30 GB"),
        (lambda: gpu.A100(size="60GB"), "the sizes are"),
        (lambda: gpu.A100(size="80GB", memory=80), "give one"),
        (lambda: gpu.Inferentia2(), "no GPU"),
    ],
)
def test_what_cannot_be_is_refused(use, text):
    with pytest.raises(InvalidError, match=text):
        use()


def test_only_the_oldest_take_a_count_without_its_name():
    with pytest.raises(TypeError):
        gpu.A10G(2)
