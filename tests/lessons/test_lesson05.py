"""Lesson 05's checker takes any exact solver of the problem, and hints at the mistake in others."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from otalab.lessons import lesson05
from otalab.transport import TransportProblem, solve


def by_matching(price, k):
    owner = torch.arange(len(k)).repeat_interleave(k)
    copies, points = linear_sum_assignment(price[owner].numpy())
    labels = torch.full((price.shape[1],), -1)
    labels[points] = owner[copies]
    return labels


def right(cost, k):
    return by_matching(cost[:-1] - cost[-1], k)


def by_linear_program(cost, k):
    supply = torch.cat((k, cost.shape[1] - k.sum(dim=0, keepdim=True)))
    labels = solve(TransportProblem(cost, supply, torch.ones(cost.shape[1])), method="linprog").labels
    return labels.where(labels < len(k), -1).numpy()


def greedy(cost, k):
    labels = torch.full((cost.shape[1],), -1)
    for row, count in enumerate(k.tolist()):
        labels[(cost[row] - cost[-1]).argsort()[:count]] = row
    return labels


def in_turn(cost, k):
    over, labels = cost[:-1] - cost[-1], torch.full((cost.shape[1],), -1)
    for row, count in enumerate(k.tolist()):
        labels[over[row].where(labels < 0, torch.inf).argsort()[:count]] = row
    return labels


def backwards(cost, k):
    return by_matching((cost[-1] - cost[:-1]).nan_to_num(neginf=-1e6), k)


def numbers_of_copies(cost, k):
    _, points = linear_sum_assignment((cost[:-1] - cost[-1]).repeat_interleave(k, dim=0).numpy())
    labels = torch.full((cost.shape[1],), -1)
    labels[points] = torch.arange(int(k.sum()))
    return labels


def test_matching_and_the_linear_program_itself_pass_with_a_reason():
    for answer in (right, by_linear_program, lambda cost, k: right(cost, k).tolist()):
        verdict = lesson05.check(answer)
        assert verdict.passed and "background" in verdict.message


@pytest.mark.parametrize(
    "answer, hint",
    [
        (None, "No answer yet"),
        (..., "No answer yet"),
        (7, "the function itself"),
        (lambda cost, k: None, "returns nothing"),
        (lambda cost, k: cost, "one label for each point"),
        (lambda cost, k: object(), "integers"),
        (lambda cost, k: np.full(cost.shape[1], 0.5), "whole numbers"),
        (lambda cost, k: torch.full((cost.shape[1],), torch.nan), "whole numbers"),
        (lambda cost, k: [99] * cost.shape[1], "-1..1"),
        (lambda cost, k: right(cost, k).where(right(cost, k) >= 0, len(k)), "convention"),
        (numbers_of_copies, "a gt's copy"),
        (lambda cost, k: 1 / 0, "ZeroDivisionError"),
        (lambda cost: None, "TypeError"),
        (lambda cost, k: [-1] * cost.shape[1], "k times"),
        (lambda cost, k: [0] * cost.shape[1], "no more"),
        (greedy, "same point"),
        (in_turn, "one call"),
        (backwards, "sign"),
        (lambda cost, k: by_matching(cost[:-1], k), "Who pays"),
    ],
)
def test_a_wrong_answer_gets_a_hint_that_fits(answer, hint):
    verdict = lesson05.check(answer)
    assert not verdict.passed and hint in verdict.message


def test_an_answer_that_writes_into_its_input_is_judged_by_the_true_cost():
    def spoil(cost, k):
        labels = right(cost, k)
        cost.zero_()
        k.zero_()
        return labels

    assert lesson05.check(spoil).passed


def test_a_forbidden_route_is_named():
    *_, (title, problem) = lesson05.problems()
    k = problem.supply[:-1].long()
    labels = right(problem.cost, k)
    taken = int((labels == 0).nonzero()[0])
    free = int(((labels == -1) & problem.cost[0].isinf()).nonzero()[0])
    labels[taken], labels[free] = -1, 0
    assert "forbidden" in title and "forbidden" in lesson05.fault(labels, problem, k)
