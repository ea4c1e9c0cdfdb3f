"""Checker of lesson 00: change a gt's box so that a point passes between two other gts, and predict a count."""

import torch
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign import AnchorPoints, Assignment, Predictions, Targets, build_assigner
from otalab.lessons.verdict import Hint, checker, hint_if, missing, numbers, whole

ota = build_assigner("ota")


@checker
def check(points, predictions, targets, gt, box, taker, count) -> str:
    """Check that gt `taker` takes a point from a third gt, and then has `count` points, once gt `gt` has the box `box`.

    box: (4,) xyxy in px
    """
    given = ((points, AnchorPoints), (predictions, Predictions), (targets, Targets))
    as_they_are = all(isinstance(value, kind) for value, kind in given)
    hint_if(not as_they_are, "Hand over the lesson's points, predictions and targets as they are, in this order.")
    nothing = missing(box, taker, gt)
    hint_if(nothing, "Choose a gt, give it another box about the same place, and say which gt takes a point thereby.")
    gt, box, taker = whole(gt), numbers(box), whole(taker)
    for name, index in (("gt", gt), ("taker", taker)):
        hint_if(index not in range(len(targets)), f"{name} is the index of a gt: 0 to {len(targets) - 1}.")
    hint_if(gt == taker, "The taker must be another gt than the one whose box you change.")
    require_box(box, targets.boxes[gt].double())

    before = ota(points, predictions, targets)
    after = [ota(points, predictions, moved(targets, gt, box, dtype)) for dtype in (torch.float32, torch.float64)]
    right = [found for found in after if len(givers(before, found, gt, taker))]
    hint_if(not right, f"gt {taker} takes no point from a third gt. {remark(before, after[0], gt, taker)}")
    count, had = whole(count), int(before.counts[taker])
    hint_if(count is None, f"gt {taker} does take a point from a third gt. How many has it then? A whole number.")
    if count not in [int(found.counts[taker]) for found in right]:
        more = " A point more, so one more in all? " if count == had + 1 else " "
        raise Hint(
            f"gt {taker} does take a point from a third gt, but then it has not {count}.{more}What does its k depend "
            "on: its own box and the predictions, or yours as well?"
        )
    giver = givers(before, right[0], gt, taker)[0]
    kept = f"still has {count} points" if count == had else f"had {had} points and has {count}"
    return (
        f"gt {taker} takes a point from gt {giver}, and neither box was touched; gt {taker} {kept}. How many points a "
        "gt wants is a matter of its own box and the predictions. Which they are is decided for all gts at once, so a "
        "change travels from one to the next."
    )


def remark(before: Assignment, after: Assignment, gt: int, taker: int) -> str:
    """Hint for a wrong answer: what happens instead, or what to try."""
    others = [i for i in range(len(before.counts)) if i != gt]
    pairs = [(i, j) for j in others for i in givers(before, after, gt, j)]
    if pairs:
        return f"But some point does pass from gt {pairs[0][0]} to gt {pairs[0][1]}."
    if changed(before, after, taker):
        return "It changes points, but with yours or with the background. Try another side, or move farther."
    movers = [str(i) for i in others if changed(before, after, i)]
    if movers:
        return f"Only gt {', '.join(movers)} changes points, with yours or the background. Try other gts and sides."
    return "All other gts keep their points. Choose a gt in the thick of the crowd, and move it farther."


def givers(before: Assignment, after: Assignment, gt: int, taker: int) -> list[int]:
    """The gts other than `gt` and `taker` that lose a point to `taker`."""
    lost = before.matched_gt[(after.matched_gt == taker) & (before.matched_gt != taker)]
    return sorted({i for i in lost.tolist() if i >= 0 and i != gt})


def require_box(box: Tensor | None, old: Tensor) -> None:
    """Raise Hint unless `box` is four finite numbers, has an area, differs from `old` and contains its centre."""
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


def changed(before: Assignment, after: Assignment, gt: int) -> bool:
    """Whether the gt has other points than before."""
    return not (before.matched_gt == gt).equal(after.matched_gt == gt)


def moved(targets: Targets, gt: int, box: Tensor, dtype: torch.dtype) -> Targets:
    """The targets with another box for one gt. Rounding to float32 may move a point across the edge of a prior."""
    boxes = targets.boxes.to(dtype, copy=True)
    boxes[gt] = box.to(dtype)
    return Targets(boxes, targets.labels)
