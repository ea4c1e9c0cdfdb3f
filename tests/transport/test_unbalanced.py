"""Unbalanced transport against Python Optimal Transport, against the conditions of optimality, and in its limits."""

import math
from inspect import unwrap

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otalab.errors import InputError
from otalab.transport import TransportProblem, solve
from otalab.transport.unbalanced import unbalanced_sinkhorn

TAUS = st.sampled_from([0.05, 0.7, 5.0, math.inf])


def problem(seed, m=4, n=7):
    generator = torch.Generator().manual_seed(seed)
    cost = 3 * torch.rand(m, n, generator=generator, dtype=torch.float64) - 1
    supply = 0.2 + torch.rand(m, generator=generator, dtype=torch.float64)
    demand = 0.2 + torch.rand(n, generator=generator, dtype=torch.float64)
    return cost, supply, demand * (supply.sum() / demand.sum())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), tau_rows=TAUS, tau_columns=TAUS)
def test_the_plan_is_that_of_pot(seed, tau_rows, tau_columns):
    cost, supply, demand = problem(seed)
    plan = unbalanced_sinkhorn(cost, supply, demand, eps=0.3, tau_rows=tau_rows, tau_columns=tau_columns, max_iter=600)
    expected = ot.unbalanced.sinkhorn_unbalanced(
        supply, demand, cost, 0.3, (tau_rows, tau_columns), c=torch.ones_like(cost), numItermax=2000, stopThr=1e-12
    )
    assert torch.allclose(plan, expected, rtol=1e-6, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), eps=st.floats(0.05, 1.0))
def test_the_gradient_of_the_objective_vanishes(seed, eps):
    cost, supply, demand = problem(seed)
    plan = unbalanced_sinkhorn(cost, supply, demand, eps=eps, tau_rows=0.5, tau_columns=2.0, max_iter=400)
    rows, columns = plan.sum(1, keepdim=True), plan.sum(0)
    gradient = cost + eps * plan.log() + 0.5 * (rows / supply[:, None]).log() + 2.0 * (columns / demand).log()
    assert gradient.abs().max() < 1e-9


def test_prices_without_bound_give_the_balanced_plan():
    cost, supply, demand = problem(0)
    plan = unbalanced_sinkhorn(cost, supply, demand, eps=0.1, max_iter=500)
    balanced = solve(TransportProblem(cost, supply, demand), method="sinkhorn", eps=0.1, max_iter=500)
    assert torch.allclose(plan, balanced.plan, atol=1e-9)


def test_a_side_that_costs_nothing_to_miss_is_forgotten():
    cost, supply, demand = problem(1)
    free = unbalanced_sinkhorn(cost, supply, demand, eps=0.2, tau_rows=0.0)
    assert torch.allclose(free, demand * (-cost / 0.2).softmax(dim=0))
    free = unbalanced_sinkhorn(cost, supply, demand, eps=0.2, tau_columns=0.0)
    assert torch.allclose(free, supply[:, None] * (-cost / 0.2).softmax(dim=1))


def test_costs_far_above_eps_neither_overflow_nor_vanish():
    cost, supply, demand = problem(2)
    for dtype in (torch.float32, torch.float64):
        plan = unbalanced_sinkhorn(
            (1e3 * cost).to(dtype), supply.to(dtype), demand.to(dtype), eps=0.1, tau_rows=1e3, tau_columns=1e4
        )
        assert plan.dtype == dtype
        assert plan.isfinite().all()
        assert plan.sum() > 1


def test_a_batch_is_a_loop():
    parts = [problem(seed) for seed in range(3)]
    stacked = [torch.stack(tensors) for tensors in zip(*parts, strict=True)]
    options = {"eps": 0.2, "tau_rows": 0.5, "tau_columns": 3.0}
    batch = unbalanced_sinkhorn(*stacked, **options)
    for index, part in enumerate(parts):
        assert torch.allclose(batch[index], unbalanced_sinkhorn(*part, **options))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cost", lambda cost: cost * math.nan, r"cost\[0, 0\] is nan"),
        ("cost", lambda cost: cost.masked_fill(cost == cost.min(), -math.inf), r"cost\[\d, \d\] is -inf"),
        ("supply", lambda supply: -supply, r"supply\[0\] is -0\.\d+; supply takes finite numbers >= 0"),
        ("demand", lambda demand: demand / 0, r"demand\[0\] is inf"),
        ("supply", lambda supply: supply.sum(), r"supply must be \(4,\) for a cost \(4, 7\), not \(\)"),
        ("demand", lambda demand: demand[:1], r"demand must be \(7,\) for a cost \(4, 7\), not \(1,\)"),
    ],
)
def test_what_would_give_nan_or_be_broadcast_is_refused(name, change, message):
    parts = dict(zip(("cost", "supply", "demand"), problem(0), strict=True))
    with pytest.raises(InputError, match=message):
        unwrap(unbalanced_sinkhorn)(**(parts | {name: change(parts[name])}), eps=0.1)  # past the tests' own checks


@pytest.mark.parametrize("tau", [0.0, 0.5, math.inf])
def test_rows_without_goods_and_forbidden_routes_ship_nothing(tau):
    cost, supply, demand = problem(3)
    supply[1], demand[2] = 0.0, 0.0
    cost[2, 3] = math.inf
    plan = unbalanced_sinkhorn(cost, supply, demand, eps=0.2, tau_rows=tau, tau_columns=1.0)
    assert plan.isfinite().all()
    assert not plan[1].any() and not plan[:, 2].any() and plan[2, 3] == 0
    kept = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 3, 4, 5, 6])
    alone = unbalanced_sinkhorn(
        cost[kept[0][:, None], kept[1]], supply[kept[0]], demand[kept[1]], eps=0.2, tau_rows=tau, tau_columns=1.0
    )
    assert torch.allclose(plan[kept[0][:, None], kept[1]], alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, "eps must be positive"),
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1"),
        ({"tau_rows": -1.0}, "tau_rows must not be negative, not -1.0"),
        ({"tau_columns": math.nan}, "tau_columns must not be negative, not nan"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        unbalanced_sinkhorn(*problem(0), **({"eps": 0.1} | options))
