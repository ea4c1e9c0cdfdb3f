"""The checker of lesson 07 runs the answer and tells blur from too few iterations."""

import numpy as np
import pytest
import torch

from otalab.lessons import lesson07


@pytest.mark.parametrize(
    ("eps", "iterations"),
    [
        (0.01, 400),
        (0.01, 300),
        (np.float64(0.011), np.int64(380)),
        (torch.tensor(0.01), 400.0),
        ([0.01], torch.tensor([350])),
    ],
)
def test_a_sharp_eps_with_enough_iterations_passes(eps, iterations):
    verdict = lesson07.check(eps, iterations)
    assert verdict.passed and "sharp enough" in verdict.message


@pytest.mark.parametrize(
    ("eps", "iterations", "hint"),
    [
        (0.1, 50, "blurs"),
        (0.1, 200, "blurs"),
        (0.02, 400, "blurs"),
        (0.02, 20, "Is the budget used"),
        (0.01, 50, "Is the budget used"),
        (0.005, 400, "sooner there"),
        (0.01, 401, "exceed the budget"),
        (1e-300, 10, "far from any"),
    ],
)
def test_a_wrong_choice_gets_the_hint_that_fits_it(eps, iterations, hint):
    verdict = lesson07.check(eps, iterations)
    assert not verdict.passed and hint in verdict.message


@pytest.mark.parametrize("eps", [None, "small", 0, -1.0, float("nan"), float("inf"), True, [0.1, 0.2], 1j])
def test_an_eps_that_is_none_gets_a_hint(eps):
    verdict = lesson07.check(eps, 50)
    assert not verdict.passed and "eps" in verdict.message


@pytest.mark.parametrize("iterations", [None, "many", 0, -3, 10.5, True, {}])
def test_iterations_that_are_none_get_a_hint(iterations):
    verdict = lesson07.check(0.02, iterations)
    assert not verdict.passed and "iterations" in verdict.message


def test_no_answer_gets_a_hint():
    assert not lesson07.check().passed
