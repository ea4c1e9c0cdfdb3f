import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.transforms.v2.functional import normalize

from otalab.detect import build_detector
from otalab.detect.head import Head

from .models import eager_detector, noise


@pytest.fixture
def head():
    torch.manual_seed(0)
    return Head(channels=32, num_classes=3, num_convs=2, strides=(8, 16))


def features(requires_grad: bool = False) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [
        torch.randn(2, 32, 6, 8, requires_grad=requires_grad),
        torch.randn(2, 32, 3, 4, requires_grad=requires_grad),
    ]


def test_it_answers_for_every_cell_of_every_level(head):
    logits, sides, quality = head(features())
    assert logits.shape == (2, 60, 3) and sides.shape == (2, 60, 4) and quality.shape == (2, 60)


def test_it_begins_with_a_probability_of_one_in_a_hundred_and_boxes_of_two_strides_a_side(head):
    logits, sides, _ = head([0 * f for f in features()])  # nothing seen
    assert_close(logits.sigmoid(), torch.full_like(logits, 0.01))
    strides = torch.tensor([8.0] * 48 + [16.0] * 12)
    assert_close(sides, strides[None, :, None].expand_as(sides))


def test_sides_are_distances_in_strides_scaled_by_level_and_never_negative(head):
    with torch.no_grad():
        head.sides.weight.normal_(std=0.3)
        plain = head(features())[1]
        head.scales.copy_(torch.tensor([2.0, 3.0]))
        scaled = head(features())[1]
    assert (plain >= 0).all() and (plain == 0).any() and (plain > 0).any()
    assert_close(scaled, plain * torch.tensor([2.0] * 48 + [3.0] * 12)[None, :, None])


def test_the_quality_branch_sits_on_the_regression_tower(head):
    head(features())[2].sum().backward()
    assert not any(p.grad.any() for p in head.class_tower.parameters())
    assert all(p.grad.any() for p in head.box_tower.parameters() if p.ndim > 1)


def test_towers_are_shared_by_the_levels_and_scales_are_not(head):
    first, second = features()
    logits = head([first, second])[0]
    assert_close(head([first, first])[0][:, :48], logits[:, :48])
    assert_close(head([first, first])[0][:, 48:], logits[:, :48])
    assert head.scales.shape == (2,)


def test_the_papers_head_has_four_convolutions_and_group_norms_of_32_groups():
    model = build_detector("resnet18", num_classes=80)
    for tower in (model.head.class_tower, model.head.box_tower):
        convs = [layer for layer in tower if isinstance(layer, nn.Conv2d)]
        norms = [layer for layer in tower if isinstance(layer, nn.GroupNorm)]
        assert [c.out_channels for c in convs] == [256] * 4 and [g.num_groups for g in norms] == [32] * 4
    assert model.backbone.strides == (8, 16, 32, 64, 128)


def test_a_batch_is_normalised_as_torchvision_does_and_padded_on_the_right_and_below():
    images = noise((33, 41), (64, 30))
    batch = eager_detector().batch(images)
    assert batch.shape == (2, 3, 64, 41)
    for slot, image in zip(batch, images, strict=True):
        height, width = image.shape[1:]
        assert_close(slot[:, :height, :width], normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        assert not slot[:, height:].any() and not slot[:, :, width:].any()
