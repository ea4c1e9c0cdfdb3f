"""Checker of lesson 00: change a gt's box so that a gt far from it changes points, and predict how many it has."""

import torch
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign import AnchorPoints, Assignment, Predictions, Targets, build_assigner
from otalab.lessons.verdict import Hint, checker, hint_if, numbers, whole


@checker
def check(points, predictions, targets, gt, box, other, count) -> str:
    """Whether gt `other` changes points once gt `gt` has the box `box` (xyxy px), and then has `count`, by `ota`."""
    given = ((points, AnchorPoints), (predictions, Predictions), (targets, Targets))
    as_they_are = all(isinstance(value, kind) for value, kind in given)
    hint_if(not as_they_are, "Hand over the lesson's points, predictions and targets as they are, in this order.")
    nothing = box is None or other is None
    hint_if(nothing, "Choose a gt, give it another box about the same place, and say which other gt changes points.")
    gt, box, other, count = whole(gt), numbers(box), whole(other), whole(count)
    for name, index in (("gt", gt), ("other", other)):
        hint_if(
            index is None or not 0 <= index < len(targets), f"{name} is the index of a gt: 0 to {len(targets) - 1}."
        )
    hint_if(gt == other, "other must be another gt than the one whose box you change.")
    require_box(box, targets.boxes[gt].double())
    for which, one in (("old", targets.boxes[gt].double()), ("new", box)):
        touches = box_ops.iou(one[None], targets.boxes[other, None].double()).item() > 0
        near = f"Your {which} box touches that of gt {other}: neighbours always haggle. Find one farther away."
        hint_if(touches, near)

    before = label(points, predictions, targets)
    after = [label(points, predictions, moved(targets, gt, box, dtype)) for dtype in (torch.float32, torch.float64)]
    after = [found for found in after if changed(before, found, other)]
    if not after:
        movers = [
            i
            for i in range(len(targets))
            if i != gt and changed(before, label(points, predictions, moved(targets, gt, box, torch.float32)), i)
        ]
        who = f"gts {', '.join(map(str, movers))} did" if movers else "nor did any other gt"
        raise Hint(
            f"gt {other} has the points that it had; {who}. A change travels along overlaps: through whom could it "
            "come there? Try other gts and sides, in a loop."
        )
    hint_if(count is None, f"gt {other} does change points. Now predict: how many has it then? A whole number.")
    had = int(before.counts[other])
    if count not in [int(found.counts[other]) for found in after]:
        raise Hint(
            f"gt {other} does change points, but it has not {count} of them. What does its k depend on: its own box "
            "and the predictions, or yours too?"
        )
    between = [i for i in range(len(targets)) if i not in (gt, other) and changed(before, after[0], i)]
    through = f"gt {between[0]}" if len(between) == 1 else f"gts {', '.join(map(str, between))}"
    chain = f" It came through {through}." if between else " It came by points that several of them may have."
    kept = "still has" if count == had else f"had {had} points and has"
    return (
        f"gt {other} changes points, and no box of yours touches its box.{chain} It {kept} {count} points: how "
        "many a gt wants is a matter of its own box and the predictions, which points it gets is decided for all at "
        "once."
    )


def require_box(box: Tensor | None, old: Tensor) -> None:
    """A hint unless `box` is a box about the same place as `old`, and another one."""
    four = box is not None and box.shape == (4,) and box.isfinite().all()
    hint_if(not four, "A box is four numbers: left, top, right, bottom, in px.")
    hint_if((box[2:] <= box[:2]).any(), "This box has no area: left must be less than right, and top less than bottom.")
    if box.equal(old):
        raise Hint(
            "That is the box in targets as it is now. If you changed it there, make targets anew and work on a copy: "
            "targets.boxes[gt].clone()."
        )
    middle = box_ops.centres(old)
    elsewhere = (middle <= box[:2]).any() or (middle >= box[2:]).any()
    hint_if(elsewhere, "That is another object: keep the middle of the old box inside the new one.")


def label(points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
    """What `ota` says."""
    return build_assigner("ota")(points, predictions, targets)


def changed(before: Assignment, after: Assignment, gt: int) -> bool:
    """Whether the gt has other points than before."""
    return not (before.matched_gt == gt).equal(after.matched_gt == gt)


def moved(targets: Targets, gt: int, box: Tensor, dtype: torch.dtype) -> Targets:
    """The same gts, one with another box; in float32 a point on the rim of a prior may fall on its other side."""
    boxes = targets.boxes.to(dtype, copy=True)
    boxes[gt] = box.to(dtype)
    return Targets(boxes, targets.labels)
