"""Lesson 04: how many labels change when a gt gets one pixel narrower, and a case in which many of OTA's do."""

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from otalab.assign import AnchorPoints, Predictions, Targets, build_assigner
from otalab.boxes import ltrb
from otalab.data.scene import CLASS_NAMES, Scene, ShapesConfig, draw_scene
from otalab.errors import InputError
from otalab.lab.simulate import seeded, simulate_predictions
from otalab.lessons.verdict import checker, hint_if, missing, numbers

CONFIG = ShapesConfig(
    crowd=0.9, min_objects=5, max_objects=5, min_size=24.0, max_size=50.0, texture=0.0, noise=0.0, min_visible=0.45
)
SIZE = 128, 128  # of the image, px
MANY = 4  # changed labels that the exercise asks for
SEEN = 80  # the lesson looks at the heaps of seeds 0 to 79; the exercise wants another one
MOST = 10**6  # the largest seed that the exercise takes


class Heap(NamedTuple):
    """A drawn scene, its points and gts, and simulated predictions; geometry in float64."""

    scene: Scene
    points: AnchorPoints
    predictions: Predictions
    targets: Targets


@lru_cache(maxsize=256)
def heap(seed: int, skill: float = 0.6) -> Heap:
    """Draw up to five objects in a heap, and simulate a detector of that skill at three levels of points.

    Raises InputError for a seed that is negative or too large.
    """
    generator = seeded(seed)
    scene = draw_scene(CONFIG, np.random.default_rng(seed))
    points = AnchorPoints.for_image(SIZE, strides=(8, 16, 32), dtype=torch.float64)
    targets = Targets(torch.from_numpy(scene.boxes).double(), torch.from_numpy(scene.labels))
    said = simulate_predictions(points, targets, len(CLASS_NAMES), generator, skill)
    return Heap(scene, points, Predictions(said.logits.double(), said.boxes.double()), targets)


def shaved(targets: Targets, gt: int, pixels: float | int = 1) -> Targets:
    """The targets with one gt that many px narrower: its right side moves in. Raises InputError for no such gt."""
    if not 0 <= gt < len(targets):
        raise InputError(f"gt is {gt}; there are gts 0 to {len(targets) - 1}")
    boxes = targets.boxes.clone()
    boxes[gt, 2] -= pixels
    return Targets(boxes, targets.labels)


def followed(seed: int, gt: int, pixels: float | int = 1) -> Predictions:
    """The predictions of `heap(seed)` once the detector has learnt the narrower box; all else stays the same.

    At each point that predicts this gt and lies in the narrower box, the predicted distance to the right side shrinks
    in proportion to the true one. Which gt a point predicts is read off a perfect detector, simulated from the same
    seed and so with the same random draws.
    """
    _, points, said, targets = heap(seed)
    perfect = heap(seed, skill=1.0).predictions
    own = (perfect.boxes - targets.boxes[gt]).abs().amax(dim=1) < 1e-3
    before, after = (ltrb(points.xy, boxes.boxes[gt])[:, 2] for boxes in (targets, shaved(targets, gt, pixels)))
    own &= after > 0
    right = points.xy[:, 0] + (said.boxes[:, 2] - points.xy[:, 0]) * after / before
    boxes = said.boxes.clone()
    boxes[own, 2] = right[own]
    return Predictions(said.logits, boxes)


@cache
def changed(
    seed: int, gt: int, name: str = "ota", follow: bool = False, pixels: float | int = 1
) -> tuple[int, int, int]:
    """How many of an assigner's labels change when a gt gets that many px narrower.

    The three counts are from gt to gt, from a gt to the background, and from the background to a gt. With `follow`, the
    predictions become those of `followed`.
    """
    _, points, predictions, targets = heap(seed)
    predictions = followed(seed, gt, pixels) if follow else predictions
    before = unshaved(seed, name)
    after = build_assigner(name)(points, predictions, shaved(targets, gt, pixels)).matched_gt
    differs, was, is_now = before != after, before >= 0, after >= 0
    return tuple(int((differs & kind).sum()) for kind in (was & is_now, was & ~is_now, ~was & is_now))


@cache
def unshaved(seed: int, name: str) -> Int[Tensor, " n"]:
    """The labels of a heap whose boxes are unchanged."""
    return build_assigner(name)(*heap(seed)[1:]).matched_gt


@checker
def check(answer=None) -> str:
    """Check that shaving one pixel off the gt of `answer`, a pair (seed, gt), changes at least MANY of OTA's labels."""
    hint_if(missing(answer), "No answer yet: `answer` is a pair, the seed of a heap and the gt that loses a pixel.")
    found = numbers(answer)
    what = type(answer).__name__ if found is None else f"the shape {tuple(found.shape)}"
    hint_if(found is None or found.shape != (2,), f"`answer` is a pair (seed, gt), not {what}.")
    hint_if((found != found.round()).any(), f"Seed and gt are whole numbers, not {found.tolist()}.")
    seed, gt = (int(number) for number in found)
    hint_if(not 0 <= seed <= MOST, f"Take a seed from {SEEN} to {MOST}, not {seed}.")
    hint_if(seed < SEEN, f"Heap {seed} is one of those that the lesson counted. Look at heaps from seed {SEEN} on.")
    m = len(heap(seed).targets)
    hint_if(not 0 <= gt < m, f"In code gts count from 0, so here up to {m - 1}; there is no gt {gt}.")
    between, lost, won = changed(seed, gt)
    total = between + lost + won
    hint_if(total < MANY, f"{total} of OTA's labels change there. {hint(seed, gt)}")
    return (
        f"{total} of OTA's labels change: {between} go from gt to gt, {lost} from a gt to the background and {won} the "
        "other way. One pixel can tip the sum of IoUs to another k, or one optimum to the next. An exact optimum is no "
        "smooth function of its costs."
    )


def hint(seed: int, gt: int) -> str:
    """Hint for a wrong answer: why the shave may have seemed to change many labels, or where to look."""
    look = f"few shaves change {MANY}. Look through more heaps: all gts of seed {SEEN}, {SEEN + 1}, ..."
    if sum(changed(seed, gt, follow=True)) >= MANY:
        return "Many do if the predictions follow the shaved box. Here the detector says the same before and after."
    for name, text in (("fcos", "FCOS's"), ("atss", "ATSS's")):
        if sum(changed(seed, gt, name)) >= MANY:
            return f"It is {text} labels that change there; the question is about OTA's."
    if gt > 0 and sum(changed(seed, gt - 1)) >= MANY:
        return "Did you count gts from 1, as the figures do? In code they count from 0."
    if any(sum(changed(seed, gt, pixels=pixels)) >= MANY for pixels in (2, 3, -1)):
        return f"If you saw more: do you take off one pixel, and off the right side? If you tried your luck: {look}"
    return look[0].upper() + look[1:]
