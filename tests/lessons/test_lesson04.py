"""Lesson 04's checker knows a pixel that moves many of OTA's labels from one that moves few, or another rule's."""

from itertools import islice

import numpy as np
import pytest
import torch

from otalab.assign import build_assigner
from otalab.boxes import box_area
from otalab.errors import InputError
from otalab.lessons import lesson04


def pairs(*seeds):
    """All shaves of these heaps, as they are asked for."""
    return ((seed, gt) for seed in range(*seeds) for gt in range(len(lesson04.heap(seed).targets)))


def total(pair, name="ota", follow=False):
    return sum(lesson04.changed(*pair, name, follow))


@pytest.fixture(scope="module")
def right():
    return list(islice((pair for pair in pairs(80, 1000) if total(pair) >= lesson04.MANY), 3))


@pytest.mark.parametrize("kind", [tuple, list, np.array, torch.tensor, lambda pair: np.array(pair, dtype=float)])
def test_a_pixel_that_moves_many_labels_passes_in_any_form_and_says_where_they_go(kind, right):
    for pair in right:
        verdict = lesson04.check(kind(pair))
        assert verdict.passed and "gt to gt" in verdict.message


def test_changes_are_those_of_the_two_assignments(right):
    seed, gt = right[0]
    _, points, predictions, targets = lesson04.heap(seed)
    boxes = targets.boxes.clone()
    boxes[gt, 2] -= 1
    assign = build_assigner("ota")
    before = assign(points, predictions, targets).matched_gt
    after = assign(points, predictions, type(targets)(boxes, targets.labels)).matched_gt
    assert int((before != after).sum()) == total(right[0])


def wrong(reason):
    """A pair whose mistake is just that."""
    others = [
        lambda pair: total(pair, follow=True) >= lesson04.MANY,
        lambda pair: total(pair, "fcos") >= lesson04.MANY,
        lambda pair: total(pair, "atss") >= lesson04.MANY,
        lambda pair: pair[1] > 0 and total((pair[0], pair[1] - 1)) >= lesson04.MANY,
    ]
    this, before = others[reason], others[:reason]
    few = (pair for pair in pairs(80, 1000) if total(pair) < lesson04.MANY)
    return next(pair for pair in few if this(pair) and not any(other(pair) for other in before))


@pytest.mark.parametrize(
    "answer, hint",
    [
        (None, "No answer yet"),
        (..., "No answer yet"),
        ("many", "not str"),
        (7, "the shape ()"),
        ((1, 2, 3), "the shape (3,)"),
        ((1, 0.5), "whole numbers"),
        ((float("nan"), 1), "whole numbers"),
        (1j, "not complex"),
        ((-1, 0), "seed from 80"),
        ((10**9, 0), "seed from 80"),
        ((31, 2), "that the lesson counted"),
        ((80, 99), "count from 0"),
        ((80, -1), "count from 0"),
    ],
)
def test_a_wrong_answer_gets_the_hint_of_its_mistake(answer, hint):
    verdict = lesson04.check(answer)
    assert not verdict.passed and hint in verdict.message


@pytest.mark.parametrize(
    "reason, hint", list(enumerate(["follow the shaved box", "FCOS's labels", "ATSS's labels", "count gts from 1"]))
)
def test_a_pair_of_one_mistake_gets_its_hint(reason, hint):
    verdict = lesson04.check(wrong(reason))
    assert not verdict.passed and hint in verdict.message


def test_a_pixel_that_moves_little_is_told_how_much():
    few = next(pair for pair in pairs(80, 1000) if 0 < total(pair) < lesson04.MANY)
    verdict = lesson04.check(few)
    assert not verdict.passed and verdict.message.startswith(f"{total(few)} of OTA's labels change")


def test_who_tried_a_pair_at_random_is_told_to_look_through_heaps():
    said = [lesson04.check(pair).message for pair in pairs(80, 100) if total(pair) < lesson04.MANY]
    luck = [message for message in said if "one pixel" in message]
    assert luck and all("Look through more heaps" in message for message in luck)


def test_predictions_follow_where_they_are_of_the_shaved_gt_and_stay_elsewhere():
    for seed, gt in pairs(4):
        _, points, before, targets = lesson04.heap(seed)
        after = lesson04.followed(seed, gt)
        moved = (before.boxes != after.boxes).any(dim=1)
        perfect = lesson04.heap(seed, skill=1.0).predictions.boxes
        own = torch.isclose(perfect, targets.boxes[gt], atol=1e-2).all(dim=1)
        beyond = points.xy[:, 0] >= targets.boxes[gt, 2] - 1
        assert torch.equal(moved, own & ~beyond) and moved.any()
        assert torch.equal(before.boxes[:, :2], after.boxes[:, :2]) and torch.equal(before.logits, after.logits)
        assert (after.boxes[moved, 2] < before.boxes[moved, 2]).all()
    perfect = lesson04.heap(0, skill=1.0).predictions
    assert box_area(perfect.boxes).min() > 0


def test_over_forty_heaps_ota_changes_labels_more_often_than_the_rules_and_moves_fewer_between_gts():
    """What the lesson says it saw, on half of its heaps."""
    seen = list(pairs(40))
    counts = {name: np.array([lesson04.changed(*pair, name) for pair in seen]) for name in ("fcos", "atss", "ota")}
    often = {name: (found.sum(axis=1) > 0).mean() for name, found in counts.items()}
    between = {name: found[:, 0].mean() for name, found in counts.items()}
    assert often["ota"] > often["atss"] > often["fcos"]
    assert between["ota"] < min(between["fcos"], between["atss"])


def test_no_such_gt_and_no_such_seed_are_refused():
    with pytest.raises(InputError, match="gt is 9"):
        lesson04.shaved(lesson04.heap(0).targets, 9)
    with pytest.raises(InputError, match="seed"):
        lesson04.heap(-1)
