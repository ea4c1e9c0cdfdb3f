"""The checker of lesson 08 runs the repaired rule and tells its faults apart."""

import pytest
import torch

from otalab.assign.base import top_k
from otalab.lessons import lesson08


def repaired(cost, k, off=1, ties=True, worth=lambda price, cost: price - cost):
    """Conflicts by price; the options are mistakes."""
    taken = top_k(-cost, k)
    price = cost.sort(dim=1).values.gather(1, k[:, None] - off)
    gain = worth(price, cost).masked_fill(~taken, -torch.inf)
    wins = taken & (gain == gain.amax(dim=0))
    owner = cost.masked_fill(~wins, torch.inf).argmin(dim=0) if ties else wins.flip(0).byte().argmax(dim=0)
    owner = owner if ties else len(k) - 1 - owner
    return owner.masked_fill(~taken.any(dim=0), -1)


def test_conflicts_settled_by_price_pass_with_the_reason():
    verdict = lesson08.check(repaired)
    assert verdict.passed and "no other labels cost less" in verdict.message


@pytest.mark.parametrize("kind", [torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.int])
def test_labels_may_be_a_list_or_an_array(kind):
    assert lesson08.check(lambda cost, k: kind(repaired(cost, k))).passed


def test_the_problem_by_hand_is_settled_as_the_lesson_says():
    cost, k = lesson08.problems()[0]
    assert lesson08.settled(cost, k, "cost").tolist() == [0, 0, -1, -1, -1]
    assert lesson08.settled(cost, k, "price").tolist() == [1, 0, -1, -1, -1]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda cost, k: lesson08.settled(cost, k, "cost"), "still go to the least cost"),
        (lambda cost, k: repaired(cost, k, ties=False), "gain equally"),
        (lambda cost, k: cost.argmin(dim=0).masked_fill(~top_k(-cost, k).any(dim=0), -1), "did not take it"),
        (lambda cost, k: repaired(cost, k, off=0), "counted from 1"),
        (lambda cost, k: repaired(cost, k, worth=lambda price, cost: cost - price), "sign"),
        (lambda cost, k: repaired(cost, k, worth=lambda price, cost: price.expand_as(cost)), "A high price alone"),
        (lambda cost, k: cost.argmin(dim=0), "nobody's"),
        (lambda cost, k: torch.full_like(cost[0], -1), "has a label"),
        (lambda cost, k: torch.where(repaired(cost, k) < 0, -1, 99), "gts are -1 to"),
        (lambda cost, k: 1 / 0, "ZeroDivisionError"),
        (lambda cost, k: None, "NoneType"),
        (lambda cost, k: cost, "have the shape"),
        (lambda cost, k: cost[0] + 0.5, "whole numbers"),
        (lambda cost: cost, "TypeError"),
    ],
)
def test_a_wrong_rule_gets_the_hint_that_fits_it(answer, said):
    verdict = lesson08.check(answer)
    assert not verdict.passed and said in verdict.message


@pytest.mark.parametrize("answer", [None, 3, "by price", torch.zeros(5)])
def test_what_is_no_function_gets_a_hint(answer):
    verdict = lesson08.check(answer)
    assert not verdict.passed and "function" in verdict.message
