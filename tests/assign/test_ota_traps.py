"""Where the authors' code errs, `ota` does not: one test a trap, the error shown first."""

import numpy as np
import pytest
import torch

from otalab.assign import Predictions, RadiusPrior, Targets, build_assigner
from otalab.errors import InputError

from .cases import Case, make_case
from .reference import official


def nearly_untrained(seed):
    """Tiny gts between the points, predicted boxes that meet none of them, class scores that differ by little."""
    points, predictions, targets = make_case(seed, num_gt=6, stage="initial", scene="tiny", dtype=torch.float32)
    noise = torch.randn(predictions.logits.shape, generator=torch.Generator().manual_seed(seed))
    return Case(points, Predictions(-4.6 + 0.05 * noise, predictions.boxes), targets)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_float32_and_a_constant_of_1e6_make_positives_of_ties_but_not_here(seed):
    case = nearly_untrained(seed)
    reference = official(*case.arrays(), dtype=np.float32)
    assert not reference.prior.any(axis=1).all()  # a gt whose prior is empty pays 1e6 everywhere
    assert (reference.labels >= 0).sum() > 20 * reference.supply[:-1].sum()

    assignment = build_assigner("ota")(*case)
    assert assignment.positive.sum() == reference.supply[:-1].sum()
    assert assignment.deficit.sum() == 0
    assert build_assigner("ota-official")(*case).positive.sum() <= reference.supply[:-1].sum()


def overbooked():
    """Three gts that want 20 points each, of 40."""
    case = make_case(0, (64, 40), num_gt=3, num_classes=2, stage="equal", scene="huge", strides=(8,))
    points, predictions, targets = case
    return Case(points, Predictions(predictions.logits, targets.boxes[:1].expand(40, 4)), Targets(
        targets.boxes[:1].expand(3, 4).clone(), targets.labels
    ))  # fmt: skip


def test_more_supply_than_points_makes_nan_there_and_a_deficit_here():
    case = overbooked()
    reference = official(*case.arrays())
    assert reference.supply[-1] < 0
    assert np.isnan(reference.plan).all()
    assert (reference.labels == 0).all()  # NaN wins every argmax

    assignment = build_assigner("ota")(*case)
    wanted = reference.supply[:-1]
    free = RadiusPrior()(case.points, case.targets.boxes)[0].sum()
    assert assignment.counts.sum() == free  # every point that may be positive is
    assert (assignment.counts + assignment.deficit).tolist() == wanted.tolist()
    assert assignment.supply.sum() == len(case.points)


@pytest.mark.parametrize("name", ["ota-paper", "ota-official"])
def test_more_supply_than_points_is_an_error_that_names_both(name):
    with pytest.raises(InputError, match="supply sums to 60 but demand is 40 anchor points"):
        build_assigner(name)(*overbooked())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["ota", "ota-paper", "ota-official"])
def test_one_logit_that_is_not_finite_is_an_error_that_names_its_place(name, value):
    points, predictions, targets = make_case(0)
    predictions.logits[[17, 30], [2, 1]] = value
    with pytest.raises(InputError, match=r"logits: 2 non-finite values, the first is (nan|inf) at \(17, 2\)"):
        build_assigner(name)(points, predictions, targets)


@pytest.mark.parametrize("name", ["ota", "ota-paper", "ota-official"])
def test_fewer_points_than_q_are_no_error(name):
    case = make_case(0, (32, 32), num_gt=1, stage="late", scene="huge", strides=(16,))
    assert len(case.points) == 4
    assert build_assigner(name, q=20)(*case).supply.sum() == 4


def test_fifty_iterations_at_eps_a_tenth_are_not_the_optimum():
    """Labels differ from the exact ones, columns are violated, and the infeasible plan may cost less than the best."""
    different, positives, violation, cheaper = 0, 0, 0.0, 0
    for seed in range(8):
        case = make_case(seed, num_gt=10, scene="crowd")
        exact, smooth = build_assigner("ota")(*case), build_assigner("ota-official")(*case)
        violation = max(violation, float((smooth.plan.sum(dim=0) - 1).abs().max()))
        if not torch.equal(exact.supply, smooth.supply):
            continue  # a crowd that cannot all be served
        different += int((exact.matched_gt != smooth.matched_gt).sum())
        positives += int(exact.positive.sum())
        finite = exact.cost.nan_to_num(posinf=0)
        cheaper += bool((smooth.plan * finite).sum() < (exact.plan * finite).sum() - 1)
    assert positives > 300
    assert 0.02 < different / positives < 0.3
    assert violation > 0.1
    assert cheaper > 0


def twins(k):
    """Two gts of one box and class, each of which wants k of the 25 points in its prior."""
    points, predictions, _ = make_case(0, (64, 64), num_gt=0, num_classes=1, stage="early", strides=(8,))
    box = torch.tensor([[1.0, 1.0, 61.0, 61.0]], dtype=torch.float64)
    assert RadiusPrior()(points, box).sum() == 25
    # of equal centre and shape, so that an overlap of k / 20 in area is an IoU of k / 20
    middle, half = torch.tensor([31.0, 31.0]), 30 * min(1, k / 20 + 1e-6) ** 0.5
    seen = torch.cat((middle - half, middle + half)).double().expand(len(points), 4)
    return Case(points, Predictions(predictions.logits, seen), Targets(box.repeat(2, 1), torch.tensor([0, 0])))


def test_two_equal_gts_get_their_k_each_where_the_code_gives_one_of_them_nothing():
    case = twins(k=12)
    assert build_assigner("ota-official")(*case).counts[1] == 0
    assignment = build_assigner("ota")(*case)
    assert assignment.counts.tolist() == [12, 12]
    assert assignment.deficit.tolist() == [0, 0]


@pytest.mark.parametrize("k", [13, 16, 20])
def test_two_equal_gts_share_when_there_is_not_enough_for_both(k):
    assignment = build_assigner("ota")(*twins(k))
    assert sorted(assignment.counts.tolist()) == [12, 13]
    assert (assignment.counts + assignment.deficit).tolist() == [k, k]


@pytest.mark.parametrize("scene", ["normal", "crowd", "tiny", "huge", "outside", "duplicates"])
@pytest.mark.parametrize("stage", ["initial", "middle", "late"])
def test_positives_are_what_was_supplied_and_supplies_sum_to_the_points(stage, scene):
    for seed in range(3):
        case = make_case(seed, num_gt=12, stage=stage, scene=scene)
        assignment = build_assigner("ota")(*case)
        wanted = official(*case.arrays()).supply[:-1]
        assert assignment.counts.tolist() == assignment.supply[:-1].tolist()
        assert assignment.supply.sum() == len(case.points)
        assert (assignment.deficit >= 0).all()
        assert (assignment.counts + assignment.deficit).tolist() == wanted.tolist()
