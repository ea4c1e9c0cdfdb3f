"""The checker of lesson 02 accepts a column step in the log domain, and nothing else."""

import pytest
import torch

from otalab.lessons import lesson02
from otalab.lessons.lesson02 import check


def right(f, g, cost, supply, demand, eps):
    return f, eps * (demand.log() - torch.logsumexp((f[:, None] - cost) / eps, dim=0))


def correction(f, g, cost, supply, demand, eps):  # another way to the same
    plan = torch.exp((f[:, None] + g - cost) / eps)
    return f, g + eps * (demand / plan.sum(0)).log()


def one_iteration(f, g, cost, supply, demand, eps):
    f, g = right(f, g, cost, supply, demand, eps)
    return eps * (supply.log() - torch.logsumexp((g - cost) / eps, dim=1)), g


def in_the_kernel(f, g, cost, supply, demand, eps):
    return f, eps * (demand / (torch.exp(f / eps) @ torch.exp(-cost / eps))).log()


def without_demand(f, g, cost, supply, demand, eps):
    return f, -eps * torch.logsumexp((f[:, None] - cost) / eps, dim=0)


def in_float32(f, g, cost, supply, demand, eps):
    return f, right(f.float(), g, cost.float(), supply, demand.float(), eps)[1]


@pytest.mark.parametrize("step", [right, correction])
def test_columns_made_exact_and_no_label_changed_is_right(step):
    verdict = check(step, 0)
    assert verdict.passed and "f alone" in verdict.message


@pytest.mark.parametrize(
    ("step", "hint"),
    [
        (lambda f, g, *rest: (f, g), "Nothing has changed"),
        (one_iteration, "f has moved"),
        (in_the_kernel, "exponentiate"),
        (without_demand, "Where does demand come in"),
        (in_float32, "float64"),
        (lambda f, g, *rest: (f, g + 1), "Which axis"),
        (lambda f, g, *rest: (f, g * torch.nan), "finite"),
        (lambda f, g, *rest: g, "Return the pair"),
        (lambda f, g, *rest: (g, f), "Return the pair"),
        (lambda f, g, *rest: None, "Return the pair"),
        (lambda f, g: (f, g), "raises TypeError"),
    ],
)
def test_a_wrong_step_gets_the_hint_that_fits(step, hint):
    verdict = check(step, 0)
    assert not verdict.passed and hint in verdict.message


@pytest.mark.parametrize("step", [None, 3, "rows", ...])
def test_no_function_gets_a_hint(step):
    verdict = check(step, None)
    assert not verdict.passed and "function" in verdict.message


@pytest.mark.parametrize("guess", [0.0, torch.tensor(0), torch.tensor([0.0])])
def test_the_prediction_may_be_a_number_of_any_type(guess):
    assert check(right, guess).passed


@pytest.mark.parametrize("guess", [None, "none", 0.5, False, ...])
def test_no_prediction_gets_a_hint(guess):
    verdict = check(right, guess)
    assert not verdict.passed and "prediction" in verdict.message


@pytest.mark.parametrize("guess", [1, -1, 28, torch.tensor(5)])
def test_a_wrong_prediction_is_told_without_the_answer(guess):
    verdict = check(right, guess)
    assert not verdict.passed and "ratio" in verdict.message and "0" not in verdict.message


def test_the_trials_start_with_exact_rows_and_wrong_columns_and_one_has_a_kernel_of_zeros():
    for _, solution, _ in lesson02.trials():
        assert solution.row_error < 1e-9 < 1e-3 < solution.col_error
    _, last, eps = lesson02.trials()[-1]
    assert (torch.exp(-last.problem.cost / eps) == 0).all()
