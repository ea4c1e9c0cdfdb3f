"""How much a point counts in the losses, when gts are to count alike."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from otalab.assign.base import from_labels

LABELS = [0, 0, 0, 2, -1, -2, 2, 0, 3, -1]  # gt 0 has four points, gt 1 none, gt 2 two, gt 3 one


def labelled(labels: list[int], num_gt: int = 4):
    return from_labels(torch.tensor(labels, dtype=torch.int64), num_gt)


def test_at_power_1_all_gts_with_a_point_count_alike():
    found = labelled(LABELS).balanced(1.0)
    weight = 7 / 3  # seven positives, three gts that have one
    wanted = [weight / 4, weight / 4, weight / 4, weight / 2, 1, 1, weight / 2, weight / 4, weight, 1]
    assert_close(found.box_weight, torch.tensor(wanted, dtype=torch.float64))
    assert torch.equal(found.label_weight, found.box_weight)
    assert found.matched_gt.tolist() == LABELS


@given(st.lists(st.integers(-2, 3), min_size=1, max_size=30), st.floats(0, 1))
def test_the_weights_of_positives_are_1_on_average_and_fall_with_the_number_of_points(labels, power):
    plain = labelled(labels)
    found = plain.balanced(power)
    if power == 0:
        assert found is plain
        return
    weight, positive = found.box_weight, plain.positive
    assert weight.isfinite().all() and (weight[~positive] == 1).all()
    assert_close(weight[positive].sum(), positive.sum().double())
    own = [weight[plain.matched_gt == gt] for gt in range(4)]
    for a in own:
        for b in own:
            if len(a) and len(b):
                assert_close(a[0] / b[0], torch.tensor((len(b) / len(a)) ** power).double())


def test_weights_that_are_there_already_are_multiplied():
    soft = torch.arange(10).double()
    found = replace(labelled(LABELS), box_weight=soft).balanced()
    assert_close(found.box_weight, soft * labelled(LABELS).balanced().box_weight)
    assert_close(found.label_weight, labelled(LABELS).balanced().label_weight)


@pytest.mark.parametrize("num_gt", [0, 2])
def test_an_image_without_a_positive_stays_as_it_is(num_gt):
    found = labelled([-1, -2, -1], num_gt).balanced()
    assert found.box_weight.tolist() == found.label_weight.tolist() == [1, 1, 1]


def test_losses_of_an_assigners_own_are_left_as_they_are():
    own = replace(labelled(LABELS), make_losses=lambda predictions, kept: {})
    assert own.balanced() is own
