"""mmdetection's heads with our assigners: with their own rules nothing changes, with `ota` they learn."""

import pytest
import torch
from torch import Tensor, nn

from otalab.assign import AnchorPoints, Predictions, Targets, build_assigner
from otalab.assign.simota import MMDETECTION
from otalab.errors import InputError

from .scenes import BATCHES, assert_alike, assert_learns, gradients, random_batch, shapes_batch

pytest.importorskip("mmdet")
from mmdet.models.dense_heads import RetinaHead, YOLOXHead
from mmdet.registry import TASK_UTILS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

import otalab.adapters.mmdet  # noqa: F401  registers the assigner

CLASSES, SIZE, STRIDES = 6, 64, (8, 16, 32)
OWN = {"type": "OtalabAssigner", "name": "simota", "scores": "root", **MMDETECTION}

pytestmark = pytest.mark.filterwarnings("ignore")  # it was written for PyTorch 1


class Model(nn.Module):
    """A head on a convolution for each level."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(3, 16, s, stride=s) for s in STRIDES)
        self.head = head

    def forward(self, images: list[Tensor], targets: list[dict]) -> Tensor:
        """The sum of the losses."""
        features = tuple(layer(torch.stack(images)) for layer in self.maps)
        gts = [InstanceData(bboxes=t["boxes"], labels=t["labels"]) for t in targets]
        metas = [{"img_shape": (SIZE, SIZE), "pad_shape": (SIZE, SIZE)} for _ in images]
        losses = self.head.loss_by_feat(*self.head(features), gts, metas)
        return sum(sum(x) if isinstance(x, list) else x for x in losses.values())


def retinanet(assigner: dict) -> Model:
    torch.manual_seed(0)
    # three anchors a point, of whole px: a tie is then one in float32 as in float64
    anchors = {"type": "AnchorGenerator", "scales": [2, 3, 4], "ratios": [1.0], "strides": STRIDES}
    config = ConfigDict(assigner=assigner, allowed_border=-1, pos_weight=-1, debug=False)
    head = RetinaHead(CLASSES, 16, stacked_convs=1, feat_channels=16, anchor_generator=anchors, train_cfg=config)
    return Model(head)


def yolox(assigner: dict) -> Model:
    torch.manual_seed(0)
    config = ConfigDict(assigner=assigner)
    model = Model(YOLOXHead(CLASSES, 16, feat_channels=16, stacked_convs=1, strides=STRIDES, train_cfg=config))
    model.head.init_weights()
    return model


PAIRS = {
    "yolox": (yolox, {"type": "SimOTAAssigner", "center_radius": 2.5}, OWN),
    "retinanet": (
        retinanet,
        {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0},
        {"type": "OtalabAssigner", "name": "max-iou", "priors": "anchors"},
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_with_its_own_rule_losses_and_gradients_are_its_own(name):
    build, *rules = PAIRS[name]
    theirs, ours = map(build, rules)
    for seed in range(BATCHES):
        batch = random_batch(seed)
        expected, found = theirs(*batch), ours(*batch)
        assert_alike(found, expected)
        assert_alike(gradients(ours, found), gradients(theirs, expected))


def test_with_ota_the_loss_of_yolox_falls_and_no_gt_is_left_without_a_positive():
    seen = []
    model = yolox({"type": "OtalabAssigner", "name": "ota", "scores": "root", "watch": seen.extend})
    batch = shapes_batch(range(4), SIZE)
    assert_learns(model, lambda: model(*batch), seen, lr=2e-3)


def instances(seed: int) -> tuple[AnchorPoints, InstanceData, InstanceData]:
    """Points, predictions on one anchor a point, and gts."""
    g = torch.Generator().manual_seed(seed)
    points = AnchorPoints.for_image((SIZE, SIZE), STRIDES)
    boxes = points.boxes(scale=4.0) + 4 * torch.randn(len(points), 4, generator=g)
    scores = torch.rand(len(points), CLASSES, generator=g)
    target = random_batch(seed)[1][0]
    predicted = InstanceData(priors=points.boxes(scale=8.0), bboxes=boxes, scores=scores)
    return points, predicted, InstanceData(bboxes=target["boxes"], labels=target["labels"])


@pytest.mark.parametrize("seed", range(5))
def test_the_rule_of_tood_has_its_alignments_and_that_of_atss_its_labels_from_priors_alone(seed):
    points, predicted, gts = instances(seed)
    expected = TASK_UTILS.build({"type": "TaskAlignedAssigner", "topk": 13}).assign(predicted, gts, None, 1, 6)
    found = build_ours(name="tal", priors="anchors").assign(predicted, gts, None, 1, 6)
    assert torch.equal(found.gt_inds, expected.gt_inds) and torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.assign_metrics, expected.assign_metrics, rtol=1e-4, atol=1e-9)
    positive = found.gt_inds > 0
    torch.testing.assert_close(found.max_overlaps[positive], expected.max_overlaps[positive], rtol=1e-5, atol=1e-6)

    alone, sizes = InstanceData(priors=predicted.priors), points.level.bincount().tolist()
    expected = TASK_UTILS.build({"type": "ATSSAssigner", "topk": 9}).assign(alone, sizes, gts, None)
    found = build_ours(name="atss", priors="anchors").assign(alone, sizes, gts, None)
    assert torch.equal(found.gt_inds, expected.gt_inds) and torch.equal(found.labels, expected.labels)


def build_ours(**options):
    return TASK_UTILS.build({"type": "OtalabAssigner", **options})


def test_points_and_raw_scores_as_rtmdet_has_them_are_those_of_the_contract():
    points, predicted, gts = instances(0)
    predicted.priors = torch.cat((points.xy, points.stride[:, None].expand(-1, 2)), dim=1)
    found = build_ours(name="ota", scores="logit").assign(predicted, gts)
    expected = build_assigner("ota")(
        points, Predictions(predicted.scores, predicted.bboxes), Targets(gts.bboxes, gts.labels)
    )
    assert torch.equal(found.gt_inds, expected.matched_gt + 1)
    ignored = build_ours(name="ota", scores="logit").assign(
        predicted, gts, InstanceData(bboxes=torch.tensor([[0.0, 0, SIZE, SIZE]]))
    )
    assert torch.equal(ignored.gt_inds, torch.where(found.gt_inds > 0, found.gt_inds, -1))
    none = build_ours().assign(predicted, gts[:0])
    assert none.num_gts == 0 and not none.gt_inds.any() and (none.labels == -1).all()


def test_what_cannot_be_used_is_refused():
    with pytest.raises(InputError, match="assigner 'otta' is none of"):
        build_ours(name="otta")
    with pytest.raises(InputError, match="priors 'boxes' is none of points, anchors"):
        build_ours(priors="boxes")
    _, predicted, gts = instances(0)
    with pytest.raises(InputError, match="OTA looks at predictions, and this head assigns by priors alone"):
        build_ours(priors="anchors").assign(InstanceData(priors=predicted.priors), [64, 16, 4], gts, None)
