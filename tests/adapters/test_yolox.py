"""YOLOX with our assigners: with its own rule nothing changes, with `ota` it learns."""

import copy

import pytest
import torch
from torch import Tensor, nn

from otalab.assign.simota import MMDETECTION, SimOTA
from otalab.errors import InputError

from .scenes import BATCHES, assert_alike, assert_learns, gradients, random_batch, shapes_batch

pytest.importorskip("yolox")
from yolox.models import YOLOPAFPN, YOLOX, YOLOXHead

from otalab.adapters.yolox import use_assigner

CLASSES, SIZE = 6, 64
OWN = SimOTA(**MMDETECTION | {"iou_eps": 1e-8})  # the rule of release 0.3

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def build() -> nn.Module:
    torch.manual_seed(0)
    model = YOLOX(YOLOPAFPN(0.33, 0.125), YOLOXHead(CLASSES, 0.125))
    model.head.initialize_biases(0.01)
    return model.train()


def as_batch(images: list[Tensor], targets: list[dict]) -> tuple[Tensor, Tensor]:
    """As YOLOX's loader gives it: class, centre and size in px, padded with zeros."""
    labels = torch.zeros(len(images), 8, 5)
    for row, t in zip(labels, targets, strict=True):
        boxes = t["boxes"]
        centred = torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), dim=1)
        row[: len(boxes)] = torch.cat((t["labels"].float()[:, None], centred), dim=1)
    return 255 * torch.stack(images), labels


@pytest.mark.parametrize("use_l1", [False, True])
def test_with_its_own_rule_losses_and_gradients_are_its_own(use_l1):
    theirs = build()
    theirs.head.use_l1 = use_l1
    ours = use_assigner(copy.deepcopy(theirs), OWN)
    for seed in range(BATCHES):
        batch = as_batch(*random_batch(seed))
        expected, found = theirs(*batch), ours(*batch)
        assert_alike(found["total_loss"], expected["total_loss"])
        assert found["num_fg"] == expected["num_fg"]
        assert_alike(gradients(ours, found["total_loss"]), gradients(theirs, expected["total_loss"]))


def test_with_ota_the_loss_falls_and_no_gt_is_left_without_a_positive():
    seen = []
    model = use_assigner(build(), "ota", watch=seen.extend)
    batch = as_batch(*shapes_batch(range(4), SIZE))
    assert_learns(model, lambda: model(*batch)["total_loss"], seen)


def test_the_head_alone_takes_it_and_gives_it_back():
    model, batch = build(), as_batch(*random_batch(1))
    own = model(*batch)["total_loss"]
    use_assigner(model.head, "ota")
    assert model(*batch)["total_loss"] != own
    del model.head.get_assignments
    assert model(*batch)["total_loss"] == own


def test_what_cannot_be_used_is_refused():
    with pytest.raises(InputError, match="a YOLOX or its head can use an assigner, not Linear"):
        use_assigner(nn.Linear(1, 1))
    with pytest.raises(InputError, match="assigner 'otta' is none of"):
        use_assigner(build(), "otta")
