"""Boxes and their overlaps against torchvision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_area as torchvision_area
from torchvision.ops import box_iou, complete_box_iou, generalized_box_iou

from otalab import boxes as box_ops
from otalab.errors import InputError


def random_boxes(seed, count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * 60
    return torch.cat((corner, corner + 0.1 + torch.rand(count, 2, generator=generator, dtype=dtype) * 60), dim=1)


coordinates = st.integers(-20, 20).map(float)
any_box = st.tuples(coordinates, coordinates, coordinates, coordinates).map(
    lambda box: torch.tensor(box, dtype=torch.float64)
)


@pytest.mark.parametrize("kind, peer", [("iou", box_iou), ("giou", generalized_box_iou), ("ciou", complete_box_iou)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_pairs_equal_torchvisions(kind, peer, dtype):
    a, b = random_boxes(0, 30, dtype), random_boxes(1, 40, dtype)
    values = box_ops.iou(a[:, None], b, kind=kind)
    assert values.dtype == dtype
    exact = 1e-7 if kind == "ciou" else 1e-12  # torchvision's adds 1e-7 to px^2 and to shares
    torch.testing.assert_close(values, peer(a, b), rtol=0, atol=exact if dtype == torch.float64 else 1e-5)


def test_boxes_broadcast_like_any_tensor():
    a, b = random_boxes(0, 6), random_boxes(1, 6)
    pairs = box_ops.iou(a, b)
    assert pairs.shape == (6,)
    torch.testing.assert_close(pairs, box_iou(a, b).diagonal(), rtol=0, atol=1e-12)
    assert box_ops.iou(a.reshape(2, 3, 4), b[0]).shape == (2, 3)
    assert box_ops.iou(a[:0], b[:0]).shape == (0,)


@settings(deadline=None)
@given(any_box, any_box)
def test_overlap_is_bounded_symmetric_and_never_nan_even_of_inverted_boxes(a, b):
    for kind, least in (("iou", 0.0), ("giou", -1.0), ("ciou", -1.5 - 1e-12)):
        value = box_ops.iou(a, b, kind=kind)
        assert least <= value <= 1 + 1e-12
        assert value == box_ops.iou(b, a, kind=kind)
    assert box_ops.iou(a, b, kind="giou") <= box_ops.iou(a, b) + 1e-12


@settings(deadline=None)
@given(any_box, st.floats(-1e4, 1e4), st.floats(0.1, 100))
def test_a_box_overlaps_itself_wholly_or_is_empty(a, shift, scale):
    moved = (a + shift) * scale
    expected = 1.0 if box_ops.box_area(moved) > 1e-3 else 0.0
    assert box_ops.iou(moved, moved) == expected


def test_overlap_of_known_boxes():
    a = torch.tensor([0.0, 0.0, 10.0, 10.0])
    assert box_ops.iou(a, torch.tensor([5.0, 0.0, 15.0, 10.0])).item() == pytest.approx(1 / 3)
    assert box_ops.iou(a, torch.tensor([10.0, 0.0, 20.0, 10.0])) == 0
    assert box_ops.iou(a, torch.tensor([20.0, 0.0, 30.0, 10.0]), kind="giou").item() == pytest.approx(-1 / 3)
    assert box_ops.iou(a, torch.tensor([4.0, 4.0, 4.0, 8.0])) == 0


def test_an_unknown_kind_of_overlap_is_no_other_kind():
    a = torch.tensor([0.0, 0.0, 10.0, 10.0])
    with pytest.raises(InputError, match="no kind of IoU 'diou'; there is iou, giou, ciou"):
        box_ops.iou(a, a, kind="diou")


def test_area_is_torchvisions_and_zero_for_inverted_boxes():
    boxes = random_boxes(0, 20)
    torch.testing.assert_close(box_ops.box_area(boxes), torchvision_area(boxes))
    inverted = torch.tensor([[5.0, 5.0, 1.0, 1.0], [5.0, 1.0, 1.0, 5.0], [1.0, 1.0, 1.0, 5.0]])
    assert box_ops.box_area(inverted).tolist() == [0, 0, 0]


def test_iou_loss_is_minus_log_and_stops_at_float32_epsilon():
    loss = box_ops.iou_loss(torch.tensor([1.0, 0.5, 1e-9, 0.0], dtype=torch.float64))
    expected = [0.0, 0.6931471805599453, 15.942385152878742, 15.942385152878742]
    assert loss.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_overlap_is_differentiable_in_both_boxes(kind):
    a, b = random_boxes(0, 5).requires_grad_(), random_boxes(1, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: box_ops.iou(a, b, kind=kind), (a, b))


def test_sides_are_distances_from_the_point_and_negative_outside():
    xy = torch.tensor([[3.0, 4.0], [20.0, 4.0]])
    boxes = torch.tensor([[1.0, 1.0, 9.0, 11.0], [0.0, 0.0, 5.0, 5.0]])
    assert box_ops.ltrb(xy, boxes[0]).tolist() == [[2, 3, 6, 7], [19, 3, -11, 7]]
    pairs = box_ops.ltrb(xy, boxes[:, None])  # (gt, point, side)
    assert pairs.shape == (2, 2, 4)
    assert pairs[1, 0].tolist() == [3, 4, 2, 1]


def test_centres_lie_halfway():
    assert box_ops.centres(torch.tensor([[0.0, 2.0, 10.0, 4.0]])).tolist() == [[5.0, 3.0]]


def test_no_tensor_is_made_without_a_device():
    a, b = random_boxes(0, 3), random_boxes(1, 3)
    with torch.device("meta"):
        made = [box_ops.iou(a, b), box_ops.iou(a, b, kind="giou"), box_ops.ltrb(a[:, :2], b), box_ops.centres(a)]
    assert {tensor.device.type for tensor in made} == {"cpu"}
