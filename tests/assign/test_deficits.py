"""Gts that want more points than their priors hold: dropped, relaxed or refused, as was asked."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otalab.assign import Cost, Predictions, Targets, build_assigner
from otalab.errors import InputError
from otalab.transport import TransportProblem, solve

from .cases import make_case


def crowded(seed, num_gt=12, scene="crowd", stage="late"):
    """A late stage: each gt wants many of few points."""
    return make_case(seed, (96, 128), num_gt=num_gt, stage=stage, scene=scene)


def test_drop_ships_as_many_labels_as_there_are_points_for():
    short = 0
    for seed in range(10):
        case = crowded(seed)
        assignment = build_assigner("ota")(*case)
        candidates = assignment.cost[:-1].isfinite()
        short += int(assignment.deficit.sum())
        wanted = assignment.counts + assignment.deficit
        # no more can be shipped: by koenig's theorem a set of gts sees no point that another gt or nobody has
        for gt in (assignment.deficit > 0).nonzero().flatten().tolist():
            reached, seen = {gt}, candidates[gt].clone()
            while True:
                owners = set(assignment.matched_gt[seen].tolist())
                assert -1 not in owners, "a point is free that a path of exchanges could give to a gt in need"
                if owners <= reached:
                    break
                reached |= owners
                seen |= candidates[list(reached)].any(dim=0)
        assert (assignment.counts <= wanted).all()
    assert short > 20


def test_drop_shares_the_points_of_a_crowd_evenly():
    for seed in range(10):
        assignment = build_assigner("ota")(*crowded(seed, num_gt=30, scene="huge"))
        assert assignment.deficit.sum() > 100
        points = assignment.cost[:-1].isfinite().any(dim=0).sum()
        assert assignment.counts.min() >= points // 30 - 1  # an even split, but for points that one gt alone may have


def test_raise_names_the_gt_and_its_numbers():
    case = crowded(0, num_gt=30, scene="huge")
    dropped = build_assigner("ota")(*case)
    row = int(dropped.deficit.nonzero()[0])
    wanted, got = int(dropped.counts[row] + dropped.deficit[row]), int(dropped.counts[row])
    message = rf"gt {row} of image 1 wants {wanted} anchor points and only {got} are left"
    assigner = build_assigner("ota", deficits="raise")
    easy = make_case(0, (96, 128), num_gt=1)
    assert assigner(*easy).deficit.sum() == 0
    with pytest.raises(InputError, match=message):
        assigner.assign_batch(case.points, [easy.predictions, case.predictions], [easy.targets, case.targets])


@pytest.mark.parametrize("off_prior", [3.0, 100.0, 1e6])
@pytest.mark.parametrize("scene", ["normal", "crowd", "huge", "tiny", "outside"])
def test_relax_is_the_optimum_of_the_linear_program_with_the_constant(off_prior, scene):
    bought = 0
    for seed in range(4 if scene == "crowd" else 2):
        case = crowded(seed, num_gt=8, scene=scene)
        assignment = build_assigner("ota", deficits="relax", off_prior=off_prior)(*case)
        if assignment.deficit.sum():
            continue  # more labels than points in all
        assert assignment.cost.isfinite().all()
        problem = TransportProblem(assignment.cost, assignment.supply, torch.ones(len(case.points)))
        best = solve(problem, "emd").objective.item()
        paid = (assignment.cost * assignment.plan).sum().item()
        assert paid == pytest.approx(best, rel=1e-9)
        assert assignment.certificate.is_optimal()
        prior = build_assigner("ota")(*case).cost[:-1].isfinite()
        owner = assignment.matched_gt
        bought += int((~prior[owner, torch.arange(len(owner))] & (owner >= 0)).sum())
    if scene == "crowd":
        assert bought > 0, "no gt had to look outside its prior: the case proves nothing"


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.5, 3.0, 20.0]),
    st.sampled_from([Cost(), Cost("ce"), Cost(reg="giou"), Cost(reg="smooth-l1")]),
)
def test_relax_is_exact_for_any_constant_and_cost(seed, off_prior, cost):
    """A small constant makes points outside worth their price though nobody is short."""
    case = make_case(seed, (64, 96), num_gt=6, scene="crowd")
    assignment = build_assigner("ota", deficits="relax", off_prior=off_prior, cost=cost)(*case)
    assert assignment.certificate.is_optimal()


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["crowd", "tiny", "huge", "duplicates", "outside"]),
    st.sampled_from(["initial", "early", "middle", "late", "equal"]),
    st.sampled_from([Cost(), Cost("ce"), Cost(reg="giou"), Cost(reg="giou", alpha=0.1), Cost(alpha=0.0)]),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
    st.sampled_from([1.0, 5.0, 100.0]),
)
def test_relax_costs_what_scipy_finds_in_the_full_matrix(seed, scene, stage, cost, dtype, alike, off_prior):
    """Whatever was not priced for its low IoU; `alike` predicts one box and one score everywhere."""
    points, predictions, targets = make_case(seed, (96, 128), num_gt=8, stage=stage, scene=scene, dtype=dtype)
    if alike:
        predictions = Predictions(
            predictions.logits[:1].expand(len(points), -1), targets.boxes[:1].repeat(len(points), 1)
        )
    assignment = build_assigner("ota", deficits="relax", cost=cost, off_prior=off_prior)(points, predictions, targets)
    problem = TransportProblem(assignment.cost, assignment.supply, torch.ones(len(points)))
    paid = (assignment.cost * assignment.plan).sum().item()
    assert paid == pytest.approx(solve(problem, "assignment").objective.item(), rel=1e-9)
    assert assignment.deficit.sum() == 0 or assignment.positive.all()  # short only where there are no points left


def test_relax_without_a_need_gives_the_labels_of_drop():
    for seed in range(5):
        case = make_case(seed, (128, 160), num_gt=4, scene="normal")
        strict, relaxed = build_assigner("ota")(*case), build_assigner("ota", deficits="relax")(*case)
        if strict.deficit.sum() == 0 and strict.price.max() < 50:
            assert torch.equal(strict.matched_gt, relaxed.matched_gt)


def test_relax_of_more_labels_than_points_ships_a_label_to_every_point():
    case = make_case(0, (64, 40), num_gt=3, num_classes=2, stage="equal", scene="huge", strides=(8,))
    wide = case.targets.boxes[:1].expand(40, 4)
    targets = Targets(wide[:3].clone(), case.targets.labels)
    assignment = build_assigner("ota", deficits="relax")(
        case.points, Predictions(case.predictions.logits, wide), targets
    )
    assert assignment.positive.all()
    assert sorted(assignment.counts.tolist()) == [13, 13, 14]
    assert assignment.deficit.sum() == 20


def test_relax_ships_every_label_of_gts_that_all_want_the_same_points():
    case = make_case(0, num_gt=1)
    alike = Targets(case.targets.boxes.repeat(6, 1), case.targets.labels.repeat(6))
    assignment = build_assigner("ota", deficits="relax", off_prior=0.0, k=9)(case.points, case.predictions, alike)
    assert assignment.counts.tolist() == [9] * 6 and assignment.certificate.is_optimal()


def test_a_batch_relaxes_only_the_images_in_need():
    cases = [crowded(0), make_case(1, (96, 128), num_gt=2), crowded(2, num_gt=30, scene="huge")]
    points, assigner = cases[0].points, build_assigner("ota", deficits="relax")
    together = assigner.assign_batch(points, [c.predictions for c in cases], [c.targets for c in cases])
    for case, assignment in zip(cases, together, strict=True):
        assert torch.equal(assignment.matched_gt, assigner(*case).matched_gt)


@pytest.mark.parametrize("options", [{"deficits": "ignore"}, {"solver": "magic"}])
def test_an_unknown_policy_or_solver_is_an_error_that_lists_the_known(options):
    with pytest.raises(InputError, match=r"is none of (drop, relax, raise|augmenting-path, auction, sinkhorn)"):
        build_assigner("ota", **options)
