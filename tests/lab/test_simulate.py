import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import box_iou

from otalab.assign import AnchorPoints, Targets
from otalab.data.scene import ShapesConfig, draw_scene
from otalab.errors import InputError
from otalab.lab.simulate import random_targets, simulate_predictions, simulate_scene

SIZE = (120, 200)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_targets_lie_in_the_image_and_have_an_area(seed):
    targets = random_targets(SIZE, 40, 7, seeded(seed))
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    assert len(targets) == 40 and x1.min() >= 0 and y1.min() >= 0 and x2.max() <= 200 and y2.max() <= 120
    assert (x2 - x1).min() >= 1 and (y2 - y1).min() >= 1
    assert targets.labels.min() >= 0 and targets.labels.max() < 7


def test_targets_lie_in_an_image_that_is_smaller_than_any_usual_box():
    boxes = random_targets((8, 12), 40, 7, seeded()).boxes
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 12 and boxes[:, 3].max() <= 8
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 1


@pytest.mark.parametrize(
    ("num_gt", "num_classes", "said"), [(-1, 3, "num_gt .*, not -1"), (2, 0, "num_classes .*, not 0")]
)
def test_numbers_that_cannot_be_drawn_are_refused(num_gt, num_classes, said):
    with pytest.raises(InputError, match=said):
        random_targets(SIZE, num_gt, num_classes, seeded())


def test_a_crowd_overlaps_and_without_one_boxes_stand_apart():
    overlaps = {}
    for crowd in (0.0, 1.0):
        boxes = random_targets((800, 800), 30, 3, seeded(), crowd=crowd).boxes
        overlaps[crowd] = (box_iou(boxes, boxes) > 0).float().mean()
    assert overlaps[1.0] > 2 * overlaps[0.0]


def test_the_same_seed_makes_the_same_scene_and_another_seed_another():
    points = AnchorPoints.for_image(SIZE)

    def scene(seed: int):
        generator = seeded(seed)
        targets = random_targets(SIZE, 5, 3, generator)
        return targets.boxes, simulate_predictions(points, targets, 3, generator).logits

    assert all(map(torch.equal, scene(1), scene(1))) and not any(map(torch.equal, scene(1), scene(2)))


def test_a_perfect_detector_predicts_a_gt_around_each_point_and_a_poor_one_does_not():
    points = AnchorPoints.for_image(SIZE)
    targets = random_targets(SIZE, 6, 3, seeded())
    inside = ((points.xy[:, None] > targets.boxes[:, :2]) & (points.xy[:, None] < targets.boxes[:, 2:])).all(dim=2)
    on = inside.any(dim=1)
    perfect = simulate_predictions(points, targets, 3, seeded(1), skill=1.0)
    best, owner = box_iou(perfect.boxes, targets.boxes).where(inside, 0).max(dim=1)
    assert best[on].min() > 0.999
    right = perfect.logits[on].gather(1, targets.labels[owner[on], None])
    assert right.mean() > perfect.logits[~on].mean() + 2
    poor = simulate_predictions(points, targets, 3, seeded(1), skill=0.1)
    assert box_iou(poor.boxes[on], targets.boxes).where(inside[on], 0).amax(dim=1).mean() < 0.6


def test_no_gt_is_favoured_where_gts_overlap():
    points = AnchorPoints.for_image((256, 256), strides=(8,))
    boxes = torch.tensor([[0.0, 0, 256, 256], [64, 64, 192, 192], [0, 0, 160, 160]])  # large, small, in between
    for order in ([0, 1, 2], [2, 0, 1]):
        targets = Targets(boxes[order], torch.arange(3))
        shared = ((points.xy > 64) & (points.xy < 160)).all(dim=1)  # 144 points inside all three
        owners = torch.cat(
            [
                box_iou(simulate_predictions(points, targets, 3, seeded(s), skill=1.0).boxes[shared], targets.boxes)
                for s in range(20)
            ]
        ).argmax(dim=1)
        share = owners.bincount(minlength=3) / len(owners)
        assert_close(share, torch.full((3,), 1 / 3), atol=0.03, rtol=0)  # 2880 draws: one sd is .009


def test_an_image_may_hold_nothing():
    points, targets = AnchorPoints.for_image(SIZE), random_targets(SIZE, 0, 3, seeded())
    predictions = simulate_predictions(points, targets, 3, seeded())
    assert len(targets) == 0 and predictions.logits.isfinite().all() and len(predictions.boxes) == len(points)


def test_a_scene_is_that_of_the_shapes_set_as_tensors():
    config = ShapesConfig(image_size=64, max_size=40.0)
    image, targets = simulate_scene(config, 3)
    scene = draw_scene(config, np.random.default_rng(3))
    pixels = (255 * image).round().byte().permute(1, 2, 0)
    assert pixels.shape == (64, 64, 3) and torch.equal(pixels, torch.from_numpy(scene.image))
    assert targets.boxes.tolist() == scene.boxes.tolist() and targets.labels.tolist() == scene.labels.tolist()
    assert not torch.equal(simulate_scene(config, [3, 1])[0], image)
