"""Lesson 04: how many points of a crowded scene are ambiguous, checked against the centre prior itself."""

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from otalab.assign import AnchorPoints, ClosestPrior, RadiusPrior, Targets
from otalab.boxes import centres
from otalab.data.scene import Scene, ShapesConfig, draw_scene
from otalab.lessons.verdict import checker, hint_if, number

CONFIG = ShapesConfig(
    crowd=1.0, min_objects=7, max_objects=7, min_size=30.0, max_size=64.0, texture=0.25, noise=0.0, min_visible=0.35
)
SEED = 247  # a scene in which no usual mistake happens to give the right number


def crowd() -> tuple[Scene, AnchorPoints, Targets]:
    """The exercise's scene, drawn from a fixed seed, its points on three levels and its gts in float64."""
    scene = draw_scene(CONFIG, np.random.default_rng(SEED))
    points = AnchorPoints.for_image(scene.image.shape[:2], strides=(8, 16, 32), dtype=torch.float64)
    return scene, points, Targets(torch.from_numpy(scene.boxes).double(), torch.from_numpy(scene.labels))


@checker
def check(answer) -> str:
    """Whether `answer` is the number of points that lie in the centre priors of several gts of `crowd()`."""
    none = answer is None or answer is ...
    hint_if(none, "No answer yet: `answer` is a number, how many points at least two gts may claim.")
    count, kind = number(answer), type(answer).__name__
    hint_if(count is None, f"`answer` is one number, not {kind}; a mask still wants its sum.")
    _, points, targets = crowd()
    mask = RadiusPrior()(points, targets.boxes)  # (m, n)
    claims = mask.sum(dim=0)  # (n,)
    right = int((claims > 1).sum())
    hint_if(count != right, hint(count, points, targets, mask))
    levels = [int((claims[points.level == level] > 1).sum()) for level in range(3)]
    return (
        f"{right} of the {int((claims > 0).sum())} points that may learn anything have several takers, by level "
        f"{levels}; one of them has {int(claims.max())}. Each of them needs a rule or a price to decide."
    )


def hint(count: float, points: AnchorPoints, targets: Targets, mask: Bool[Tensor, "m n"]) -> str:
    """What a wrong number was probably a count of."""
    if not 0 <= count <= len(points) * len(targets) or count != int(count):
        return f"The answer is a whole number of points, and there are {len(points)}."
    claims = mask.sum(dim=0)
    boxes = RadiusPrior(radius=1e6)(points, targets.boxes).sum(dim=0)
    off_centre = (points.xy - centres(targets.boxes)[:, None]).abs().amax(dim=-1)  # (m, n) px
    near = (off_centre < 2.5 * points.stride).sum(dim=0)
    narrow = RadiusPrior(radius=1.5)(points, targets.boxes).sum(dim=0)
    closest = ClosestPrior()(points, targets.boxes).sum(dim=0)
    mistakes = [
        (claims > 0, "That counts the points that any gt may claim. Ambiguous ones have more than one claim."),
        (claims == 2, "That leaves out points that three gts or more may claim."),
        (claims == 1, "These are the points with exactly one claim: nobody disputes them."),
        (claims == 0, "These are the points that nobody may claim."),
        (boxes > 1, "That counts points inside several boxes. The centre prior is narrower: how far from the centre?"),
        (near > 1, "That counts points near several centres. To learn a gt a point must also lie inside its box."),
        (narrow > 1, "That is FCOS's centre region, 1.5 strides; the centre prior reaches 2.5."),
        (closest > 1, "That is the paper's prior, the closest points. The lesson's is the code's: RadiusPrior."),
        ((claims > 1)[points.level == 0], "That is the finest level alone; the others have points too."),
        (mask, "That counts claims, pairs of a gt and a point. A point with three claims is one point."),
        ((claims - 1).clamp(min=0), "That counts the claims too many. A point with three claims is one point."),
    ]
    for counted, said in mistakes:
        if count == int(counted.sum()):
            return said
    return "Make the mask of the centre prior, (gts, points), count the claims of each point, then the points."
