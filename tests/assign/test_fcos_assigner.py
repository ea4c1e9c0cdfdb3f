"""FCOS against a loop written from its rule, and against torchvision's matching."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.models.detection.fcos import FCOS as TorchvisionFCOS

from otalab.assign import FCOS, Predictions, Targets, build_assigner
from otalab.errors import InputError

from .cases import SCENES, make_case
from .golden.cases import positives, read


def fcos_by_loop(points, boxes, radius):
    """The rule as a person would apply it: for each point, the smallest gt that may have it."""
    labels = []
    last = points.level.max().item()
    for (x, y), stride, level in zip(points.xy.tolist(), points.stride.tolist(), points.level.tolist(), strict=True):
        smallest, owner = float("inf"), -1
        for index, (left, top, right, bottom) in enumerate(boxes.tolist()):
            sides = (x - left, y - top, right - x, bottom - y)
            if min(sides) <= 0:
                continue
            if radius and max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2)) >= radius * stride:
                continue
            if (level > 0 and max(sides) < 4 * stride) or (level < last and max(sides) > 8 * stride):
                continue
            area = (right - left) * (bottom - top)
            if area < smallest:
                smallest, owner = area, index
        labels.append(owner)
    return labels


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("radius", [0.0, 1.5])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_labels_are_those_of_the_rule(scene, radius, offset):
    for seed, strides in enumerate(((8, 16, 32, 64, 128), (8, 16))):
        case = make_case(seed, (200, 304), num_gt=12, scene=scene, offset=offset, strides=strides)
        assignment = build_assigner("fcos", center_radius=radius)(*case)
        assert assignment.matched_gt.tolist() == fcos_by_loop(case.points, case.targets.boxes, radius)


def torchvision_labels(points, targets):
    """What torchvision's FCOS matches, caught on its way to the loss."""
    caught = []
    head = SimpleNamespace(compute_loss=lambda targets, outputs, anchors, matched: caught.append(matched[0]))
    model = SimpleNamespace(center_sampling_radius=1.5, head=head)
    anchors = points.boxes(scale=1.0)
    target = {"boxes": targets.boxes, "labels": targets.labels}
    TorchvisionFCOS.compute_loss(model, [target], {}, [anchors], points.level.bincount().tolist())
    return caught[0]


@pytest.mark.parametrize("scene", ["normal", "crowd", "huge", "border", "outside"])
def test_labels_are_those_of_torchvision(scene):
    for seed in range(3):
        points, predictions, targets = make_case(seed, (320, 320), num_gt=12, scene=scene)
        assignment = FCOS()(points, predictions, targets)
        assert assignment.positive.any()
        assert assignment.matched_gt.tolist() == torchvision_labels(points, targets).tolist()


@pytest.mark.parametrize("record", read("fcos"), ids=lambda record: "{seed} {scene}".format(**record["case"]))
@pytest.mark.parametrize("radius", ["0", "1.5"])
def test_labels_are_those_that_mmdetection_gave(record, radius):
    assignment = FCOS(center_radius=float(radius))(*make_case(**record["case"]))
    assert positives(assignment.matched_gt.tolist()) == record["radius"][radius]


def test_of_equal_gts_the_first_takes_all():
    points, predictions, targets = make_case(0, num_gt=2, scene="duplicates")
    counts = FCOS(center_radius=0.0)(points, predictions, targets).counts
    assert counts[0] > 0
    assert counts[1] == 0


def test_predictions_do_not_matter_and_supply_is_what_was_given():
    points, predictions, targets = make_case(0, num_gt=5)
    others = Predictions(-predictions.logits, predictions.boxes.flip(0))
    a, b = FCOS()(points, predictions, targets), FCOS()(points, others, targets)
    assert a.matched_gt.tolist() == b.matched_gt.tolist()
    assert a.supply.tolist() == [*a.counts.tolist(), len(points) - int(a.positive.sum())]
    assert a.deficit.tolist() == [0] * 5
    assert a.cost is None
    assert a.plan is None


def test_each_level_learns_its_own_sizes_and_the_coarsest_all_that_is_larger():
    points, predictions, _ = make_case(0, (512, 512), num_gt=0, stage="early")
    for level, half in enumerate((40.0, 90.0, 180.0, 340.0, 1500.0)):  # half sides, seen from points near the centre
        box = torch.tensor([[256 - half, 256 - half, 256 + half, 256 + half]], dtype=torch.float64)
        assignment = FCOS()(points, predictions, Targets(box, torch.tensor([0])))
        assert points.level[assignment.positive].unique().tolist() == [level]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"center_radius": float("nan")}, "center_radius must be finite and not negative, not nan"),
        ({"center_radius": -1.0}, r"center_radius must be finite and not negative, not -1\.0"),
        ({"size_range": (8.0, 4.0)}, r"size_range must be two positive factors, the lower first, not \(8\.0, 4\.0\)"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build_assigner("fcos", **options)
