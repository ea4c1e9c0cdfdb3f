"""Lesson 05's checker takes any exact solver of the problem, and hints at the mistake in others."""

import networkx
import numpy as np
import ot
import pytest
import torch
from scipy.optimize import LinearConstraint, linear_sum_assignment, milp

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


def of_all_rows(cost, k):
    """The background has copies too, and every point belongs to one of n rows."""
    owner = torch.arange(len(k) + 1).repeat_interleave(torch.cat((k, cost.shape[1] - k.sum(0, keepdim=True))))
    rows, points = linear_sum_assignment(cost[owner].numpy())
    labels = owner[rows[points.argsort()]]
    return np.where(labels == len(k), -1, labels)


def by_gain(cost, k):
    gain = (cost[-1] - cost[:-1]).numpy().repeat(k.numpy(), axis=0)
    copies, points = linear_sum_assignment(gain, maximize=True)
    labels = [-1] * cost.shape[1]
    for copy, point in zip(copies, points, strict=True):
        labels[point] = int(np.searchsorted(np.cumsum(k.numpy()), copy, side="right"))
    return labels


def by_pot(cost, k):
    supply = np.append(k, cost.shape[1] - k.sum()).astype(float)
    plan = ot.emd(supply, np.ones(cost.shape[1]), cost.clamp(max=1e6).numpy())
    labels = plan.argmax(axis=0).astype(np.int32)
    labels[labels == len(k)] = -1
    return labels


def by_whole_numbers(cost, k):
    """A program of whole numbers: x_ij = 1 where point j gets gt i's label."""
    m, n = len(k), cost.shape[1]
    rows, columns = np.kron(np.eye(m), np.ones(n)), np.kron(np.ones(m), np.eye(n))
    over = (cost[:-1] - cost[-1]).flatten().numpy()
    limits = LinearConstraint(rows, k, k), LinearConstraint(columns, 0, 1)
    found = milp(np.minimum(over, 1e6), constraints=limits, integrality=1, bounds=(0, 1))
    x = found.x.reshape(m, n).round()
    return torch.from_numpy(np.where(x.any(0), x.argmax(0), -1)).float()


def by_flow(cost, k):
    """A flow of least cost; networkx wants whole costs, so a billionth is the unit."""
    over, graph = (cost[:-1] - cost[-1]), networkx.DiGraph()
    graph.add_node("end", demand=int(k.sum()))
    for j in range(cost.shape[1]):
        graph.add_edge(j, "end", capacity=1)
    for i, count in enumerate(k.tolist()):
        graph.add_node(f"gt {i}", demand=-count)
        for j in over[i].isfinite().nonzero().flatten().tolist():
            graph.add_edge(f"gt {i}", j, capacity=1, weight=round(1e9 * float(over[i, j])))
    _, flow = networkx.network_simplex(graph)
    labels = torch.full((cost.shape[1],), -1)
    for i in range(len(k)):
        labels[[j for j, sent in flow[f"gt {i}"].items() if sent]] = i
    return labels


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


@pytest.mark.parametrize(
    "answer",
    [
        right,
        by_linear_program,
        of_all_rows,
        by_gain,
        by_pot,
        by_whole_numbers,
        by_flow,
        lambda cost, k: right(cost, k).tolist(),
    ],
)
def test_any_exact_way_passes_with_a_reason(answer):
    verdict = lesson05.check(answer)
    assert verdict.passed and "background" in verdict.message, verdict


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
