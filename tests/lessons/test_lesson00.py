"""The checker of lesson 00 recomputes the k of a gt that has another box."""

import pytest
import torch

from otalab.assign import AnchorPoints, RadiusPrior, Targets, build_assigner, dynamic_k
from otalab.boxes import iou
from otalab.lab.simulate import simulate_predictions
from otalab.lessons import lesson00

POINTS = AnchorPoints.for_image((128, 128), strides=(8, 16, 32))
TARGETS = Targets(torch.tensor([[20.0, 20, 76, 84], [50, 40, 100, 110], [90, 8, 120, 40]]), torch.tensor([0, 1, 1]))
PREDICTIONS = simulate_predictions(POINTS, TARGETS, 2, torch.Generator().manual_seed(0))
SMALL, LARGE = [34.0, 36, 62, 68], [5.0, 5, 91, 99]


def check(gt, box, k):
    return lesson00.check(POINTS, PREDICTIONS, TARGETS, gt, box, k)


def overlaps(box):
    """(1, n) IoUs of a box with all predictions."""
    return iou(torch.tensor(box).double(), PREDICTIONS.boxes.double())[None]


def k_of(box) -> int:
    return int(dynamic_k(overlaps(box) * RadiusPrior()(POINTS, torch.tensor([box]).double()), slack=1e-6))


@pytest.mark.parametrize("box", [SMALL, LARGE])
@pytest.mark.parametrize("kind", [list, tuple, torch.tensor])
def test_the_k_of_the_new_box_passes(box, kind):
    verdict = check(0, kind(box), k_of(box))
    assert verdict.passed and "was" in verdict.message
    assert check(torch.tensor(0), torch.tensor(box), float(k_of(box))).passed


def test_a_k_that_comes_from_a_crowd_counts_what_the_gt_wanted_though_it_did_not_get_it():
    """Four gts share too few points: the k asked for is that of Sec. 3.3, not what was shipped."""
    targets = Targets(torch.tensor([[40.0, 40, 64, 64]]).repeat(4, 1), torch.zeros(4, dtype=torch.int64))
    predictions = simulate_predictions(POINTS, targets, 2, torch.Generator().manual_seed(0), skill=1.0)
    box = [42.0, 42, 62, 62]
    mask = RadiusPrior()(POINTS, torch.tensor([box]).double())
    wanted = int(dynamic_k(iou(torch.tensor(box).double(), predictions.boxes.double())[None] * mask))
    crowd = lesson00.moved(targets, 0, torch.tensor(box).double())
    assert build_assigner("ota")(POINTS, predictions, crowd).supply[0] < wanted
    assert lesson00.check(POINTS, predictions, targets, 0, box, wanted).passed


def test_a_point_on_the_rim_of_the_prior_may_count_or_not():
    """The lesson's steps in float32 leave out points that lie a rounding error nearer in float64: both are right."""
    box = torch.tensor([34.07, 8.61, 77.93, 55.39])
    single = lesson00.in_float32(POINTS, PREDICTIONS, box)
    double = lesson00.wanted(POINTS, PREDICTIONS, lesson00.moved(TARGETS, 0, box.double()), 0)
    assert single != double and check(0, box, single).passed and check(0, box, double).passed


def test_hints_fit_the_mistake():
    old, small = k_of(TARGETS.boxes[0].tolist()), k_of(SMALL)
    everywhere = int(dynamic_k(overlaps(LARGE)))
    assert len({old, small}) == 2 and everywhere not in (k_of(LARGE), old)
    for box, k, hint in (
        (SMALL, old, "k of the old box"),
        (LARGE, everywhere, "any points"),
        (SMALL, small + 1, "rounded down"),
        (SMALL, small + 30, "Too many"),
        (LARGE, max(1, k_of(LARGE) - 2), "Too few"),
        (SMALL, 0, "at least one"),
        (SMALL, 2.5, "whole number"),
    ):
        verdict = check(0, box, k)
        assert not verdict.passed and hint in verdict.message, (box, k, verdict)
        assert f" {k_of(box)} " not in verdict.message


@pytest.mark.parametrize(
    ("gt", "box", "hint"),
    [
        (3, SMALL, "0 to 2"),
        (-1, SMALL, "0 to 2"),
        (True, SMALL, "0 to 2"),
        (0, TARGETS.boxes[0] + 1, "nearly as large"),
        (0, TARGETS.boxes[0], "clone"),
        (0, [62.0, 36, 34, 68], "no area"),
        (0, [100.0, 100, 120, 120], "another object"),
        (0, [1.0, 2, 3], "four numbers"),
        (0, [1.0, 2, 3, float("nan")], "four numbers"),
        (0, "box", "four numbers"),
        (0, None, "Choose"),
    ],
)
def test_a_box_that_cannot_be_judged_gets_a_hint(gt, box, hint):
    verdict = check(gt, box, 3)
    assert not verdict.passed and hint in verdict.message


@pytest.mark.parametrize("nonsense", [None, ..., "3x", [], {}, object(), 1j, float("inf")])
def test_nonsense_gets_a_hint(nonsense):
    for verdict in (check(nonsense, SMALL, 3), check(0, nonsense, 3), check(0, SMALL, nonsense)):
        assert not verdict.passed and len(verdict.message) > 25
    assert "in this order" in lesson00.check(nonsense, PREDICTIONS, TARGETS, 0, SMALL, 3).message
