"""Detectors with anchor boxes of their own: GuidedAnchoring and MetaAnchor."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from otalab.assign import AnchorPoints, MaxIoU, Targets
from otalab.boxes import centres
from otalab.data import CLASS_NAMES
from otalab.data.coco import CocoDataset
from otalab.detect import build_detector
from otalab.detect.checkpoint import load_model, save_model
from otalab.detect.config import TrainConfig, implied
from otalab.detect.detector import as_targets
from otalab.detect.export import export
from otalab.detect.guided import bounded_iou_loss, location_targets
from otalab.detect.head import Head
from otalab.detect.meta import PRIORS, MetaHead
from otalab.errors import InputError

from .models import eager_detector, noise, target
from .runs import steps_of

KINDS = ("guided", "meta")


def detector(kind: str, **options):
    """An untrained detector of that kind that detects everywhere, in evaluation mode."""
    model = eager_detector(assigner="max-iou", anchors=kind, **options)
    if kind == "guided":
        model.head.location.bias.data.fill_(1.0)
        model.head.shape.weight.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_anchors_are_centred_on_their_points_and_boxes_contain_them(kind):
    points, (found,) = detector(kind).predict(noise((64, 96)))
    assert len(found.anchors) == len(points) == len(found.boxes)
    assert_close(centres(found.anchors), points.xy, rtol=0, atol=1e-3)
    assert ((found.boxes[:, :2] <= points.xy) & (found.boxes[:, 2:] >= points.xy)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_max_iou_labels_by_the_detectors_own_anchors(kind):
    model = detector(kind)
    truth = as_targets(target((4.0, 4.0, 40.0, 44.0), (30.0, 10.0, 62.0, 60.0)))
    points, (found,) = model.predict(noise((64, 64)))
    wanted = model.assigner.match(found.anchors.double(), truth.boxes.double())
    assignment = model.assigner(points, found, truth)
    assert torch.equal(assignment.matched_gt, wanted) and (assignment.counts > 0).all()
    assert not torch.equal(MaxIoU()(points, replace(found, anchors=None), truth).matched_gt, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_gets_the_same_answer_alone_and_padded_in_a_batch(kind):
    model, images = detector(kind), noise((64, 80), (90, 70))
    (points, (one,)), (shared, (two, _)) = model.predict(images[:1]), model.predict(images)
    real = ~model.in_padding(shared, images)[0]
    assert_close(shared.xy[real], points.xy)
    for name in ("logits", "boxes", "quality", "anchors"):
        assert_close(getattr(two, name)[real], getattr(one, name), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_fall_while_a_batch_is_learnt(kind, shapes):
    dataset = CocoDataset.from_folder(shapes, "train")
    images, targets = zip(*(dataset[i] for i in range(2)), strict=True)
    torch.manual_seed(0)
    model = build_detector("tiny", len(CLASS_NAMES), "max-iou", anchors=kind).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        parts = model(list(images), list(targets))
        optimizer.zero_grad()
        sum(parts.values()).backward()
        optimizer.step()
        losses.append(sum(parts.values()).item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert sum(losses[-3:]) < 0.85 * sum(losses[:3]), losses
    no_object = model(list(images), [target(), target()])
    assert all(loss.isfinite() for loss in no_object.values())


@pytest.mark.parametrize("kind", KINDS)
def test_in_half_precision_anchors_and_losses_are_in_float32(kind):
    model = detector(kind)
    with torch.autocast("cpu", torch.bfloat16):
        _, (found,) = model.predict(noise((64, 64)))
        losses = model.train()(noise((64, 64), (48, 64)), [target((4.0, 4.0, 40.0, 44.0)), target()])
    assert found.anchors.dtype == found.boxes.dtype == found.logits.dtype == torch.float32
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_detector_keeps_its_kind_and_is_not_exported(kind, tmp_path):
    model = detector(kind)
    settings = {"backbone": "tiny", "num_classes": 3, "assigner": "max-iou", "anchors": kind}
    save_model(tmp_path / "model.safetensors", model, settings, ["a", "b", "c"], [1, 2, 3])
    (wanted,), (found,) = (m(noise((64, 64))) for m in (model, load_model(tmp_path)[0]))
    assert len(found["boxes"]) > 10 and torch.equal(found["labels"], wanted["labels"])
    with pytest.raises(InputError, match=f"has anchors {kind}, which cannot be exported"):
        export(tmp_path, tmp_path / "model.onnx", size=(64, 64))


@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_trains_them_by_a_flag(kind, setup):
    from otalab.detect.train import train

    config = setup(anchors=kind, assigner="max-iou", epochs=1, steps=2, batch_size=4)
    assert train(config, progress=False).keys() >= {"AP"}
    assert steps_of(config.out) == [1, 2]
    assert type(load_model(config.out)[0].head) is type(build_detector(anchors=kind).head) is not Head


def test_the_flag_brings_max_iou_along_and_other_assigners_are_refused(train_flags, refused):
    assert TrainConfig(**implied({"anchors": "meta"})).assigner == "max-iou"
    assert TrainConfig.from_recipe("cells", anchors="guided").assigner == "max-iou"
    assert TrainConfig(**implied({"anchors": "meta", "assigner": "max-iou:pos_iou_thr=0.6"})).anchors == "meta"
    assert "anchors guided are for the assigner max-iou" in refused(*train_flags(anchors="guided", assigner="ota"))
    with pytest.raises(InputError, match="anchors 'square' are none of points, guided, meta"):
        build_detector(anchors="square")


# GuidedAnchoring


def test_a_location_is_right_in_the_middle_of_a_gt_of_its_level_and_unsure_around_it():
    points = AnchorPoints.for_image((64, 64), strides=(8, 16))  # anchors of 32 px, and of 64 px
    right, weight = location_targets(points, Targets(torch.tensor([[12.0, 12.0, 44.0, 44.0]]), torch.tensor([0])))
    fine, coarse = points.level == 0, points.level == 1
    away = (points.xy - 28).abs().amax(dim=1)  # px from the gt's centre, along the farther axis
    assert torch.equal(right, fine & (away <= 4))  # 0.2 of a half side of 16 px, and at least half a cell
    unsure = (fine & (away > 4) & (away <= 8)) | (coarse & (away <= 8))
    assert_close(weight, torch.where(right, 1.0, torch.where(unsure, 0.0, 0.1)))
    assert right.sum() == 1 and (weight == 0).sum() == unsure.sum() > 0


def test_a_small_gt_has_a_location_and_regions_to_be_ignored_have_none():
    points = AnchorPoints.for_image((64, 64), strides=(4, 8))
    boxes, ignored = torch.tensor([[9.0, 9.0, 11.0, 11.0]]), torch.tensor([[32.0, 32.0, 64.0, 64.0]])
    right, weight = location_targets(points, Targets(boxes, torch.tensor([0]), ignored))
    assert points.xy[right].tolist() == [[10.0, 10.0]]
    assert not weight[(points.xy > 32).all(dim=1)].any() and (weight[(points.xy < 8).all(dim=1)] > 0).all()
    right, weight = location_targets(points, Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))
    assert not right.any() and weight.tolist() == pytest.approx([0.1] * len(points))


def test_the_bounded_iou_loss_is_that_of_hand():
    found = bounded_iou_loss(torch.tensor([[10.0, 30.0], [10.0, 19.0], [5.0, 5.0]]), torch.tensor([[10.0, 20.0]] * 3))
    assert_close(found, torch.tensor([[0.0, 1 / 3 - 0.1], [0.0, 0.05**2 / 0.4], [0.5 - 0.1, 0.75 - 0.1]]))
    assert not bounded_iou_loss(torch.ones(1, 2), torch.zeros(1, 2)).any()  # a gt of no size


@given(st.floats(1, 1e3), st.floats(1, 1e3), st.floats(0.1, 10))
def test_the_bounded_iou_loss_asks_for_proportions_alone_and_is_bounded(side, gt_side, zoom):
    a, b = torch.tensor([[side, gt_side]], dtype=torch.float64), torch.tensor([[gt_side, side]], dtype=torch.float64)
    loss = bounded_iou_loss(a, b)
    assert ((loss >= 0) & (loss < 0.9)).all() and (loss.sum() == 0) == (side == gt_side)
    assert_close(bounded_iou_loss(zoom * a, zoom * b), loss, rtol=1e-6, atol=1e-12)


def test_shapes_learn_from_their_own_loss_alone():
    model = build_detector("tiny", 3, "max-iou", anchors="guided").train()
    losses = model(noise((64, 64)), [target((8.0, 8.0, 50.0, 30.0))])
    assert losses.keys() == {"classification", "box", "quality", "location", "shape"}
    (losses["classification"] + losses["box"] + losses["quality"]).backward(retain_graph=True)
    assert model.head.shape.weight.grad is None or not model.head.shape.weight.grad.any()
    losses["shape"].backward()
    assert model.head.shape.weight.grad.any()


def test_a_detector_begins_with_square_anchors_and_detects_where_one_belongs():
    model = detector("guided")
    model.head.shape.weight.data.zero_()
    points, (found,) = model.predict(noise((64, 64)))
    assert_close(found.anchors, points.boxes(4), rtol=0, atol=1e-4)
    assert len(model(noise((64, 64)))[0]["boxes"]) > 0
    model.head.location.bias.data.fill_(-9.0)
    assert len(model(noise((64, 64)))[0]["boxes"]) == 0


# MetaAnchor


def test_each_point_has_every_anchor_box_in_turn():
    model = detector("meta")
    points, (found,) = model.predict(noise((32, 32)))
    assert torch.equal(points.xy[0], points.xy[1]) and torch.equal(points.xy[0], points.xy[2])
    sizes = (found.anchors[:3, 2:] - found.anchors[:3, :2]) / (8 * points.stride[0])
    assert_close(sizes, torch.tensor(PRIORS), rtol=1e-4, atol=1e-4)


def test_weights_follow_from_the_anchor_box_and_a_residual_of_nothing_is_the_plain_head():
    torch.manual_seed(0)
    head, plain = (kind(32, 3, 2, (8, 16)).eval() for kind in (MetaHead, Head))
    plain.load_state_dict({name: value for name, value in head.state_dict().items() if "residual" not in name})
    features = [torch.randn(1, 32, 4, 6), torch.randn(1, 32, 2, 3)]
    head.priors = torch.tensor([[1.0, 1.0], [2.0, 0.5]])
    for residual in (head.class_residual, head.box_residual):
        residual[-1].weight.data.zero_()
    logits, sides, quality, half = head(features)
    wanted_logits, wanted_sides, wanted_quality = plain(features)
    strides = torch.tensor([8.0] * 24 + [16.0] * 6)[None, :, None]
    for prior, (width, height) in enumerate(head.priors.tolist()):
        assert_close(logits[:, prior::2], wanted_logits)
        assert_close(quality[:, prior::2], wanted_quality)
        assert_close(half[:, prior::2], 4 * strides * torch.tensor([width, height]))
        assert_close(sides[:, prior::2], 4 * wanted_sides * torch.tensor([width, height, width, height]))
    head.class_residual[-1].weight.data.normal_(std=0.1)
    logits = head(features)[0]
    assert not torch.allclose(logits[:, ::2], logits[:, 1::2])


def test_anchor_boxes_are_drawn_anew_in_training_and_fixed_in_evaluation():
    model, image = detector("meta").train(), noise((32, 32))
    (_, (first,)), (_, (second,)) = model.predict(image), model.predict(image)
    assert not torch.equal(first.anchors, second.anchors)
    model.eval()
    (_, (first,)), (_, (second,)) = model.predict(image), model.predict(image)
    assert torch.equal(first.anchors, second.anchors)
