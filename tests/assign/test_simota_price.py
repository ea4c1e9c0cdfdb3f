"""SimOTA with its conflicts settled by price: nobody can have as many points for less."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from otalab.assign.simota import MMDETECTION, SimOTA
from otalab.transport import TransportProblem, solve

from .cases import SCENES, make_case

PRICE = SimOTA(conflicts="price")


def price_by_loop(cost, k):
    """matched_gt: each gt takes its k cheapest points, and a point goes to the taker that gains most by it."""
    order = [sorted((j for j in range(len(row)) if row[j] < float("inf")), key=row.__getitem__) for row in cost]
    taken = [mine[:wants] for mine, wants in zip(order, k, strict=True)]
    price = [row[mine[:wants][-1]] for row, mine, wants in zip(cost, order, k, strict=True)]
    labels = []
    for j in range(len(cost[0])):
        takers = [i for i, mine in enumerate(taken) if j in mine]
        labels.append(max(takers, key=lambda i: (price[i] - cost[i][j], -cost[i][j])) if takers else -1)
    return labels


@pytest.mark.parametrize("options", [{}, MMDETECTION], ids=["yolox", "mmdetection"])
@pytest.mark.parametrize("scene", SCENES)
def test_labels_are_those_of_the_definition(scene, options):
    for seed in range(4):
        case = make_case(seed, (96, 128), num_gt=9, scene=scene)
        assigner = SimOTA(conflicts="price", **options)
        cost, k = assigner.problem(*case)
        assert assigner(*case).matched_gt.tolist() == price_by_loop(cost.tolist(), k.tolist())


def least_cost(cost, k):
    """The least total cost of giving each gt k points, no point twice, by SciPy on rows repeated k times."""
    rows = cost.repeat_interleave(k, dim=0)
    return float(rows[linear_sum_assignment(rows)].sum())


def surcharge(assigner, case):
    """What the labels cost beyond the cheapest that give each gt equally many points."""
    cost, _ = assigner.problem(*case)
    assignment = assigner(*case)
    positive = assignment.positive
    paid = cost.T[positive, assignment.matched_gt[positive]].sum()
    return float(paid) - least_cost(cost[:, cost[0].isfinite()], assignment.counts)


@pytest.mark.parametrize("options", [{}, MMDETECTION], ids=["yolox", "mmdetection"])
def test_no_labels_that_give_each_gt_equally_many_points_cost_less(options):
    surcharges = {"cost": [], "price": []}
    for seed in range(16):
        case = make_case(seed, num_gt=12, scene=SCENES[seed % 8], stage=("early", "late")[seed // 8])
        for conflicts in surcharges:
            surcharges[conflicts].append(surcharge(SimOTA(conflicts=conflicts, **options), case))
    assert max(surcharges["price"]) < 1e-8
    assert max(surcharges["cost"]) > 0.01  # the other rule has no such property


def test_where_no_gt_is_short_the_labels_are_the_exact_optimum_and_those_of_the_other_rule():
    seen = 0
    for seed in range(12):
        case = make_case(seed, (320, 320), num_gt=5)
        assignment = PRICE(*case)
        if not assignment.deficit.any():
            assert torch.equal(assignment.counts, PRICE.problem(*case)[1])
            assert abs(surcharge(PRICE, case)) < 1e-8
            assert torch.equal(assignment.matched_gt, SimOTA()(*case).matched_gt)
            seen += 1
    assert seen >= 6


def test_prices_bound_every_plan_and_points_go_where_they_are_worth_most():
    """Dual feasibility and complementary slackness, in crowds, where gts are short."""
    for seed in range(20):
        case = make_case(seed, num_gt=15, scene="crowd")
        cost, k = PRICE.problem(*case)
        labels = PRICE(*case).matched_gt
        price = cost.sort(dim=1).values.gather(1, k[:, None] - 1)
        rent = (price - cost).amax(dim=0).clamp(min=0)  # of a point: u_i - p_j <= d_ij for all pairs
        positive = labels >= 0
        gain = (price - cost).T[positive, labels[positive]]
        assert torch.equal(gain, rent[positive])
        assert (rent[~positive] == 0).all()


def test_an_exact_solver_that_goes_on_from_here_pays_no_less_than_the_prices_promise():
    case = make_case(3, (320, 320), num_gt=12, scene="crowd")
    cost, k = PRICE.problem(*case)
    assert PRICE(*case).deficit.any()
    price = cost.sort(dim=1).values.gather(1, k[:, None] - 1)
    rent = (price - cost).amax(dim=0).clamp(min=0)
    bound = float((price[:, 0] * k).sum() - rent.sum())
    background = torch.zeros_like(cost[:1])
    supply = torch.cat((k, (cost.shape[1] - k.sum())[None]))
    problem = TransportProblem(torch.cat((cost, background)), supply, torch.ones_like(cost[0]))
    assert solve(problem, "augmenting-path").objective >= bound * (1 - 1e-12)


@pytest.mark.parametrize("swap", [False, True])
def test_a_contested_point_goes_where_its_replacement_is_dearest(swap, monkeypatch):
    cost = torch.tensor([[1.0, 2.0, 9.0, 9.0], [2.0, 9.0, 9.0, 8.0]], dtype=torch.float64)
    dearer = 0 if swap else 1
    problem = (cost.flip(0) if swap else cost), torch.full((2,), 2)
    monkeypatch.setattr(SimOTA, "problem", lambda *_: problem)
    assert PRICE.assign(*make_case(0)).matched_gt.tolist() == [dearer, 1 - dearer, -1, dearer]
    assert SimOTA().assign(*make_case(0)).matched_gt.tolist() == [1 - dearer, 1 - dearer, -1, dearer]


@pytest.mark.parametrize("swap", [False, True])
def test_of_equal_gains_the_least_cost_wins(swap, monkeypatch):
    cost = torch.tensor([[3.0, 8.0], [1.0, 2.0]], dtype=torch.float64)
    problem = (cost.flip(0) if swap else cost), torch.ones(2, dtype=torch.int64)
    monkeypatch.setattr(SimOTA, "problem", lambda *_: problem)
    assert PRICE.assign(*make_case(0)).matched_gt.tolist() == [0 if swap else 1, -1]


def test_both_rules_share_out_the_same_points():
    """What a rule for conflicts can change is who is short, not how many labels are missing."""
    for seed in range(10):
        case = make_case(seed, num_gt=20, scene="crowd")
        by_cost, by_price = SimOTA()(*case), PRICE(*case)
        assert torch.equal(by_cost.positive, by_price.positive)
        assert by_cost.deficit.sum() >= by_price.deficit.sum() > 0


def test_no_gt_gets_more_than_its_k():
    for seed in range(10):
        case = make_case(seed, num_gt=20, scene="crowd")
        _, k = PRICE.problem(*case)
        assert (PRICE(*case).counts <= k).all()
        assert torch.equal(PRICE(*case).counts + PRICE(*case).deficit, k)
