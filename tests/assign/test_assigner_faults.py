"""What no assigner can work with is refused, by an error that names the part, the numbers and the place."""

import pytest
import torch

from otalab.assign import ASSIGNERS, AnchorPoints, Cost, Predictions, Targets, build_assigner
from otalab.assign.base import validate
from otalab.errors import InputError

from .cases import make_case

NAMES = sorted(ASSIGNERS)


def test_an_unknown_name_is_an_error_that_lists_the_known():
    with pytest.raises(InputError, match="assigner 'otta' is none of ota, ota-paper, ota-official"):
        build_assigner("otta")


@pytest.mark.parametrize("name", NAMES)
def test_a_label_that_is_no_class_is_an_error_that_names_it(name):
    points, predictions, targets = make_case(0, num_gt=3, num_classes=4)
    for label in (-1, 4, 1000):
        labels = targets.labels.clone()
        labels[1] = label
        with pytest.raises(InputError, match=rf"{label}.* are not all in 0\.\.3"):
            build_assigner(name)(points, predictions, Targets(targets.boxes, labels))


@pytest.mark.parametrize("what", ["predicted boxes", "gt boxes"])
def test_a_coordinate_that_is_not_finite_is_an_error_that_names_its_place(what):
    points, predictions, targets = make_case(0, num_gt=3)
    (targets if what == "gt boxes" else predictions).boxes[2, 1] = float("nan")
    for name in NAMES:
        with pytest.raises(InputError, match=rf"{what}: 1 non-finite values, the first is nan at \(2, 1\)"):
            build_assigner(name)(points, predictions, targets)


def test_finite_values_whose_sum_overflows_are_no_error():
    points, predictions, targets = make_case(0, num_gt=2, stage="middle")
    predictions = Predictions(predictions.logits.half().clamp(min=-9) * 0 - 9000, predictions.boxes.half())
    assert predictions.logits.sum().isinf()
    assert build_assigner("ota")(points, predictions, targets).positive.any()


@pytest.mark.parametrize("name", NAMES)
def test_points_of_another_image_are_an_error_that_names_the_numbers(name):
    _, predictions, targets = make_case(0, (128, 160))
    points = AnchorPoints.for_image((64, 64))
    with pytest.raises(
        InputError, match=r"86 anchor points need logits \(86, C\) and boxes \(86, 4\), not \(428, 4\) and"
    ):
        build_assigner(name)(points, predictions, targets)


@pytest.mark.parametrize(
    "logits, boxes, gt_boxes, gt_labels",
    [
        ((86,), (86, 4), (2, 4), (2,)),
        ((86, 3), (86, 5), (2, 4), (2,)),
        ((86, 3), (84, 4), (2, 4), (2,)),
        ((86, 3), (86, 4), (2, 5), (2,)),
        ((86, 3), (86, 4), (2, 4), (3,)),
        ((86, 3), (86, 4), (2, 4), (2, 1)),
    ],
)
def test_shapes_that_do_not_fit_are_errors_even_where_nobody_checks_annotations(logits, boxes, gt_boxes, gt_labels):
    points = AnchorPoints.for_image((64, 64))
    predictions, targets = object.__new__(Predictions), object.__new__(Targets)  # past the annotation checks of tests
    predictions.__dict__.update(logits=torch.zeros(logits), boxes=torch.zeros(boxes), quality=None)
    targets.__dict__.update(boxes=torch.zeros(gt_boxes), labels=torch.zeros(gt_labels).long(), ignore_boxes=None)
    with pytest.raises(InputError, match=r"86 anchor points need|gt boxes must be \(m, 4\)"):
        validate(points, [predictions], [targets])


def unchecked(part, changed):
    """A copy of a part of the input, with those of the changed values that are its own, past the annotation checks."""
    copy = object.__new__(type(part))
    copy.__dict__.update(vars(part) | {name: value for name, value in changed.items() if name in vars(part)})
    return copy


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": torch.tensor([0.0, 0.6])}, "gt labels must be whole numbers, int64, not torch.float32"),
        ({"ignore_boxes": torch.zeros(3, 5)}, r"ignore boxes must be \(c, 4\), not \(3, 5\)"),
        ({"ignore_boxes": torch.zeros(4)}, r"ignore boxes must be \(c, 4\), not \(4,\)"),
        ({"quality": torch.zeros(85)}, r"86 anchor points need quality \(86,\), not \(85,\)"),
        ({"anchors": torch.zeros(86, 5)}, r"86 anchor points need anchors \(86, 4\), not \(86, 5\)"),
        ({"anchors": torch.zeros(3, 4)}, r"86 anchor points need anchors \(86, 4\), not \(3, 4\)"),
        ({"location": torch.zeros(3)}, r"86 anchor points need location \(86,\), not \(3,\)"),
        ({"location": torch.full((86,), torch.nan)}, r"location: 86 non-finite values, the first is nan at \(0,\)"),
        ({"xy": torch.full((86, 2), torch.nan)}, r"anchor points: 172 non-finite values, the first is nan at \(0, 0\)"),
        ({"stride": torch.full((86,), torch.nan)}, r"strides: 86 non-finite values, the first is nan at \(0,\)"),
        ({"anchors": torch.full((86, 4), torch.inf)}, r"anchors: 344 non-finite values, the first is inf at \(0, 0\)"),
        ({"stride": torch.ones(5)}, r"anchor points need xy \(n, 2\).*, not \(86, 2\), \(5,\) and \(86,\)"),
        ({"level": torch.zeros(5).long()}, r"anchor points need xy \(n, 2\).*, not \(86, 2\), \(86,\) and \(5,\)"),
    ],
)
def test_each_part_of_the_input_that_does_not_fit_is_named(changed, said):
    points, predictions, targets = make_case(0, (64, 64), num_gt=2)
    points, predictions, targets = (unchecked(part, changed) for part in (points, predictions, targets))
    with pytest.raises(InputError, match=f"^{said}"):
        validate(points, [predictions], [targets])


def test_an_image_without_points_is_an_error_of_every_assigner():
    points = AnchorPoints(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    predictions = Predictions(torch.zeros(0, 3), torch.zeros(0, 4))
    targets = Targets(torch.tensor([[1.0, 1, 9, 9]]), torch.tensor([0]))
    for name in NAMES:
        with pytest.raises(InputError, match=r"not \(0, 2\), \(0,\) and \(0,\)"):
            build_assigner(name)(points, predictions, targets)


@pytest.mark.parametrize("name", ["ota", "ota-paper", "ota-official"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, "eps must be positive"),
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1"),
        ({"off_prior": -5.0}, "off_prior must .*not be negative|off_prior must be finite and not negative"),
        ({"off_prior": float("nan")}, "off_prior must"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(name, options, message):
    with pytest.raises(InputError, match=message):
        build_assigner(name, **options)


def test_a_negative_weight_of_the_regression_is_refused():
    with pytest.raises(InputError, match=r"alpha must be finite and not negative, not -1.0"):
        Cost(alpha=-1.0)


def test_an_ignore_region_that_is_not_finite_is_an_error():
    points, predictions, targets = make_case(0)
    region = torch.tensor([[0.0, 0.0, float("nan"), 8.0]], dtype=torch.float64)
    with pytest.raises(InputError, match=r"ignore boxes: 1 non-finite values, the first is nan at \(0, 2\)"):
        build_assigner("fcos")(points, predictions, Targets(targets.boxes, targets.labels, region))
