"""The checker of lesson 00 wants a point that passes between two gts because a third has another box."""

from itertools import product

import numpy as np
import pytest
import torch

from otalab.assign import AnchorPoints, Targets
from otalab.lab.simulate import simulate_predictions, simulate_scene
from otalab.lessons import lesson00
from otalab.lessons.lesson00 import changed, givers, ota

POINTS = AnchorPoints.for_image((128, 128), strides=(8, 16, 32))


@pytest.fixture(scope="module")
def crowd(solution):
    """The exercise's scene: its gts, its predictions, and the labels as they are."""
    found = solution("00")
    return found["crowd"], found["guesses"], found["before"]


@pytest.fixture(scope="module")
def moves(crowd):
    """(gt, box, taker) of many small moves: those that pass a point on, and those that do not."""
    targets, guesses, before = crowd
    good, bad = [], []
    for gt, dx, dy in product(range(6), (-6, 0, 4), (-4, 0, 6)):
        box = targets.boxes[gt] + torch.tensor([dx, dy, dx, dy])
        after = ota(POINTS, guesses, lesson00.moved(targets, gt, box, torch.float32))
        takers = [i for i in range(6) if i != gt and givers(before, after, gt, i)]
        if takers:
            good.append((gt, box, takers[0], int(after.counts[takers[0]])))
        elif dx or dy:
            bad.append((gt, box, after))
    return good, bad


def test_any_move_that_passes_a_point_on_passes_with_the_count_that_follows(crowd, moves):
    targets, guesses, before = crowd
    good, _ = moves
    assert len(good) >= 5 and len({gt for gt, *_ in good}) >= 2
    for gt, box, taker, count in good:
        verdict = lesson00.check(POINTS, guesses, targets, gt, box, taker, count)
        assert verdict.passed and f"gt {taker} takes a point from gt" in verdict.message
        assert count == before.counts[taker], "its k is its own affair"


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_boxes_and_numbers_may_be_of_any_kind(crowd, moves, kind):
    targets, guesses, _ = crowd
    gt, box, taker, count = moves[0][0]
    assert lesson00.check(POINTS, guesses, targets, gt, kind(box.tolist()), taker, count).passed
    assert lesson00.check(POINTS, guesses, targets, torch.tensor(gt), box, float(taker), torch.tensor(count)).passed


def test_a_wrong_count_is_told_without_the_answer(crowd, moves):
    targets, guesses, _ = crowd
    gt, box, taker, count = moves[0][0]
    for wrong, hint in ((count + 1, "one more in all"), (count - 1, "depend on"), (count + 20, "depend on")):
        verdict = lesson00.check(POINTS, guesses, targets, gt, box, taker, wrong)
        assert not verdict.passed and hint in verdict.message and f" {count}" not in verdict.message
    for none in (None, 2.5, "many", ...):
        verdict = lesson00.check(POINTS, guesses, targets, gt, box, taker, none)
        assert not verdict.passed and "whole number" in verdict.message


def test_a_move_that_passes_no_point_on_is_told_what_it_does(crowd, moves):
    targets, guesses, before = crowd
    _, bad = moves
    seen = set()
    for gt, box, after in bad:
        for taker in (i for i in range(6) if i != gt):
            verdict = lesson00.check(POINTS, guesses, targets, gt, box, taker, int(before.counts[taker]))
            assert not verdict.passed and "takes no point" in verdict.message
            others = any(changed(before, after, i) for i in range(6) if i != gt)
            kind = "changes points" if others else "keep their points"
            assert kind in verdict.message
            seen.add(kind)
    assert len(seen) == 2


def test_the_wrong_taker_is_told_who_takes(crowd, moves):
    targets, guesses, before = crowd
    gt, box, taker, _ = moves[0][0]
    after = ota(POINTS, guesses, lesson00.moved(targets, gt, box, torch.float32))
    other = next(i for i in range(6) if i != gt and not givers(before, after, gt, i))
    verdict = lesson00.check(POINTS, guesses, targets, gt, box, other, 1)
    assert not verdict.passed and f"to gt {taker}" in verdict.message


SCENE = Targets(torch.tensor([[20.0, 20, 76, 84], [50, 40, 100, 110], [90, 8, 120, 40]]), torch.tensor([0, 1, 1]))
GUESSES = simulate_predictions(POINTS, SCENE, 2, torch.Generator().manual_seed(0))
LARGE = [5.0, 5, 91, 99]


@pytest.mark.parametrize(
    ("gt", "box", "taker", "hint"),
    [
        (3, LARGE, 1, "gt is the index of a gt: 0 to 2"),
        (-1, LARGE, 1, "gt is the index"),
        (True, LARGE, 1, "gt is the index"),
        (0, LARGE, 7, "taker is the index"),
        (0, LARGE, 0, "another gt"),
        (0, SCENE.boxes[0], 1, "clone"),
        (0, [62.0, 36, 34, 68], 1, "no area"),
        (0, [100.0, 100, 120, 120], 1, "another object"),
        (0, [1.0, 2, 3], 1, "four numbers"),
        (0, [1.0, 2, 3, float("nan")], 1, "four numbers"),
        (0, "box", 1, "four numbers"),
        (0, None, 1, "Choose"),
        (0, LARGE, None, "Choose"),
    ],
)
def test_what_cannot_be_judged_gets_a_hint(gt, box, taker, hint):
    verdict = lesson00.check(POINTS, GUESSES, SCENE, gt, box, taker, 3)
    assert not verdict.passed and hint in verdict.message


@pytest.mark.parametrize("nonsense", [None, ..., "3x", [], {}, object(), 1j, float("inf")])
def test_nonsense_gets_a_hint(nonsense):
    for answer in ((nonsense, LARGE, 1, 3), (0, nonsense, 1, 3), (0, LARGE, nonsense, 3)):
        verdict = lesson00.check(POINTS, GUESSES, SCENE, *answer)
        assert not verdict.passed and len(verdict.message) > 25
    assert "in this order" in lesson00.check(nonsense, GUESSES, SCENE, 0, LARGE, 1, 3).message


@pytest.mark.slow
def test_in_thirty_scenes_every_gt_gets_its_k_and_the_labels_are_proven_optimal(solution):
    config = solution("00")["config"]
    for seed in range(30):
        _, targets = simulate_scene(config, seed)
        guesses = simulate_predictions(POINTS, targets, 6, torch.Generator().manual_seed(seed))
        found = ota(POINTS, guesses, targets)
        assert bool(found.certificate.is_optimal()) and found.deficit.sum() == 0
