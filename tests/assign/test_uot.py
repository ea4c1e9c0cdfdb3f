"""Unbalanced transport of labels: a loop in NumPy, recorded plans of the authors, and the limits."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from otalab import boxes as box_ops
from otalab.assign import Targets
from otalab.assign.hungarian import DetrCost, Hungarian
from otalab.assign.uot import UOT
from otalab.errors import InputError
from otalab.transport import TransportProblem, solve

from .cases import SCENES, STAGES, make_case
from .golden.cases import positives, read
from .strange_gts import STRANGE, few_points, sound, strange_case, swapped

INF = math.inf
SSD = {"cost": None, "background": 0.8, "tau_pred": 1e3, "tau_gt": 1e-3, "k": 1}


def plan_by_loop(cost, k, reg, tau_pred, tau_gt, max_iter):
    """Scalings u of points and v of gts, one after the other, in the domain of the kernel; sums to about n."""
    m1, n = cost.shape
    eps = reg / (math.log(2 * n) + 1)
    wanted = np.array([k / n] * (m1 - 1) + [(n - k * (m1 - 1)) / n])
    kernel = np.exp(-cost / eps)
    u = np.ones(n)
    for iteration in range(max_iter + 1):
        v = np.array([(wanted[j] / (kernel[j] * u).sum()) ** (tau_gt / (tau_gt + eps)) for j in range(m1)])
        if iteration < max_iter:
            u = np.array([(1 / n / (kernel[:, i] * v).sum()) ** (tau_pred / (tau_pred + eps)) for i in range(n)])
    return v[:, None] * kernel * u * n


def labels(plan):
    """Who sends each point the most; the background, last, is -1."""
    owner = torch.as_tensor(plan).argmax(dim=0)
    return owner.masked_fill(owner == len(plan) - 1, -1).tolist()


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(
    "options",
    [
        {"reg": 0.12},
        SSD | {"reg": 0.12},
        {"cost": DetrCost("softmax"), "k": 2, "tau_gt": 0.2, "reg": 0.3, "max_iter": 9},
    ],
)
def test_plan_and_labels_are_those_of_the_definition(scene, options):
    settings = {"background": 10.0, "tau_pred": 1.0, "tau_gt": 1.0, "k": 5, "max_iter": 70} | options
    for seed in range(2):
        case = make_case(seed, (64, 80), num_gt=5, stage=STAGES[seed + 1], scene=scene)
        points, predictions, targets = case
        assignment = UOT(**options)(*case)
        if settings.get("cost", DetrCost()) is None:
            cost = [[1 - float(box_ops.iou(gt, square)) for square in points.boxes(8.0)] for gt in targets.boxes]
        else:
            cost = settings.get("cost", DetrCost())(points, predictions, targets).tolist()
        cost = np.array([*cost, [settings["background"]] * len(points)])
        cost /= cost.max()
        assert np.allclose(assignment.cost, cost)
        plan = plan_by_loop(cost, *(settings[name] for name in ("k", "reg", "tau_pred", "tau_gt", "max_iter")))
        assert np.allclose(assignment.plan, plan, rtol=1e-6, atol=1e-9)
        assert assignment.matched_gt.tolist() == labels(plan)
        assert assignment.deficit.tolist() == [max(0, settings["k"] - got) for got in assignment.counts.tolist()]


@pytest.mark.parametrize("record", read("uot"), ids=lambda record: "{seed} {scene}".format(**record["case"]))
def test_plan_and_labels_are_those_of_the_authors(record):
    assignment = UOT(cost=None, k=1, **record["options"])(*make_case(**record["case"]))
    assert positives(assignment.matched_gt.tolist()) == record["positives"]
    assert assignment.plan.sum(dim=1).tolist() == pytest.approx(record["row sums"], rel=1e-6)
    assert assignment.plan.square().sum(dim=1).tolist() == pytest.approx(record["row sums of squares"], rel=1e-6)


@pytest.mark.parametrize("cost", [None, DetrCost()])
@pytest.mark.parametrize("background", [0.5, 0.8, 3.0])
def test_free_gts_leave_every_point_to_its_cheapest_gt_or_to_the_background(cost, background):
    for seed in range(4):
        case = make_case(seed, num_gt=8)
        assignment = UOT(cost=cost, background=background, tau_pred=INF, tau_gt=0.0)(*case)
        assert assignment.matched_gt.tolist() == labels(-assignment.cost)
        assert assignment.cost[-1] == pytest.approx(background / max(background, float(priced(cost, case).max())))


def priced(cost, case):
    """What pairs cost before the largest is made 1."""
    points, _, targets = case
    return 1 - box_ops.iou(points.boxes(8.0), targets.boxes[:, None]) if cost is None else cost(*case)


def test_free_points_leave_every_gt_to_its_cheapest_point():
    for seed in range(4):
        case = make_case(seed, num_gt=5)
        assignment = UOT(tau_pred=0.0, tau_gt=INF, k=1, reg=1e-3)(*case)
        cheapest = assignment.cost[:-1].argmin(dim=1).tolist()
        assert len(set(cheapest)) == 5  # a point that two gts want would be a tie
        expected = {point: gt for gt, point in enumerate(cheapest)}
        assert assignment.matched_gt.tolist() == [expected.get(point, -1) for point in range(len(case.points))]


def test_sums_that_must_be_met_make_it_the_hungarian_matching():
    for seed in range(2):
        case = make_case(seed, (64, 96), num_gt=6, scene="crowd")
        assignment = UOT(tau_pred=INF, tau_gt=INF, k=1, reg=2e-3, max_iter=4000)(*case)
        assert assignment.counts.tolist() == [1] * 6
        assert assignment.matched_gt.tolist() == Hungarian()(*case).matched_gt.tolist()
        gt, point = linear_sum_assignment(assignment.cost[:-1])
        assert assignment.matched_gt[torch.from_numpy(point)].tolist() == gt.tolist()


def test_with_more_units_a_gt_it_is_the_balanced_transport_of_ota():
    for seed in range(2):
        case = make_case(seed, (64, 96), num_gt=4, scene="crowd")
        assignment = UOT(tau_pred=INF, tau_gt=INF, k=6, reg=2e-3, max_iter=4000)(*case)
        n = len(case.points)
        exact = solve(TransportProblem(assignment.cost, [6, 6, 6, 6, n - 24], [1] * n), method="assignment")
        assert assignment.counts.tolist() == [6, 6, 6, 6]
        assert assignment.matched_gt.tolist() == labels(exact.plan)


def test_the_price_of_missing_a_wish_moves_the_gts_from_none_to_all_of_their_units():
    case = make_case(0, num_gt=6, stage="early", scene="crowd")  # each prediction costs more than the background
    shipped = [
        float(UOT(tau_pred=INF, tau_gt=tau, background=0.0)(*case).plan[:-1].sum())
        for tau in (0.0, 0.03, 0.3, 3.0, INF)
    ]
    assert shipped == sorted(shipped)
    assert shipped[0] < 1
    assert shipped[-1] == pytest.approx(6 * 5, rel=1e-3)


@pytest.mark.parametrize("stage", STAGES)
def test_most_points_of_a_dense_grid_are_background_and_every_gt_has_some(stage):
    for seed in range(2):
        case = make_case(seed, (256, 320), num_gt=8, stage=stage)
        assignment = sound(UOT(), case)
        assert (assignment.counts > 0).all()
        assert assignment.counts.sum() < len(case.points) / 8


def test_shares_over_the_backgrounds_fall_with_the_cost_over_it_at_one_price_a_gt_and_prove_nothing():
    case = make_case(0, (64, 96), num_gt=4, scene="crowd")
    assignment = UOT(tau_pred=INF, tau_gt=INF, max_iter=3000)(*case)
    share = assignment.plan[:-1] / assignment.plan[-1]
    over = assignment.cost[:-1] - assignment.cost[-1]
    eps = 0.03 / (math.log(2 * len(case.points)) + 1)
    price = eps * share.log() + over
    assert torch.allclose(price, price[:, :1].expand_as(price), atol=1e-6)
    assert assignment.certificate is None  # the sums of an unbalanced plan are wishes: no bound follows


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("options", [{}, SSD, {"tau_pred": 0.0}, {"tau_pred": INF, "tau_gt": INF}])
def test_strange_gts_disturb_nobody(name, options):
    assignment = sound(UOT(**options), strange_case(name))
    assert not assignment.positive.all()
    if name in ("one gt", "outside", "zero area", "inverted"):
        assert assignment.counts[0] > 0 or options is SSD
        if options is SSD:
            assert not assignment.counts[1:].any()


@pytest.mark.parametrize("options", [{}, SSD, {"tau_pred": INF, "tau_gt": INF}])
def test_more_units_than_points_are_no_error(options):
    assignment = sound(UOT(**options), few_points())
    assert assignment.deficit.sum() >= 5


def test_the_order_of_gts_does_not_matter():
    for case in (make_case(0, num_gt=9, scene="crowd"), strange_case("60 gts")):
        other, back = swapped(case)
        assert back[UOT()(*other).matched_gt].tolist() == UOT()(*case).matched_gt.tolist()


def test_an_image_without_gts_is_background():
    points, predictions, _ = make_case(0, num_gt=0)
    assignment = UOT()(points, predictions, Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))
    assert not assignment.positive.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": -1.0}, "background must be finite and not negative, not -1.0"),
        ({"tau_pred": -0.1}, "tau_pred must not be negative, not -0.1"),
        ({"tau_gt": math.nan}, "tau_gt must not be negative, not nan"),
        ({"k": 0}, "k must be a whole number of at least 1, not 0"),
        ({"reg": 0.0}, "reg must be positive and finite, not 0.0"),
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1, not 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        UOT(**options)
