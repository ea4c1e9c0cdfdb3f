"""Checker of lesson 00: change a gt's box, and predict its k."""

from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign import AnchorPoints, Predictions, RadiusPrior, Targets, build_assigner, dynamic_k
from otalab.lessons.verdict import Hint, checker, hint_if, numbers, whole

CLEARLY = 1.25  # the factor by which the area of the box must change at least


@checker
def check(points, predictions, targets, gt, box, k) -> str:
    """Whether the gt with index `gt` has dynamic k `k` once its box is `box` (xyxy px), by the `ota` assigner."""
    given = ((points, AnchorPoints), (predictions, Predictions), (targets, Targets))
    as_they_are = all(isinstance(value, kind) for value, kind in given)
    hint_if(not as_they_are, "Hand over the lesson's points, predictions and targets as they are, in this order.")
    hint_if(box is None or k is None, "Choose a gt, give it another box about the same place, and say its new k.")
    gt, box, k = whole(gt), numbers(box), whole(k)
    hint_if(gt is None or not 0 <= gt < len(targets), f"gt is the index of a gt: 0 to {len(targets) - 1}.")
    four = box is not None and box.shape == (4,) and box.isfinite().all()
    hint_if(not four, "A box is four numbers: left, top, right, bottom, in px.")
    no_area = (box[2:] <= box[:2]).any()
    hint_if(no_area, "This box has no area: left must be less than right, and top less than bottom.")
    old_box = targets.boxes[gt].double()
    if box.equal(old_box):
        raise Hint(
            "That is the box in targets as it is now. If you changed it there, make targets anew and work on a copy: "
            "targets.boxes[gt].clone()."
        )
    middle = box_ops.centres(old_box)
    elsewhere = (middle <= box[:2]).any() or (middle >= box[2:]).any()
    hint_if(elsewhere, "That is another object: keep the middle of the old box inside the new one.")
    growth = float(box_ops.box_area(box) / box_ops.box_area(old_box))
    alike = 1 / CLEARLY < growth < CLEARLY
    hint_if(alike, "The new box is nearly as large as the old one. Make it clearly larger or smaller.")
    hint_if(k is None, "k is a whole number of points.")

    old, new = wanted(points, predictions, targets, gt), wanted(points, predictions, moved(targets, gt, box), gt)
    if k not in (new, in_float32(points, predictions, box)):
        raise Hint(hint(points, predictions, gt, box, k, old, new))
    change = "stayed" if k == old else "rose" if k > old else "fell"
    return (
        f"k of this gt was {old} and is {k}: it {change}, with {growth:.2f} times the area. k does not count "
        "pixels: it counts how well the predictions fit. They were made for the old box, so a new one of another "
        "size mostly loses, larger or smaller, until the detector has learnt it."
    )


def hint(points: AnchorPoints, predictions: Predictions, gt: int, box: Tensor, k: int, old: int, new: int) -> str:
    """What is wrong with a prediction of k that is a whole number and not `new`."""
    everywhere = box_ops.iou(box[None, None], predictions.boxes.double())  # (1, n)
    if k < 1:
        return "A gt always has at least one point."
    if k == old:
        return "That is the k of the old box. Do the predictions, which have not moved, overlap the new box as well?"
    if k == int(dynamic_k(everywhere)):
        return (
            "You have summed IoUs of any points. Only those of candidates count, and the new box has other candidates."
        )
    if k == new + 1:
        return "Close, but too many: is the sum rounded down?"
    which = "many" if k > new else "few"
    return (
        f"Too {which}. IoUs of the new box with the predictions, those of its candidates alone, 20 largest, summed: "
        f"in the lesson's cell put the new box in place of box {gt}."
    )


def wanted(points: AnchorPoints, predictions: Predictions, targets: Targets, gt: int) -> int:
    """The k of a gt: what it got, and what it wanted besides."""
    assignment = build_assigner("ota")(points, predictions, targets)
    return int(assignment.supply[gt] + assignment.deficit[gt])


def in_float32(points: AnchorPoints, predictions: Predictions, box: Tensor) -> int:
    """The same by the lesson's own steps: in float32 a point on the rim of the prior may fall on its other side."""
    overlap = box_ops.iou(box[None, None].float(), predictions.boxes.float())  # (1, n)
    return int(dynamic_k(overlap * RadiusPrior()(points, box[None].float())))


def moved(targets: Targets, gt: int, box: Tensor) -> Targets:
    """The same gts, one of them with another box."""
    boxes = targets.boxes.double().clone()
    boxes[gt] = box
    return Targets(boxes, targets.labels)
