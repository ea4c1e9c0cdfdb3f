"""`ota` solves the linear program of Eq. 1, and its plan says so."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import coo_array

from otalab.assign import ClosestPrior, Cost, build_assigner

from .cases import make_case
from .reference import official


def linear_program(cost, supply):
    """Eq. 1 over the finite routes by HiGHS -> (objective, (n,) owner, whether the optimum is unique)."""
    row, column = np.nonzero(np.isfinite(cost))
    price = cost[row, column]
    m, n = cost.shape
    index = np.concatenate((row, m + column)), np.tile(np.arange(len(row)), 2)
    sums = coo_array((np.ones(2 * len(row)), index), shape=(m + n, len(row))).tocsr()
    totals = np.concatenate((supply, np.ones(n)))
    best = linprog(price, A_eq=sums, b_eq=totals, bounds=(0, 1), method="highs-ds")
    assert best.status == 0, best.message
    chosen = best.x > 0.5
    # a second optimum exists if the same price can be paid without all of these routes
    other = linprog(
        chosen.astype(float), A_eq=sums, b_eq=totals, A_ub=price[None], b_ub=[best.fun + 1e-7], bounds=(0, 1)
    )
    owner = np.full(n, -1)
    owner[column[chosen]] = row[chosen]
    return best.fun, np.where(owner == m - 1, -1, owner), other.fun > n - 0.01


@pytest.mark.parametrize("scene", ["normal", "crowd", "huge", "tiny", "duplicates"])
@pytest.mark.parametrize("stage", ["early", "middle", "late"])
def test_objective_and_labels_equal_the_linear_programs(stage, scene):
    unique = 0
    for seed in range(4):
        case = make_case(seed, (96, 128), num_gt=6, stage=stage, scene=scene)
        assignment = build_assigner("ota")(*case)
        # the price list is the reference's: only what is inside the prior, and the nearest point where that is empty
        cost = np.where(torch.isfinite(assignment.cost), official(*case.arrays()).cost % 1e6, np.inf)
        objective, labels, is_unique = linear_program(cost, assignment.supply.numpy())
        owner = np.where(assignment.matched_gt >= 0, assignment.matched_gt, len(cost) - 1)
        paid = cost[owner, np.arange(cost.shape[1])].sum()
        assert paid == pytest.approx(objective, rel=1e-9)
        if is_unique:
            unique += 1
            assert assignment.matched_gt.tolist() == labels.tolist()
    assert unique >= 3 or scene == "duplicates"


@pytest.mark.parametrize("cls", ["focal", "ce"])
@pytest.mark.parametrize("reg", ["iou", "giou", "smooth-l1"])
@pytest.mark.parametrize("prior", [ClosestPrior(r=2), None])
def test_other_costs_and_priors_are_solved_exactly_too(cls, reg, prior):
    options = {"cost": Cost(cls=cls, reg=reg, alpha=2.0)} | ({"prior": prior} if prior else {})
    assignment = build_assigner("ota", **options)(*make_case(1, (96, 128), num_gt=5, scene="crowd"))
    objective, labels, is_unique = linear_program(assignment.cost.numpy(), assignment.supply.numpy())
    assert float((assignment.cost.nan_to_num(posinf=0) * assignment.plan).sum()) == pytest.approx(objective, rel=1e-9)
    assert is_unique
    assert assignment.matched_gt.tolist() == labels.tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["normal", "crowd", "tiny", "outside"]), st.integers(1, 8))
def test_the_plan_is_feasible_integral_and_pays_no_forbidden_route(seed, scene, num_gt):
    assignment = build_assigner("ota")(*make_case(seed, (64, 96), num_gt=num_gt, scene=scene))
    cost, plan = assignment.cost, assignment.plan
    assert cost.shape == plan.shape == (num_gt + 1, len(assignment.matched_gt))
    assert cost.dtype == plan.dtype == torch.float64
    assert torch.equal(plan.sum(dim=1), assignment.supply.double())
    assert torch.equal(plan.sum(dim=0), torch.ones(plan.shape[1], dtype=torch.float64))
    assert ((plan == 0) | (plan == 1)).all()
    assert not plan[cost.isinf()].any()
    assert not cost.isnan().any()
    assert cost[-1].isfinite().all()


def test_the_cost_matrix_is_eq_2_and_3_without_a_constant():
    case = make_case(2, num_gt=5)
    reference, cost = official(*case.arrays()), build_assigner("ota")(*case).cost.numpy()
    inside = np.append(reference.prior, np.ones((1, cost.shape[1]), dtype=bool), axis=0)
    np.testing.assert_allclose(cost[inside], reference.cost[inside], rtol=1e-9)
    assert np.isinf(cost[~inside]).all()


def test_a_fixed_k_is_supplied_to_each_gt():
    case = make_case(0, (128, 160), num_gt=3, scene="huge")
    assert build_assigner("ota", k=5)(*case).counts.tolist() == [5, 5, 5]
    assert build_assigner("ota", k=0)(*case).positive.sum() == 0


def test_a_higher_price_never_makes_the_optimum_cheaper():
    case = make_case(4, num_gt=6)
    totals = []
    for alpha in (0.5, 1.5, 3.0):
        assignment = build_assigner("ota", cost=Cost(alpha=alpha))(*case)
        totals.append(float((assignment.cost.nan_to_num(posinf=0) * assignment.plan).sum()))
    assert totals == sorted(totals)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["initial", "middle", "equal"])
def test_a_full_size_image_of_60_gts_is_solved_exactly_and_quickly(stage):
    case = make_case(2, (800, 1344), 60, 80, stage, "normal", 0.5, torch.float32)
    assignment = build_assigner("ota")(*case)
    objective, *_ = linear_program_of(assignment)
    paid = (assignment.cost.nan_to_num(posinf=0) * assignment.plan).sum()
    assert float(paid) == pytest.approx(objective, rel=1e-9)


def linear_program_of(assignment):
    """The program without the points that only the background can serve: they have no choice."""
    contested = assignment.cost[:-1].isfinite().any(dim=0).numpy()
    cost, supply = assignment.cost.numpy(), assignment.supply.numpy().copy()
    supply[-1] -= (~contested).sum()
    fixed = cost[-1, ~contested].sum()
    objective, owner, is_unique = linear_program(cost[:, contested], supply)
    return objective + fixed, owner, is_unique
