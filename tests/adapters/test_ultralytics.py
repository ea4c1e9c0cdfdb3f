"""Ultralytics' detectors with our assigners: with their own rule nothing changes, with `ota` they learn."""

import copy

import pytest
import torch
from torch import Tensor, nn

from otalab.assign.tal import ULTRALYTICS, TaskAligned
from otalab.errors import InputError

from .scenes import BATCHES, assert_alike, assert_learns, assert_none_is_left_out, gradients, random_batch, shapes_batch

pytest.importorskip("ultralytics")
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG

from otalab.adapters.ultralytics import OtalabAssigner, use_assigner

CLASSES, SIZE = 6, 64


def build(name: str = "yolo11n.yaml") -> nn.Module:
    torch.manual_seed(0)
    model = DetectionModel(name, nc=CLASSES, verbose=False)
    model.args = DEFAULT_CFG
    return model.train()


def as_batch(images: list[Tensor], targets: list[dict]) -> dict[str, Tensor]:
    """As Ultralytics' loader gives it: boxes as centre and size in shares of the image."""
    boxes = torch.cat([t["boxes"] for t in targets]) / images[0].shape[-1]
    return {
        "img": torch.stack(images),
        "batch_idx": torch.cat([torch.full((len(t["labels"]),), float(i)) for i, t in enumerate(targets)]),
        "cls": torch.cat([t["labels"] for t in targets]).float()[:, None],
        "bboxes": torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), dim=1),
    }


def test_with_ultralytics_own_rule_losses_and_gradients_are_its_own():
    theirs = build()
    ours = use_assigner(copy.deepcopy(theirs), TaskAligned(**ULTRALYTICS))
    for seed in range(BATCHES):
        batch = as_batch(*random_batch(seed, size=128))
        (expected, _), (found, _) = theirs.loss(batch), ours.loss(batch)
        assert_alike(found, expected)
        assert_alike(gradients(ours, found.sum()), gradients(theirs, expected.sum()))


def test_of_an_end_to_end_model_only_the_branch_of_many_boxes_is_changed():
    theirs = build("yolo26n.yaml")
    ours = use_assigner(copy.deepcopy(theirs), TaskAligned(**ULTRALYTICS))
    batch = as_batch(*random_batch(1))
    assert_alike(ours.loss(batch)[0], theirs.loss(batch)[0])
    assert isinstance(ours.criterion.one2many.assigner, OtalabAssigner)
    assert not isinstance(ours.criterion.one2one.assigner, OtalabAssigner)


@pytest.mark.parametrize("scores", ["aligned", "hard"])
def test_with_ota_the_loss_falls_and_no_gt_is_left_without_a_positive(scores):
    seen = []
    model = use_assigner(build(), "ota", scores, watch=seen.extend)
    batch = as_batch(*shapes_batch(range(4), SIZE))
    assert_learns(model, lambda: model.loss(batch)[0].sum(), seen)


def outputs(assigner: nn.Module, gts: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """What it answers for two images of 64 px, the first with one gt less, the padding in between."""
    g = torch.Generator().manual_seed(0)
    points = torch.cat([grid(stride) for stride in (8, 16, 32)])
    boxes = torch.cat((points - 12, points + 12), dim=1).expand(2, -1, -1).contiguous()
    corner = torch.rand(2, gts, 2, generator=g) * 30
    gt_boxes = torch.cat((corner, corner + 20), dim=2)
    mask = torch.ones(2, gts, 1)
    gt_boxes[0, 1:2], mask[0, 1:2] = 0, 0
    labels = torch.randint(0, CLASSES, (2, gts, 1), generator=g).float()
    return assigner(torch.rand(2, len(points), CLASSES, generator=g).to(dtype), boxes, points, labels, gt_boxes, mask)


def grid(stride: int) -> Tensor:
    at = (torch.arange(SIZE // stride) + 0.5) * stride
    return torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1).reshape(-1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_five_outputs_are_those_of_the_rule_that_they_replace(dtype):
    model = build()
    model.criterion = model.init_criterion()
    theirs = model.criterion.assigner
    use_assigner(model, TaskAligned(**ULTRALYTICS))
    expected, found = outputs(theirs, dtype=dtype), outputs(model.criterion.assigner, dtype=dtype)
    positive = expected[3]
    assert positive.any(dim=1).all() and torch.equal(found[3], positive)
    for a, b in zip(found, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        torch.testing.assert_close(a[positive], b[positive], rtol=1e-3 if dtype == torch.float16 else 1e-5, atol=1e-6)
    torch.testing.assert_close(found[2].sum(), expected[2].sum(), rtol=1e-3, atol=1e-6)


def test_without_gts_all_is_background_and_a_score_is_one_where_it_is_hard():
    model = use_assigner(build(), "ota", scores="hard")
    labels, boxes, scores, positive, gt = outputs(model.criterion.assigner, gts=0)
    assert not positive.any() and not scores.any() and labels.shape == gt.shape == boxes.shape[:2]
    labels, _, scores, positive, gt = outputs(model.criterion.assigner)
    assert torch.equal(scores.sum(dim=2), positive.float())
    assert (scores.argmax(dim=2) == labels)[positive].all()
    assert not (gt[0][positive[0]] == 1).any() and (gt[0][positive[0]] == 2).any()  # 1 is padding


def test_an_object_that_tal_leaves_without_a_point_has_one():
    small = as_batch(
        [torch.rand(3, SIZE, SIZE)], [{"boxes": torch.tensor([[14.5, 14.5, 17.5, 17.5]]), "labels": torch.tensor([1])}]
    )
    seen = []
    for rule in (TaskAligned(**ULTRALYTICS | {"least_side": 0.0}), "ota"):  # as Ultralytics was before it widened gts
        use_assigner(build(), rule, watch=seen.extend).loss(small)
    assert [int(a.counts) for a in seen] == [0, 1]


@pytest.mark.filterwarnings("ignore")  # what its trainer imports warns in many ways
def test_a_yolo_trains_with_it_and_a_trainer_takes_it(shapes_yaml, tmp_path):
    seen = []
    model = use_assigner(YOLO("yolo11n.yaml", verbose=False), "ota", watch=seen.extend)
    model.train(
        data=str(shapes_yaml),
        epochs=2,
        imgsz=SIZE,
        batch=4,
        workers=0,
        device="cpu",
        project=str(tmp_path),
        plots=False,
        val=False,
        verbose=False,
        amp=False,
    )
    assert len(seen) == 2 * 8
    assert_none_is_left_out(seen)
    trainer = model.trainer
    assert isinstance(trainer.model.criterion.assigner, OtalabAssigner)
    use_assigner(trainer, "simota")
    assert type(trainer.model.criterion.assigner.match.assigner).__name__ == "SimOTA"


def test_what_cannot_be_used_is_refused():
    with pytest.raises(InputError, match="scores 'soft' is none of aligned, hard"):
        use_assigner(build(), "ota", scores="soft")
    with pytest.raises(InputError, match="assigner 'otta' is none of"):
        use_assigner(YOLO("yolo11n.yaml", verbose=False), "otta")
    model = build()
    model.criterion = nn.L1Loss()
    with pytest.raises(InputError, match="L1Loss has NoneType and no TaskAlignedAssigner"):
        use_assigner(model, "ota")
    assigner = use_assigner(build(), "ota").criterion.assigner
    with pytest.raises(InputError, match="84 points do not fill"):
        assigner.stride = [8.0, 16.0, 64.0]
        outputs(assigner)
