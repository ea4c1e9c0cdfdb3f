"""torchvision's FCOS and RetinaNet with our assigners: with their own rule nothing changes, with `ota` they learn."""

import copy
import io
import pickle
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator

from otalab.adapters.torchvision import use_assigner
from otalab.assign import build_assigner
from otalab.errors import InputError

from .scenes import BATCHES, assert_alike, assert_learns, gradients, random_batch, shapes_batch

CLASSES, SIZE = 6, 64
OWN = {"fcos": "fcos", "retinanet": "max-iou:learner=best"}  # torchvision's rules by our names


class Pyramid(nn.Module):
    """Three levels, of strides 8 to 32, from a convolution each."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 8, stride=8)
        self.others = nn.ModuleList(nn.Conv2d(32, 32, 3, stride=2, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> OrderedDict:
        maps = [self.first(x)]
        for layer in self.others:
            maps.append(layer(maps[-1].relu()))
        return OrderedDict(enumerate(maps))


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "fcos":
        anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
        return detection.FCOS(Pyramid(), CLASSES, SIZE, SIZE, anchor_generator=anchors)
    anchors = AnchorGenerator(tuple((s, int(s * 2 ** (1 / 3))) for s in (16, 32, 64)), ((0.5, 1.0, 2.0),) * 3)
    return detection.RetinaNet(Pyramid(), CLASSES, SIZE, SIZE, anchor_generator=anchors)


@pytest.mark.parametrize("kind", OWN)
def test_with_torchvisions_own_rule_losses_and_gradients_are_its_own(kind):
    theirs = build(kind)
    ours = use_assigner(copy.deepcopy(theirs), OWN[kind])
    positives = 0
    for seed in range(BATCHES):
        batch = random_batch(seed)
        expected, found = theirs(*batch), ours(*batch)
        assert found.keys() == expected.keys()
        for name in expected:
            assert_alike(found[name], expected[name])
        assert_alike(gradients(ours, sum(found.values())), gradients(theirs, sum(expected.values())))
        positives += float(expected["bbox_regression"].detach()) > 0
    assert positives == BATCHES


@pytest.mark.parametrize(
    "constructor, kind",
    [
        ("fcos_resnet50_fpn", "fcos"),
        ("retinanet_resnet50_fpn", "retinanet"),
        ("retinanet_resnet50_fpn_v2", "retinanet"),
    ],
)
def test_the_models_of_torchvision_keep_their_losses_and_their_weights(constructor, kind):
    torch.manual_seed(0)
    model = getattr(detection, constructor)(
        weights=None, weights_backbone=None, num_classes=CLASSES, min_size=SIZE, max_size=SIZE
    )
    batch, names = random_batch(1), list(model.state_dict())
    with torch.no_grad():
        expected = model(*batch)
        found = use_assigner(model, OWN[kind])(*batch)
        assert all(map(torch.isfinite, use_assigner(model, "ota")(*batch).values()))
    for name in expected:
        assert_alike(found[name], expected[name])
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("kind, quality", [("fcos", "centre-ness"), ("fcos", "iou"), ("retinanet", "centre-ness")])
def test_with_ota_the_loss_falls_and_no_gt_is_left_without_a_positive(kind, quality):
    seen = []
    model = use_assigner(build(kind), "ota", quality, watch=seen.extend)
    batch = shapes_batch(range(4), SIZE)
    assert_learns(model, lambda: sum(model(*batch).values()), seen)
    assert all(a.certificate.is_optimal() for a in seen[-4:])


def test_the_branch_beside_the_boxes_learns_what_was_asked_for():
    batch = random_batch(1)
    with torch.no_grad():
        by = {quality: use_assigner(build("fcos"), "fcos", quality)(*batch) for quality in ("centre-ness", "iou")}
    assert by["iou"]["bbox_ctrness"] != by["centre-ness"]["bbox_ctrness"]
    assert all(by["iou"][name] == by["centre-ness"][name] for name in ("classification", "bbox_regression"))


def test_a_point_outside_its_gt_has_a_loss_that_is_finite():
    tiny = [
        {"boxes": torch.tensor([[9.0, 6.0, 12.0, 10.0]]), "labels": torch.tensor([1])}
    ]  # beside (8, 8), between the points
    seen = []
    model = use_assigner(build("fcos"), "ota", watch=seen.extend)
    losses = model([torch.rand(3, SIZE, SIZE)], tiny)
    assert all(map(torch.isfinite, losses.values()))
    assert gradients(model, sum(losses.values())).isfinite().all()
    assert seen[0].counts.tolist() == [1]


def test_the_model_can_be_copied_pickled_called_twice_and_set_free():
    batch, model = random_batch(1), build("retinanet")
    with torch.no_grad():
        own = model(*batch)
        adapted = use_assigner(use_assigner(model, "max-iou"), "ota")(*batch)
        assert adapted["classification"] != own["classification"]
        for twin in (copy.deepcopy(model), pickle.load(io.BytesIO(pickle.dumps(model)))):
            nn.init.zeros_(model.head.classification_head.cls_logits.bias)  # the twin goes by its own weights
            assert twin(*batch) == adapted
            model.load_state_dict(twin.state_dict())
        del model.compute_loss
        assert model(*batch) == own


def test_ignored_anchors_stay_out_of_retinanets_loss():
    seen = []
    use_assigner(build("retinanet"), "max-iou:neg_iou_thr=0.1", watch=seen.extend)(*random_batch(1))
    assert any((a.matched_gt == -2).any() for a in seen)


def test_what_cannot_be_used_is_refused():
    with pytest.raises(InputError, match="FCOS or RetinaNet can use an assigner, not Linear"):
        use_assigner(nn.Linear(1, 1))
    with pytest.raises(InputError, match="assigner 'otta' is none of"):
        use_assigner(build("fcos"), "otta")
    with pytest.raises(InputError, match="quality 'giou' is none of centre-ness, iou"):
        use_assigner(build("fcos"), "ota", quality="giou")
    with pytest.raises(InputError, match="options q belong to a name"):
        use_assigner(build("fcos"), build_assigner("ota"), q=10)
    with pytest.raises(InputError, match="FreeAnchor brings losses of its own"):
        use_assigner(build("fcos"), "freeanchor")(*random_batch(1))
