"""Lesson 10: overfit one image, until the detector's predictions meet the labels that it gets."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign import Assignment, Predictions, build_assigner
from otalab.data import ShapesConfig
from otalab.detect.detector import Detector, as_targets
from otalab.detect.losses import detection_losses
from otalab.errors import InputError
from otalab.lab.simulate import simulate_scene
from otalab.lessons.verdict import Hint, checker, hint_if
from otalab.viz.detections import match_detections

CONFIG = ShapesConfig(64, min_objects=2, max_objects=5, min_size=12.0, max_size=36.0, crowd=0.5)
NUM_CLASSES = 1  # shape or background: learning six kinds takes longer than a lesson
BELOW = 0.4  # the loss to reach
UNTRAINED = 2.2  # an untrained detector's loss is above this


def draw(split: int, number: int) -> tuple[Float[Tensor, "3 64 64"], dict[str, Tensor]]:
    """A scene as the detector takes it: the image in 0..1, and a target with boxes and labels, which are all 0."""
    image, targets = simulate_scene(CONFIG, [CONFIG.seed, split, number])
    return image, {"boxes": targets.boxes, "labels": torch.zeros_like(targets.labels)}


def scene() -> tuple[Float[Tensor, "3 64 64"], dict[str, Tensor]]:
    """The crowded scene of the film, on which the exercise trains."""
    return draw(2, 9)


@torch.no_grad()
def judge(model: Detector) -> tuple[dict[str, float], Predictions, Assignment]:
    """A detector's losses, predictions and assignment by `ota` on the scene, computed in training mode."""
    image, target = scene()
    copied = copy.deepcopy(model).train()  # a copy, so that the running means of its batch norms do not change
    points, predictions = copied.predict([image])
    targets = [as_targets(target)]
    assignments = build_assigner("ota").assign_batch(points, predictions, targets)
    losses = detection_losses(predictions, targets, assignments)
    return {name: float(value) for name, value in losses.items()}, predictions[0], assignments[0]


@checker
def check(model=None) -> str:
    """Check that the detector's loss on `scene()` is below BELOW."""
    hint_if(model is None, "No model yet. Build a detector, train it on the scene alone, and return it.")
    loss = isinstance(model, Tensor | float | int | dict)
    hint_if(loss, "That looks like a loss. Return the model that has it: the checker computes the loss itself.")
    other = not isinstance(model, Detector)
    kind = type(model).__name__
    hint_if(other, f"Return the detector that you trained, as build_detector makes it, not {kind}.")
    try:
        losses, predictions, assignment = judge(model)
    except InputError as error:
        if "non-finite" not in str(error):
            raise Hint(
                f"The detector refuses the scene: {error}. Does it know at least {NUM_CLASSES} class?"
            ) from error
        steps = "Some step was too long: a lower learning rate, or a warm-up, or a clipped gradient?"
        raise Hint(f"Its predictions are not finite. {steps}") from error
    total = sum(losses.values())
    hint_if(not total < BELOW, hint(total, losses, type(model.assigner).__name__))
    return reason(total, model, predictions, assignment)


def hint(total: float, losses: dict[str, float], assigner: str = "OTA") -> str:
    """Hint on what to do next, given how low the loss is and which assigner the detector was trained with."""
    if not total < float("inf"):
        return "The loss is not finite. A lower learning rate?"
    most = max(losses, key=losses.get)
    if total > UNTRAINED:
        advice = (
            "That is what an untrained detector has, or worse. Does each step call zero_grad, backward and step, on "
            "the parameters of the model that you return?"
        )
    elif assigner != "OTA":
        advice = f"It was trained with the labels of {assigner}, and here the labels are those of ota. Train with ota."
    elif total > 2 * BELOW:
        stuck = "If more steps do not lower it: another learning rate, and zero_grad in each step?"
        advice = f"It has fallen; most of what is left is the {most} loss. {stuck}"
    else:
        advice = f"Nearly there; most of what is left is the {most} loss. Do the last steps still move it up and down?"
    return f"The loss is {total:.2f}, and it should be below {BELOW}. {advice}"


@torch.no_grad()
def reason(total: float, model: Detector, predictions: Predictions, assignment: Assignment) -> str:
    """Message for a right answer: the loss, the mean IoU of the positives, and how many shapes are found."""
    image, target = scene()
    targets = as_targets(target)
    detections = copy.deepcopy(model).eval()([image])[0]
    best = [detections[key][: len(targets)] for key in ("boxes", "labels", "scores")]  # detections come best first
    found = int((match_detections(*best, targets.boxes, targets.labels).gt >= 0).sum())
    positive = assignment.positive
    iou = box_ops.iou(predictions.boxes[positive], targets.boxes[assignment.matched_gt[positive]]).mean()
    m = len(targets)
    return (
        f"The loss is {total:.2f}. The {int(positive.sum())} positives have a mean IoU of {iou:.2f} with their gts: "
        f"boxes that fit earn labels, and labels make boxes fit. In evaluation the best {m} detections find {found} of "
        f"the {m} shapes. That proves the loop, not the detector: it has seen no other image."
    )
