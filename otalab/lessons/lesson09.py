"""Lesson 09: non-maximum suppression by hand, and easy scenes on which the reader's own detector can learn."""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert, box_iou

from otalab.data import CLASS_NAMES, ShapesConfig
from otalab.lab.simulate import simulate_scene
from otalab.lessons.verdict import Hint, ask, checker, hint_if, listed

# few, large and plain objects: a small network can learn them within minutes on two cores
EASY = ShapesConfig(
    image_size=64, min_objects=1, max_objects=2, min_size=20.0, max_size=40.0, crowd=0.0,
    aspect=1.0, contrast=0.4, texture=0.0, noise=0.0,
)  # fmt: skip
KINDS = ("circle", "triangle", "cross")
Scene = tuple[Tensor, dict[str, Tensor]]  # an image (3, 64, 64) in 0..1, and its "boxes" and "labels"
OVERLAP = 0.6  # IoU above which a worse box of the same class is suppressed
Case = tuple[Tensor, Tensor, Tensor, float]  # boxes (k, 4) xyxy px, scores (k,), labels (k,), overlap


def easy_scenes(split: int, number: int) -> list[Scene]:
    """The first `number` scenes of a split that show shapes of KINDS only; labels are indices into KINDS."""
    kind = torch.full((len(CLASS_NAMES),), -1)
    kind[[CLASS_NAMES.index(name) for name in KINDS]] = torch.arange(len(KINDS))
    found: list[Scene] = []
    drawn = 0
    while len(found) < number:
        image, targets = simulate_scene(EASY, [EASY.seed, split, drawn])
        labels = kind[targets.labels]
        if (labels >= 0).all():
            found.append((image, {"boxes": targets.boxes, "labels": labels}))
        drawn += 1
    return found


def ground_truth(scenes: Sequence[Scene]) -> dict:
    """The scenes as a COCO dict for `coco_metrics`: image i has the id i, and class c the id c."""
    annotations = []
    for i, (_, target) in enumerate(scenes):
        boxes = box_convert(target["boxes"], "xyxy", "xywh").tolist()
        for box, label in zip(boxes, target["labels"].tolist(), strict=True):
            area = box[2] * box[3]
            annotations.append({"image_id": i, "category_id": label, "bbox": box, "area": area, "iscrowd": 0})
    images = [{"id": i, "height": EASY.image_size, "width": EASY.image_size} for i in range(len(scenes))]
    categories = [{"id": i, "name": name} for i, name in enumerate(KINDS)]
    return {"images": images, "annotations": annotations, "categories": categories}


@checker
def check(keep=None) -> str:
    """Check that `keep(boxes, scores, labels, overlap)` returns the indices that class-wise NMS keeps, best first."""
    no_function = not callable(keep)
    hint_if(no_function, "The answer is a function: keep(boxes, scores, labels, overlap) gives the indices to keep.")
    told = [said(keep, case) for case in cases()]
    wanted = [right(*case) for case in cases()]
    if told != wanted:
        raise Hint(hint(told, wanted))
    boxes = sum(len(scores) for _, scores, _, _ in cases())
    kept = sum(map(len, told))
    return (
        f"Right in all {len(told)} cases: of {boxes} boxes {kept} stay. Each box that stays is the best of its class "
        "around, and no box that went has a say in what stays: that is why the best must come first."
    )


def said(keep: Callable, case: Case) -> list[int]:
    """The indices that the reader's function returns. Raises Hint if it returns anything else."""
    boxes, scores, labels, overlap = case
    answer = ask(keep, "keep(boxes, scores, labels, overlap)", boxes.clone(), scores.clone(), labels.clone(), overlap)
    hint_if(answer is None, "keep(boxes, scores, labels, overlap) returns nothing. Is there a return at its end?")
    try:
        found = torch.as_tensor(listed(answer))
    except (TypeError, ValueError, RuntimeError):
        raise Hint(f"keep should return indices, one number a box that stays, not {type(answer).__name__}.") from None
    mask = found.dtype == torch.bool
    hint_if(mask, "That is a mask. Return the indices of the boxes that stay, the best first.")
    shape = f"{tuple(found.shape)}"
    hint_if(found.ndim != 1, f"Return indices (a list of numbers), not values of shape {shape}: boxes, perhaps?")
    broken = found.numel() > 0 and (found.is_floating_point() or found.is_complex())
    hint_if(broken, "Return indices, whole numbers: those look like scores.")
    indices = [int(i) for i in found]
    hint_if(len(set(indices)) < len(indices), "A box is named twice. Each can stay once.")
    beyond = not all(0 <= i < len(scores) for i in indices)
    hint_if(beyond, f"An index lies outside 0..{len(scores) - 1}. Do you count among the boxes of one class alone?")
    return indices


def hint(told: list[list[int]], wanted: list[list[int]]) -> str:
    """Hint for answers that differ from class-wise NMS: the usual mistake that explains them, or a case to look at."""
    by_mistake = [wrong(*case) for case in cases()]
    for mistake, advice in MISTAKES.items():
        if told == [answers[mistake] for answers in by_mistake]:
            return advice
    if list(map(set, told)) == list(map(set, wanted)):
        return "The right boxes stay, in another order: the best score should come first."
    if any(stay and not answer for answer, stay in zip(told, wanted, strict=True)):
        return "In one case no box is left. The best box of all always stays: does it suppress itself?"
    rows = zip(told, wanted, cases(), strict=True)
    answer, stay, (boxes, scores, labels, overlap) = next(row for row in rows if row[0] != row[1])
    more = "more" if len(answer) > len(stay) else "fewer" if len(answer) < len(stay) else "others"
    table = "\n".join(
        f"  box {i}: {[round(x) for x in box]}, class {label}, score {score:.2f}"
        for i, (box, label, score) in enumerate(zip(boxes.tolist(), labels.tolist(), scores.tolist(), strict=True))
    )
    return f"Not yet: for these boxes and overlap {overlap} you keep {answer}, {more} than should stay.\n{table}"


def right(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """The right answer, by torchvision."""
    return batched_nms(boxes, scores, labels, overlap).tolist()


def wrong(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> dict[str, list[int]]:
    """What the usual mistakes, those of MISTAKES, make of a case."""
    order = scores.argsort(descending=True)
    close = (box_iou(boxes[order], boxes[order]) > overlap) & (labels[order, None] == labels[order])
    stay = right(boxes, scores, labels, overlap)
    return {
        "everything": order.tolist(),
        "as they come": right(boxes, torch.arange(len(scores), 0, -1).float(), labels, overlap),
        "worst first": right(boxes, -scores, labels, overlap),
        "any class": right(boxes, scores, torch.zeros_like(labels), overlap),
        "at equality": right(boxes, scores, labels, overlap - 1e-6),
        "at the default": right(boxes, scores, labels, OVERLAP),
        "by the dead": order[~close.triu(diagonal=1).any(dim=0)].tolist(),
        "one a class": right(boxes[:1].expand_as(boxes), scores, labels, overlap),  # as if all boxes were the same
        "what goes": [i for i in order.tolist() if i not in stay],
    }


MISTAKES = {
    "everything": "Nothing is suppressed: every box stays. Which of them show the same object as a better one?",
    "as they come": "You go through the boxes as they come. The best should be served first: sort by score.",
    "worst first": "The lowest scores stay and the best go. From which end do you go through the scores?",
    "any class": "A ring may lie on a star: only a box of the *same class* suppresses another. Do you look at labels?",
    "at equality": "Nearly: a box whose IoU is exactly `overlap` stays. It goes only if the IoU is larger.",
    "at the default": f"Is the threshold {OVERLAP}, whatever `overlap` says?",
    "by the dead": "Nearly: a box that is gone suppresses others still. Only boxes that *stay* have a say.",
    "one a class": "That is the best box of each class. But an image may show two rings, far apart.",
    "what goes": "Those are the boxes to remove. Return the others.",
}


@cache
def cases() -> list[Case]:
    """Small lists of boxes, some made by hand and some random, that tell the usual mistakes apart."""
    chain = torch.tensor([[0.0, 0, 20, 20], [4, 0, 24, 20], [8, 0, 28, 20]])  # IoU 2/3 of neighbours, 3/7 of the ends
    half = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 4], [30, 30, 40, 40]])  # IoU 1/2 exactly
    found: list[Case] = [
        (chain, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64), 0.6),
        (chain, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 1, 0]), 0.4),
        (half, torch.tensor([0.4, 0.6, 0.5]), torch.zeros(3, dtype=torch.int64), 0.5),
        (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.6),
    ]
    generator = torch.Generator().manual_seed(9)
    for overlap in (0.6, 0.6, 0.5, 0.3):
        objects = torch.randint(12, 52, (4, 2), generator=generator)
        centre = objects.repeat_interleave(6, dim=0) + 3 * torch.randn(24, 2, generator=generator)  # six boxes on each
        half_side = 8 + 2 * torch.rand(24, 2, generator=generator)
        boxes = torch.cat((centre - half_side, centre + half_side), dim=1)
        labels = torch.randint(2, (24,), generator=generator)
        found.append((boxes, torch.rand(24, generator=generator), labels, overlap))
    return found
