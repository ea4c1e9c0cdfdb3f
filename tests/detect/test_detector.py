import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from otalab.assign import AnchorPoints, build_assigner
from otalab.detect import build_detector
from otalab.detect.detector import as_targets
from otalab.errors import InputError

from .models import eager_detector, gradients, noise, target


@pytest.fixture
def detector():
    return eager_detector()


def test_in_training_it_returns_losses_and_in_evaluation_boxes_labels_and_scores(detector):
    images = noise((64, 96), (40, 50))
    losses = detector.train()(images, [target((4, 4, 40, 30)), target()])
    assert set(losses) == {"classification", "box", "quality"}
    assert all(loss.shape == () and loss.isfinite() and loss.requires_grad for loss in losses.values())

    found = detector.eval()(images)
    assert [set(f) for f in found] == [{"boxes", "labels", "scores"}] * 2
    for f in found:
        assert 0 < len(f["boxes"]) == len(f["labels"]) == len(f["scores"]) <= 100
        assert f["boxes"].dtype == f["scores"].dtype == torch.float32 and f["labels"].dtype == torch.int64
        assert f["labels"].min() >= 0 and f["labels"].max() < 3
        assert f["scores"].min() > 0.05 and f["scores"].max() <= 1


def test_in_training_it_asks_for_targets(detector):
    with pytest.raises(InputError, match="needs targets"):
        detector.train()(noise((64, 64)))


@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2"])
def test_an_image_in_a_batch_of_equal_sizes_gets_what_it_gets_alone(backbone):
    model = eager_detector(backbone)
    images = noise((64, 96), (64, 96), (64, 96))
    with torch.inference_mode():
        together, dense = model(images), model.predict(images)[1]
        for image, found, batched in zip(images, together, dense, strict=True):
            (alone,), (single,) = model([image]), model.predict([image])[1]
            assert_close(batched.logits, single.logits, rtol=1e-4, atol=1e-4)
            assert_close(batched.boxes, single.boxes, rtol=1e-4, atol=1e-3)
            assert_close(batched.quality, single.quality, rtol=1e-4, atol=1e-4)
            assert torch.equal(found["labels"], alone["labels"])
            assert_close(found["boxes"], alone["boxes"], rtol=1e-4, atol=1e-3)
            assert_close(found["scores"], alone["scores"], rtol=1e-4, atol=1e-5)


def test_no_box_lies_in_the_padding_or_is_empty(detector):
    sizes = [(33, 41), (96, 64), (50, 120)]
    for (height, width), found in zip(sizes, detector(noise(*sizes)), strict=True):
        x1, y1, x2, y2 = found["boxes"].unbind(1)
        assert len(x1) and x1.min() >= 0 and y1.min() >= 0 and x2.max() <= width and y2.max() <= height
        assert (x2 > x1).all() and (y2 > y1).all()


def test_points_in_the_padding_would_see_boxes_outside_if_they_were_not_dropped(detector):
    _, (small, _) = detector.predict(noise((33, 41), (96, 128)))
    outside = (small.boxes[:, 0] >= 41) | (small.boxes[:, 1] >= 33)
    assert outside.any()  # or the test above proves little


def test_boxes_come_back_in_the_pixels_of_the_image_as_given(detector):
    (image,) = noise((128, 160))
    detector.image_size = (64, 200)
    small = detector.resize(image)
    assert small.shape == (3, 64, 80)
    (found,) = detector([image])
    detector.image_size = None
    (in_small,) = detector([small])
    assert_close(found["boxes"], in_small["boxes"] * 2)
    assert torch.equal(found["scores"], in_small["scores"])


@pytest.mark.parametrize(
    ("size", "image_size", "resized"),
    [
        ((100, 200), (50, 1000), (50, 100)),
        ((200, 100), (50, 1000), (100, 50)),
        ((100, 400), (50, 100), (25, 100)),  # the longer side decides
        ((50, 60), (100, 1000), (100, 120)),
        ((1, 4000), (64, 128), (1, 128)),  # never to nothing
    ],
)
def test_evaluation_resizes_the_shorter_side_and_bounds_the_longer(size, image_size, resized, detector):
    detector.image_size = image_size
    assert detector.resize(torch.rand(3, *size)).shape[-2:] == resized


def test_scaling_boxes_back_never_leaves_the_image(detector, monkeypatch):
    def everything(points, predictions, size):  # the whole of the resized image, found at once
        height, width = size
        box = torch.tensor([[0.0, 0.0, width, height]])
        return {"boxes": box, "labels": torch.zeros(1, dtype=torch.int64), "scores": torch.ones(1)}

    detector.postprocess = everything
    detector.image_size = (91, 2000)  # in float32, 91 * (side / 91) is more than side for one side in seven
    predicted = detector.predict(noise((32, 32)))
    monkeypatch.setattr(detector, "predict", lambda images: predicted)
    for side in range(20, 150):
        ((box,),) = (found["boxes"] for found in detector([torch.zeros(3, side, side)]))
        assert box.max() <= side, side
        assert_close(box, torch.tensor([0.0, 0.0, side, side]))


def test_points_and_feature_maps_agree_in_number_and_order():
    model = eager_detector("mobilenet_v2")
    features = model.backbone(model.batch(noise((70, 100))))
    points, (prediction,) = model.predict(noise((70, 100)))
    expected = AnchorPoints.for_image((70, 100), model.backbone.strides)
    assert torch.equal(points.xy, expected.xy) and torch.equal(points.level, expected.level)
    assert [f.shape[-2] * f.shape[-1] for f in features] == points.level.bincount().tolist()
    assert len(prediction.logits) == len(prediction.boxes) == len(prediction.quality) == len(points)

    for feature, stride in zip(features, model.backbone.strides, strict=True):  # where a cell goes, its point is
        rows, columns = feature.shape[-2:]
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centres = torch.stack((x, y)).float().add(0.5).mul(stride)
        on_level = points.stride == stride
        assert torch.equal(centres.flatten(1).mT, points.xy[on_level])


def test_a_point_looks_at_the_place_where_it_stands(detector):
    """Moving a bright spot moves the change in the finest map's logits with it."""
    for x, y in [(20, 12), (44, 52), (92, 36)]:
        plain, spotted = torch.zeros(3, 64, 128), torch.zeros(3, 64, 128)
        spotted[:, y - 2 : y + 2, x - 2 : x + 2] = 1
        with torch.inference_mode():
            points, (before, after) = detector.predict([plain, spotted])
        finest = points.level == 0
        change = (after.logits - before.logits).abs().sum(dim=1)[finest]
        strongest = points.xy[finest][change.topk(5).indices].mean(dim=0)
        assert (strongest - torch.tensor([x, y])).abs().max() <= 8


def test_boxes_contain_their_points(detector):
    points, (prediction,) = detector.predict(noise((64, 64)))
    assert (prediction.boxes[:, :2] <= points.xy).all() and (prediction.boxes[:, 2:] >= points.xy).all()


@pytest.mark.parametrize(
    "empty",
    [target(), target((200, 200, 220, 230)), target((10, 10, 10, 30))],
    ids=["no gt", "a gt outside the image", "a gt of no area"],
)
def test_a_batch_without_positives_has_finite_losses_and_gradients(empty, detector):
    losses = detector.train()(noise((64, 64)), [empty])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["classification"] > 0
    sum(losses.values()).backward()
    assert all(g is not None and g.isfinite().all() for g in gradients(detector).values())


def test_a_background_point_under_an_ignore_box_costs_nothing(detector):
    everywhere = target() | {"ignore_boxes": torch.tensor([[-1.0, -1.0, 65.0, 65.0]])}
    losses = detector.train()(noise((64, 64)), [everywhere])
    assert losses["classification"] == 0


def test_a_step_is_the_sum_of_its_images(detector):
    """Frozen statistics, one normaliser: the batch's loss is the mean of the images' losses by positives."""
    images, targets = noise((64, 64), (64, 64)), [target((4, 4, 40, 30)), target((20, 20, 60, 60), (2, 30, 12, 60))]
    positives = []

    def with_evaluation_statistics(images, targets):
        detector.train()
        detector.backbone.eval()
        points, predictions = detector.predict(images)
        truth = [as_targets(t) for t in targets]
        positives.append(sum(int(a.positive.sum()) for a in detector.assign(points, predictions, truth)))
        return detector(images, targets)

    together = with_evaluation_statistics(images, targets)
    alone = [with_evaluation_statistics([i], [t]) for i, t in zip(images, targets, strict=True)]
    total, *each = positives
    assert total == sum(each) and min(each) > 0
    for name, loss in together.items():
        expected = sum(n * a[name] for n, a in zip(each, alone, strict=True)) / total
        assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_autocast_gives_losses_in_float32(detector):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = detector.train()(noise((64, 64)), [target((4, 4, 40, 30))])
        _, sides, _ = detector.head(detector.backbone(detector.batch(noise((64, 64)))))
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert (sides[sides > 0] != sides[sides > 0].bfloat16()).float().mean() > 0.9  # they have the digits of float32


def test_scores_leave_out_a_quality_that_was_not_trained(detector):
    images = noise((64, 64))
    points, (predictions,) = detector.eval().predict(images)
    bare = replace(predictions, quality=None)
    with_quality, without = (detector.postprocess(points, p, (64, 64)) for p in (predictions, bare))
    assert not torch.equal(with_quality["scores"], without["scores"])
    assert torch.equal(detector(images)[0]["scores"], with_quality["scores"])
    other = copy.deepcopy(detector)
    other.assigner = build_assigner("freeanchor")
    assert torch.equal(other(images)[0]["scores"], without["scores"])


def test_a_detector_does_without_its_iou_branch_if_told_so():
    model = build_detector("tiny", 2, quality=False).train()
    losses = model(noise((64, 64)), [target((4, 4, 40, 30))])
    assert losses.keys() == {"classification", "box"}
    sum(losses.values()).backward()
    assert not model.head.quality.weight.grad.any() and model.head.sides.weight.grad.any()
    _, (predictions,) = model.eval().predict(noise((64, 64)))
    assert predictions.quality is None


def test_a_detector_balances_its_gts_if_told_so():
    losses = {}
    for balance in (0.0, 0.5, 1.0):
        torch.manual_seed(0)
        model = build_detector("tiny", 2, "fcos", balance=balance).train()
        losses[balance] = model(noise((96, 96)), [target((0, 0, 90, 90), (10, 10, 22, 22))])["box"].item()
    assert len({round(loss, 4) for loss in losses.values()}) == 3
    assert build_detector("tiny", 2).balance == 0
    with pytest.raises(InputError, match=r"balance must be in 0\.\.1, not 2.0"):
        build_detector("tiny", 2, balance=2.0)


@pytest.mark.parametrize("assigner", ["freeanchor", "autoassign"])
def test_losses_of_an_assigners_own_are_left_as_they_are(assigner):
    found = []
    for balance in (0.0, 1.0):
        torch.manual_seed(0)
        model = build_detector("tiny", 2, assigner, balance=balance).train()
        found.append(model(noise((96, 96)), [target((0, 0, 90, 90), (10, 10, 22, 22))]))
    assert_close(*found, rtol=0, atol=0)


def test_a_detector_can_be_pickled(detector):
    images = noise((64, 96), (40, 50))
    twin = pickle.loads(pickle.dumps(detector))
    assert_close(twin(images), detector(images), rtol=0, atol=0)
