"""Eq. 2 and 3 against the dense one-hot losses of the libraries, and the supplies of Sec. 3.3."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou, generalized_box_iou, sigmoid_focal_loss

from otalab.assign import Cost, SinkhornOTA, build_assigner, dynamic_k, fixed_k
from otalab.assign.cost import REGRESSION
from otalab.errors import InputError

from .cases import make_case


def dense_cost(case, cls, reg, alpha):
    """(m + 1, n) by way of the (m, n, C) loss against one-hot targets, with the losses of torch and torchvision."""
    points, predictions, targets = case
    m, n, classes = len(targets), len(points), predictions.logits.shape[1]
    one_hot = F.one_hot(targets.labels, classes).double()[:, None].expand(m, n, classes)
    logits = predictions.logits.expand(m, n, classes)
    if cls == "focal":
        foreground = sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=2).sum(dim=2)
        background = sigmoid_focal_loss(logits[0], torch.zeros(n, classes).double(), alpha=0.25, gamma=2).sum(dim=1)
    else:
        foreground = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(dim=2)
        background = F.binary_cross_entropy_with_logits(logits[0], torch.zeros(n, classes).double(), reduction="none")
        background = background.sum(dim=1)
    if reg == "iou":
        regression = -box_iou(targets.boxes, predictions.boxes).clamp(min=1.1920929e-07).log()
    elif reg == "giou":
        regression = 1 - generalized_box_iou(targets.boxes, predictions.boxes)
    else:
        scaled = [boxes / points.stride[:, None] for boxes in (predictions.boxes, targets.boxes[:, None])]
        scaled = torch.broadcast_tensors(*scaled)
        regression = F.smooth_l1_loss(*scaled, reduction="none").sum(dim=2)
    return torch.cat((foreground + alpha * regression, background[None]))


@pytest.mark.parametrize("cls", ["focal", "ce"])
@pytest.mark.parametrize("reg", REGRESSION)
@pytest.mark.parametrize("num_classes", [1, 4, 80])
def test_the_cost_is_the_dense_one(cls, reg, num_classes):
    for seed, alpha in enumerate((0.0, 1.5, 3.0)):
        case = make_case(seed, num_gt=5, num_classes=num_classes, scene="crowd")
        expected = dense_cost(case, cls, reg, alpha)
        cost = Cost(cls, reg, alpha)
        dear = SinkhornOTA(cost=cost, off_prior=0.0, k=1)(*case).cost
        torch.testing.assert_close(dear, expected, rtol=1e-9, atol=1e-11)
        forbidding = build_assigner("ota", cost=cost)(*case).cost
        allowed = forbidding.isfinite()
        torch.testing.assert_close(forbidding[allowed], expected[allowed], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cls", ["focal", "ce"])
def test_the_classes_that_cancel_do_cancel(cls):
    """over_background is Eq. 2 minus Eq. 3, although it looks at one class only."""
    points, predictions, targets = make_case(3, num_gt=5, num_classes=80)
    cost = Cost(cls)
    n, logits = len(points), predictions.logits
    iou = torch.full((5, n), 0.5, dtype=torch.float64)
    gt_boxes = targets.boxes[:, None]
    d = cost.over_background(logits[:, targets.labels].T, iou, predictions.boxes, gt_boxes, points.stride)
    full = cost.classification(logits, targets.labels)
    full = full + cost.regression(iou, predictions.boxes, gt_boxes, points.stride)
    torch.testing.assert_close(cost.background(logits) + d, full, rtol=1e-12, atol=1e-12)


def test_a_perfect_prediction_is_cheap_for_its_gt_and_dear_for_the_background():
    cost = Cost()
    sure, one = torch.tensor([12.0], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    box = torch.tensor([[0.0, 0.0, 9.0, 9.0]], dtype=torch.float64)
    assert cost.over_background(sure, one, box, box, one) < -8
    assert cost.over_background(-sure, one, box, box, one) > 2


def test_the_off_prior_constant_is_added_outside_the_prior_only():
    case = make_case(0, num_gt=4)
    free = SinkhornOTA(off_prior=0.0, k=1)(*case).cost
    assigner = SinkhornOTA(off_prior=0.7, k=1)
    added = assigner(*case).cost - free
    mask = assigner.prior(case.points, case.targets.boxes)
    assert (added[:-1][mask] == 0).all()
    torch.testing.assert_close(added[:-1][~mask], torch.full_like(added[:-1][~mask], 0.7), rtol=1e-12, atol=1e-12)
    assert (added[-1] == 0).all()


@pytest.mark.parametrize("options", [{"cls": "hinge"}, {"reg": "l2"}])
def test_an_unknown_loss_is_an_error_that_lists_the_known(options):
    with pytest.raises(InputError, match=r"is none of (focal, ce|iou, giou, smooth-l1)"):
        Cost(**options)


def test_dynamic_k_sums_the_q_highest_and_rounds_down_to_at_least_one():
    iou = torch.tensor([[0.9, 0.1, 0.8, 0.7], [0.2, 0.1, 0.3, 0.3], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert dynamic_k(iou, q=3).tolist() == [2, 1, 3, 1]
    assert dynamic_k(iou, q=2).tolist() == [1, 1, 2, 1]
    assert dynamic_k(iou, q=20).tolist() == [2, 1, 4, 1]  # fewer points than q
    assert dynamic_k(iou).dtype == torch.int64
    assert dynamic_k(torch.zeros(2, 0)).tolist() == [1, 1]
    assert dynamic_k(torch.zeros(0, 5)).tolist() == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_twenty_tenths_are_two_for_ota_however_they_are_rounded(dtype):
    tenths = torch.full((1, 20), 0.1, dtype=dtype) * (1 - 1e-7)  # IoUs of boxes that were rounded to float32
    assert tenths.double().sum() < 2
    assert dynamic_k(tenths.double()).tolist() == [1]
    assert dynamic_k(tenths.double(), slack=1e-6).tolist() == [2]
    assert dynamic_k(tenths.double() * 0.999, slack=1e-6).tolist() == [1]


def test_ota_counts_a_sum_of_ious_that_is_an_integer_but_for_rounding():
    """Ten predicted boxes with an IoU of 0.1 and ten with 0.2 make 3."""
    points, predictions, targets = make_case(0, (64, 64), num_gt=1, num_classes=1, stage="early", strides=(8,))
    box = torch.tensor([1.0, 1.0, 61.0, 61.0], dtype=torch.float64)
    parts = torch.cat((box[:3], box[3:] * 0 + 1 + 60 * 0.1)), torch.cat((box[:3], box[3:] * 0 + 1 + 60 * 0.2))
    seen = torch.zeros(len(points), 4, dtype=torch.float64)
    inside = build_assigner("ota").prior(points, box[None])[0].nonzero().flatten()
    seen[inside[:10]], seen[inside[10:20]] = parts
    predictions = type(predictions)(predictions.logits, seen * (1 - 1e-9))
    assignment = build_assigner("ota")(points, predictions, type(targets)(box[None], targets.labels))
    assert assignment.supply[0] == 3


@pytest.mark.parametrize("q", [0, -3])
def test_a_q_below_one_is_an_error(q):
    with pytest.raises(InputError, match=f"q is {q}"):
        dynamic_k(torch.rand(2, 9), q=q)


def test_fixed_k_is_eq_4():
    assert fixed_k(3, 7).tolist() == [7, 7, 7]
    assert fixed_k(0, 7).tolist() == []
    case = make_case(0, num_gt=3)
    assert build_assigner("ota-paper", k=7)(*case).supply.tolist() == [7, 7, 7, len(case.points) - 21]
    with pytest.raises(InputError, match="k is -1"):
        fixed_k(3, -1)


def test_the_papers_k_counts_all_points_and_the_codes_only_those_in_the_prior():
    case = make_case(0, (64, 64), num_gt=1, stage="equal", scene="tiny")
    assert build_assigner("ota-paper")(*case).supply[0] >= build_assigner("ota-official")(*case).supply[0]
    everywhere = type(case.predictions)(case.predictions.logits, case.targets.boxes.expand(len(case.points), 4))
    assert build_assigner("ota-paper")(case.points, everywhere, case.targets).supply[0] == 20
    assert build_assigner("ota-official")(case.points, everywhere, case.targets).supply[0] < 20
