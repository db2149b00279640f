"""Schedules: closed forms, the same on numbers and tensors, bounds."""

import math
import pickle

import pytest
import torch

from reweight.torch import Anneal, LossBasedWeighter


@pytest.mark.parametrize(
    ("kind", "quarter"),
    [
        ("linear", 0.75 * 8 + 0.25 * 2),
        ("cosine", 2 + 6 * (1 + math.cos(math.pi / 4)) / 2),
        ("exponential", 8**0.75 * 2**0.25),
    ],
)
def test_closed_form_on_numbers_and_tensors(kind, quarter):
    schedule = Anneal(8.0, 2.0, steps=8, kind=kind)
    for step, value in {0: 8.0, 2: quarter, 8: 2.0, 100: 2.0}.items():
        assert schedule(step) == pytest.approx(value)
        assert schedule(torch.tensor(step)).item() == pytest.approx(value)
    assert pickle.loads(pickle.dumps(schedule)) == schedule


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 2.0, 0), "steps=0"),
        ((1.0, 2.0, 3, "square"), "kind='square' is unknown"),
        ((1.0, math.inf, 3), "both values must be finite"),
        ((1.0, -1.0, 3, "exponential"), "no common sign"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Anneal(*arguments)


def test_a_weighter_follows_its_schedule_and_checks_it():
    loss = torch.tensor([0.0, 1.0])
    weigh = LossBasedWeighter(temperature=lambda step: 1.0 / (2 - step))
    for temperature in (0.5, 1.0):
        ratio = weigh.weights(loss)[1] / weigh.weights(loss)[0]
        assert ratio.item() == pytest.approx(math.exp(1 / temperature))
        weigh(loss)
    weigh.set_step(0)
    assert weigh.scheduled("temperature") == 0.5
    with pytest.raises(
        ValueError, match=r"LossBasedWeighter: temperature=-1\.0; it must be finite"
    ):
        weigh.set_step(3)
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="must be finite and > 0"):
            LossBasedWeighter(temperature=temperature)
