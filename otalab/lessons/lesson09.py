"""Lesson 09: non-maximum suppression by hand, and easy scenes on which the reader's own detector can learn."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count, islice

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert, box_iou

from otalab.data import CLASS_NAMES, ShapesConfig
from otalab.lab.simulate import simulate_scene
from otalab.lessons.verdict import Hint, ask, checker, hint_if

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
    return list(islice(all_easy_scenes(split), number))


def all_easy_scenes(split: int) -> Iterator[Scene]:
    """Yield the scenes of `easy_scenes` one by one, without end."""
    kind = torch.full((len(CLASS_NAMES),), -1)
    kind[[CLASS_NAMES.index(name) for name in KINDS]] = torch.arange(len(KINDS))
    for i in count():
        image, targets = simulate_scene(EASY, [EASY.seed, split, i])
        labels = kind[targets.labels]
        if (labels >= 0).all():
            yield image, {"boxes": targets.boxes, "labels": labels}


def ground_truth(scenes: Sequence[Scene]) -> dict:
    """The scenes as a COCO dict for the evaluator: image i has the id i, and class c the id c."""
    images, annotations = [], []
    for i, (_, target) in enumerate(scenes):
        images.append({"id": i, "height": EASY.image_size, "width": EASY.image_size})
        boxes = box_convert(target["boxes"], "xyxy", "xywh").tolist()
        for box, label in zip(boxes, target["labels"].tolist(), strict=True):
            row = {"id": len(annotations) + 1, "image_id": i, "category_id": label, "bbox": box}
            annotations.append(row | {"area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": i, "name": name} for i, name in enumerate(KINDS)]
    return {"images": images, "annotations": annotations, "categories": categories}


@checker
def check(keep=None) -> str:
    """Check that `keep(boxes, scores, labels, overlap)` returns the indices that class-wise NMS keeps, best first."""
    no_function = not callable(keep)
    hint_if(no_function, "The answer is a function: keep(boxes, scores, labels, overlap) gives the indices to keep.")
    told = [said(keep, case) for case in cases()]
    if not all(answer == right(*case) for answer, case in zip(told, cases(), strict=True)):
        raise Hint(hint(told))
    boxes = sum(len(case[1]) for case in cases())
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
        found = torch.as_tensor(answer)
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


def hint(told: list[list[int]]) -> str:
    """Hint for answers that differ from class-wise NMS: the usual mistake that explains them, or a case to look at."""
    for way, advice in WRONG_WAYS.items():
        if all(answer == way(*case) for answer, case in zip(told, cases(), strict=True)):
            return advice
    if all(set(answer) == set(right(*case)) for answer, case in zip(told, cases(), strict=True)):
        return "The right boxes stay, in another order: the best score should come first."
    if any(not answer and len(case[1]) for answer, case in zip(told, cases(), strict=True)):
        return "In one case no box is left. The best box of all always stays: does it suppress itself?"
    answer, case = next((a, c) for a, c in zip(told, cases(), strict=True) if a != right(*c))
    boxes, scores, labels, overlap = case
    more = "more" if len(answer) > len(right(*case)) else "fewer" if len(answer) < len(right(*case)) else "others"
    table = "\n".join(
        f"  box {i}: {[round(x) for x in box]}, class {label}, score {score:.2f}"
        for i, (box, label, score) in enumerate(zip(boxes.tolist(), labels.tolist(), scores.tolist(), strict=True))
    )
    return f"Not yet: for these boxes and overlap {overlap} you keep {answer}, {more} than should stay.\n{table}"


def right(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """The right answer, by torchvision."""
    return batched_nms(boxes, scores, labels, overlap).tolist()


def everything(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """Mistake: suppress nothing."""
    return scores.argsort(descending=True, stable=True).tolist()


def as_they_come(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """Mistake: go through the boxes as they are listed, not by score."""
    return greedy(boxes, torch.arange(len(scores), 0, -1).float(), labels, lambda iou: iou > overlap)


def worst_first(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """Mistake: begin with the lowest score."""
    return greedy(boxes, -scores, labels, lambda iou: iou > overlap)


def of_any_class(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """Mistake: let boxes suppress those of other classes."""
    return greedy(boxes, scores, torch.zeros_like(labels), lambda iou: iou > overlap)


def at_equality(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """Mistake: suppress a box whose IoU is exactly `overlap`, too."""
    return greedy(boxes, scores, labels, lambda iou: iou >= overlap)


def at_the_default(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """Mistake: use the threshold OVERLAP instead of `overlap`."""
    return greedy(boxes, scores, labels, lambda iou: iou > OVERLAP)


def by_the_dead(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """Mistake: let suppressed boxes suppress others."""
    order = scores.argsort(descending=True, stable=True)
    close = (box_iou(boxes[order], boxes[order]) > overlap) & (labels[order, None] == labels[order])
    return order[~close.triu(diagonal=1).any(dim=0)].tolist()


def one_a_class(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """Mistake: keep only the best box of each class."""
    order, seen = everything(boxes, scores, labels, overlap), set()
    return [i for i in order if not (int(labels[i]) in seen or seen.add(int(labels[i])))]


def what_goes(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> list[int]:
    """Mistake: return the boxes that go instead of those that stay."""
    kept = set(right(boxes, scores, labels, overlap))
    return [i for i in everything(boxes, scores, labels, overlap) if i not in kept]


def greedy(boxes: Tensor, scores: Tensor, labels: Tensor, too_much: Callable[[Tensor], Tensor]) -> list[int]:
    """NMS by loops, best score first. `too_much(iou)` says which IoUs with a kept box of the class suppress a box."""
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        rivals = [j for j in kept if labels[j] == labels[i]]
        if not rivals or not too_much(box_iou(boxes[i, None], boxes[rivals])).any():
            kept.append(i)
    return kept


WRONG_WAYS = {
    everything: "Nothing is suppressed: every box stays. Which of them show the same object as a better one?",
    as_they_come: "You go through the boxes as they come. The best should be served first: sort by score.",
    worst_first: "The lowest scores stay and the best go. From which end do you go through the scores?",
    of_any_class: "A ring may lie on a star: only a box of the *same class* suppresses another. Do you look at labels?",
    at_equality: "Nearly: a box whose IoU is exactly `overlap` stays. It goes only if the IoU is larger.",
    at_the_default: f"Is the threshold {OVERLAP}, whatever `overlap` says?",
    by_the_dead: "Nearly: a box that is gone suppresses others still. Only boxes that *stay* have a say.",
    one_a_class: "That is the best box of each class. But an image may show two rings, far apart.",
    what_goes: "Those are the boxes to remove. Return the others.",
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
