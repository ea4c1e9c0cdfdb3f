"""Lesson 04's checker knows the usual miscounts of ambiguous points from one another."""

import numpy as np
import pytest
import torch

from otalab.assign import ClosestPrior, RadiusPrior
from otalab.lessons import lesson04


def claims(radius=2.5):
    _, points, targets = lesson04.crowd()
    return RadiusPrior(radius)(points, targets.boxes).sum(dim=0)


def counted_by_hand(margin=0.01):
    """Points inside several gts, by `margin` px, and their centre squares, one by one."""
    _, points, targets = lesson04.crowd()
    count = 0
    for (x, y), stride in zip(points.xy.tolist(), points.stride.tolist(), strict=True):
        takers = 0
        for x1, y1, x2, y2 in targets.boxes.tolist():
            near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < 2.5 * stride
            takers += near and min(x - x1, y - y1, x2 - x, y2 - y) > margin
        count += takers > 1
    return count


def test_the_right_count_passes_in_any_number_type_and_says_where_the_points_are():
    right = counted_by_hand()
    for answer in (right, float(right), np.int64(right), torch.tensor(right)):
        verdict = lesson04.check(answer)
        assert verdict.passed and "by level" in verdict.message


@pytest.mark.parametrize(
    "answer, hint",
    [
        (None, "No answer yet"),
        (..., "No answer yet"),
        ("many", "not str"),
        ([1, 2], "not list"),
        (claims() > 1, "not Tensor"),
        (1 + 2j, "not complex"),
        (-3, "whole number"),
        (float("nan"), "whole number"),
        (10.5, "whole number"),
        (10**9, "whole number"),
        (int((claims() > 0).sum()), "more than one claim"),
        (int((claims() == 2).sum()), "three gts"),
        (int((claims() == 1).sum()), "nobody disputes"),
        (int((claims() == 0).sum()), "nobody may claim"),
        (int((claims(1e6) > 1).sum()), "inside several boxes"),
        (int((claims(1.5) > 1).sum()), "1.5 strides"),
        (counted_by_hand(margin=-torch.inf), "inside its box"),
        (int((claims()[:256] > 1).sum()), "finest level"),
        (int(claims().sum()), "counts claims"),
        (int((claims() - 1).clamp(min=0).sum()), "claims too many"),
        (7, "Make the mask"),
    ],
)
def test_a_wrong_count_gets_the_hint_of_its_mistake(answer, hint):
    verdict = lesson04.check(answer)
    assert not verdict.passed and hint in verdict.message
    assert str(counted_by_hand()) not in verdict.message


def test_the_prior_of_the_paper_is_told_from_the_code_s():
    _, points, targets = lesson04.crowd()
    count = int((ClosestPrior()(points, targets.boxes).sum(dim=0) > 1).sum())
    assert "paper's prior" in lesson04.check(count).message
