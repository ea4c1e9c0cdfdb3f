"""Lesson 06: the finest grid that has fewer points than a crowd of gts asks for."""

from functools import cache

import torch

from otalab import boxes as box_ops
from otalab.assign import AnchorPoints, Predictions, RadiusPrior, Targets, dynamic_k
from otalab.errors import InputError
from otalab.lab.simulate import simulate_predictions
from otalab.lessons.verdict import Hint, checker, hint_if, whole

SIDE = 256  # of the image, px
LEAST, MOST = 8, 64  # strides to look at, px


def crowd(stride: int) -> tuple[AnchorPoints, Predictions, Targets]:
    """Eight overlapping gts, and simulated predictions of a good detector, on one level of that stride.

    Raises InputError unless the stride is a whole number from LEAST to MOST.
    """
    step = whole(stride)
    if step not in range(LEAST, MOST + 1):
        raise InputError(f"stride is {stride!r}; it must be a whole number from {LEAST} to {MOST}")
    generator = torch.Generator().manual_seed(2)  # a crowd in which no usual mistake gives the right answer
    centre = SIDE / 2 + 90 * (torch.rand(8, 2, generator=generator) - 0.5)
    half = 50 + 30 * torch.rand(8, 2, generator=generator)
    targets = Targets(torch.cat((centre - half, centre + half), dim=1).clamp(0, SIDE), labels=torch.arange(8))
    points = AnchorPoints.for_image((SIDE, SIDE), strides=(step,))
    return points, simulate_predictions(points, targets, 8, generator, skill=0.9), targets


@cache
def asked_and_there(stride: int, prior: bool = True, q: int = 20, local: bool = False) -> tuple[int, int]:
    """The number of labels that the gts ask for, and the number of anchor points.

    Without `prior`, IoUs outside a gt's prior count for its k too. With `local`, only points in some prior are counted.
    """
    points, predictions, targets = crowd(stride)
    iou = box_ops.iou(predictions.boxes, targets.boxes[:, None])
    mask = RadiusPrior()(points, targets.boxes)
    asked = int(dynamic_k(iou * mask if prior else iou, q=q, slack=1e-6).sum())
    return asked, int(mask.any(dim=0).sum()) if local else len(points)


def finest(**how) -> int:
    """The smallest stride at which the gts ask for more labels than there are points.

    how: how to count, see `asked_and_there`
    """
    counts = ((stride, *asked_and_there(stride, **how)) for stride in range(LEAST, MOST + 1))
    return next(stride for stride, asked, there in counts if asked > there)


UNMASKED = "Do you count IoUs of points outside a gt's prior, too?"
MISTAKES = [
    (UNMASKED, {"prior": False}),
    ("Those in the priors may be fewer; the question is about all points of the grid.", {"local": True}),
    ("Do you sum 10 IoUs? Here q is 20.", {"q": 10}),
]


@checker
def check(stride=None) -> str:
    """Check that this is the smallest stride at which the gts ask for more labels than there are points."""
    hint_if(stride is None, "Try some strides: what do the gts ask for, and how many points are there?")
    given, stride = stride, whole(stride)
    outside = stride not in range(LEAST, MOST + 1)
    hint_if(outside, f"stride is a whole number from {LEAST} to {MOST}, not {given!r}.")
    asked, there = asked_and_there(stride)
    said = f"At stride {stride} the gts ask for {asked} labels, and there are {there} points"
    if stride != finest():
        why = next((text for text, how in MISTAKES if finest(**how) == stride), "")
        if asked > there:
            said = f"Too small it is: {asked} labels asked for, {there} points. But so is a finer grid."
        else:
            said += ": enough."
            if not why and stride > finest():
                why = "But some finer grid is too small: look at one after the other, from the finest on."
            elif not why and asked_and_there(stride, prior=False)[0] > there:
                why = UNMASKED
        raise Hint(f"{said} {why}".rstrip())
    return (
        f"{said}; every finer grid has enough. k is at most q, however fine the grid, while the points grow with the "
        "square of its fineness."
    )
