import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from otalab.errors import InputError
from otalab.transport import TransportProblem, c_transform, certify, solve

from .instances import EXACT, ota_like, problems, quick


@given(problem=problems(), data=st.data())
@quick
def test_any_potential_whatever_bounds_the_optimum_from_below(problem, data):
    m, n = problem.shape
    best = solve(problem, "linprog").objective
    slack = EXACT * (1 + best.abs())
    values = st.floats(-50, 50)
    plan = torch.zeros(m, n)
    assert (
        certify(problem, plan, f=data.draw(hnp.arrays(np.float64, m, elements=values))).dual_objective <= best + slack
    )
    assert (
        certify(problem, plan, g=data.draw(hnp.arrays(np.float64, n, elements=values))).dual_objective <= best + slack
    )


@given(problem=problems())
@quick
def test_the_potentials_of_a_certificate_are_feasible_and_tight(problem):
    certificate = certify(problem, torch.zeros(problem.shape), f=torch.arange(problem.shape[0]))
    slack = problem.cost - certificate.f[:, None] - certificate.g
    slack = slack[:, certificate.g.isfinite()]  # else no route leads there
    assert (slack > -1e-12).all() and (slack.amin(0) < 1e-12).all()
    assert torch.equal(certificate.g, c_transform(problem.cost, certificate.f))


@given(problem=problems())
@quick
def test_without_potentials_the_gap_is_the_excess_over_the_optimum(problem):
    best = solve(problem, "linprog").objective
    mass = problem.supply.sum()
    plan = torch.outer(problem.supply, problem.demand) / mass if mass > 0 else torch.zeros(problem.shape).double()
    certificate = certify(problem, plan)
    excess = certificate.objective - best
    assert certificate.gap == excess or (certificate.gap - excess).abs() <= EXACT * (1 + best.abs())
    assert (certificate.relative_gap >= -EXACT) and certificate.row_error <= 1e-12


@pytest.fixture(scope="module")
def optimum():
    return solve(ota_like(), "assignment")


def test_an_optimal_plan_is_accepted_as_tensor_and_as_array(optimum):
    plan, f, g = optimum.plan, optimum.f, optimum.g
    read_only = plan.numpy().copy()
    read_only.flags.writeable = False
    for given_plan, given_f, given_g in ((plan, f, None), (read_only, None, g.numpy()), (plan, None, None)):
        certificate = certify(optimum.problem, given_plan, given_f, given_g)
        assert certificate.is_optimal() and certificate.relative_gap.abs() <= EXACT


def exchanged(plan):  # two columns change owners: feasible, dearer
    labels = plan.argmax(0)
    a, b = (labels == 0).nonzero()[0, 0], (labels == 3).nonzero()[0, 0]
    plan[:, [a, b]] = plan[:, [b, a]]


def negative(plan):  # twice a cheap exchange, undone below zero: sums are kept
    labels = plan.argmax(0)
    a, b = (labels == 0).nonzero()[0, 0], (labels == 3).nonzero()[0, 0]
    step = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=plan.dtype) * 1e-3
    plan[np.ix_([0, 3], [a, b])] += step


def lost(plan):
    plan[0, plan.argmax(1)[0]] = 0


def doubled(plan):
    plan *= 2


def moved_within_a_row(plan):  # rows right, columns wrong
    a = plan[3].argmax()
    plan[3, a] -= 0.01
    plan[3, (a + 1) % plan.shape[1]] += 0.01


def moved_within_a_column(plan):  # columns right, rows wrong
    plan[:, 0] = torch.roll(plan[:, 0], 1)


@pytest.mark.parametrize("damage", [exchanged, negative, lost, doubled, moved_within_a_row, moved_within_a_column])
def test_a_damaged_plan_is_rejected(optimum, damage):
    plan = optimum.plan.clone()
    damage(plan)
    assert certify(optimum.problem, optimum.plan, optimum.f).is_optimal(1e-6)
    assert not certify(optimum.problem, plan, optimum.f).is_optimal(1e-6)


def test_a_damaged_potential_leaves_a_gap(optimum):
    f = optimum.f.clone()
    f[0] += 1
    certificate = certify(optimum.problem, optimum.plan, f)
    assert certificate.gap > 0.1 and not certificate.is_optimal(1e-3)


def test_an_infeasible_plan_below_the_optimum_is_rejected_with_its_negative_gap():
    problem = ota_like()
    cheapest = torch.zeros(problem.shape).double().scatter_(0, problem.cost.argmin(0, keepdim=True), 1.0)
    certificate = certify(problem, cheapest)
    assert certificate.gap < 0 and certificate.row_error >= 1 and certificate.col_error == 0
    assert not certificate.is_optimal(0.1)


@pytest.mark.parametrize("plan", [[[1, 1], [0, 0]], [[1, 0], [1, 0]], [[2, -1], [-1, 2]]])
def test_constant_costs_hide_no_wrong_row_column_or_sign(plan):
    certificate = certify(TransportProblem(torch.ones(2, 2), [1, 1], [1, 1]), plan)
    assert certificate.gap == 0 and not certificate.is_optimal(0.1)


def test_a_certificate_shows_its_figures():
    certificate = certify(TransportProblem([[1.0, 2.0]], [2], [1, 1]), [[1.0, 1.5]])
    assert repr(certificate) == "Certificate(objective=4.0, dual_objective=3.0, gap=1.0, row_error=0.5, col_error=0.5)"


def test_a_plan_that_leaves_out_one_dear_unit_is_rejected_though_its_sums_are_nearly_right():
    problem = TransportProblem([[0.0, 1e6]], [1001], [1000, 1])
    certificate = certify(problem, [[1000.0, 0.0]])
    assert certificate.row_error <= 1e-3 * 1001 and certificate.col_error <= 1e-3 * 1000
    assert certificate.gap == -1e6 and not certificate.is_optimal(1e-3)


def test_a_forbidden_route_costs_nothing_unused_and_everything_used():
    problem = TransportProblem([[0.0, np.inf], [1.0, 1.0]], [1, 1], [1, 1])
    assert certify(problem, np.eye(2)).objective == 1
    certificate = certify(problem, np.full((2, 2), 0.5))
    assert certificate.objective == np.inf and certificate.relative_gap == 1 and not certificate.is_optimal(0.5)
    assert not certify(problem, [[2.0, -1.0], [-1.0, 2.0]]).is_optimal(10.0)


def test_a_row_without_supply_may_have_minus_infinity_for_potential():
    problem = TransportProblem([[1.0, 2.0], [0.0, 0.0]], [2, 0], [1, 1])
    certificate = certify(problem, [[1.0, 1.0], [0.0, 0.0]], f=[0.0, -np.inf])
    assert certificate.dual_objective == 3 and certificate.is_optimal()


@pytest.mark.parametrize(
    ("plan", "f", "g", "message"),
    [
        ([[1.0, np.nan]], None, None, r"plan is NaN at \[0, 1\]"),
        ([[1.0]], None, None, r"plan must be \(1, 2\), not \(1, 1\)"),
        ([["1.0", "1.0"]], None, None, "plan must hold real numbers"),
        ([[1.0, 1.0]], ["0.0"], None, "f must hold real numbers"),
        ([[1.0, 1.0]], [0.0, 0.0], None, r"f must be \(1,\), not \(2,\)"),
        ([[1.0, 1.0]], [np.nan], None, r"f\[0\] is nan"),
        ([[1.0, 1.0]], [-np.inf], None, r"f\[0\] is -inf"),
        ([[1.0, 1.0]], None, [0.0, np.inf], r"g\[1\] is inf"),
    ],
)
def test_a_plan_or_potential_that_proves_nothing_raises(plan, f, g, message):
    with pytest.raises(InputError, match=message):
        certify(TransportProblem([[1.0, 2.0]], [2], [1, 1]), plan, f, g)


def test_a_batch_is_certified_like_its_members():
    batch = ota_like(batch=3)
    plan, f = torch.rand(batch.shape, generator=torch.Generator().manual_seed(1)), torch.arange(12.0).view(3, 4)
    plan[1] = solve(batch[1]).plan
    together = certify(batch, plan, f)
    for i, one in enumerate(batch):
        alone = certify(one, plan[i], f[i])
        for name in ("objective", "dual_objective", "gap", "relative_gap", "row_error", "col_error"):
            assert torch.equal(getattr(together, name)[i], getattr(alone, name)), name
    assert certify(batch, plan).is_optimal().tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0, 2, 3), (2, 0, 3)])
def test_the_empty_plan_is_optimal(shape):
    m, n = shape[-2:]
    problem = TransportProblem(torch.ones(shape), torch.zeros(m), torch.zeros(n))
    certificate = certify(problem, torch.zeros(shape))
    assert certificate.objective.shape == shape[:-2] and certificate.is_optimal().all()
    assert (certificate.gap == 0).all() and (certificate.relative_gap == 0).all() and (certificate.col_error == 0).all()


def test_an_optimum_of_zero_among_large_costs_is_granted_float64s_rounding():
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(60, generator=generator)
    cost = 1e6 * (torch.rand(60, 60, generator=generator).double() + 0.1)
    cost[order, torch.arange(60)] = 0.0
    problem = TransportProblem(cost, torch.ones(60), torch.ones(60))
    plan = (cost == 0).double()
    potentials = 1e5 * torch.rand(9, 60, generator=generator, dtype=torch.float64)
    certificates = [certify(problem, plan, f) for f in potentials]
    assert any(certificate.gap != 0 for certificate in certificates)  # sums in two orders differ
    assert all(certificate.objective == 0 and certificate.is_optimal() for certificate in certificates)
    assert not certify(problem, plan.roll(1, 0), potentials[0]).is_optimal()
