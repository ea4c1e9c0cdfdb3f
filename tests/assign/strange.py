"""Strange input, one scenario a name, and what an assigner answers: the table of docs/assigners.md.

python -m tests.assign.strange   # prints the table
"""

from collections.abc import Callable

import torch

from otalab.assign import ASSIGNERS, AnchorPoints, Predictions, Targets, build_assigner
from otalab.errors import InputError
from otalab.lab.simulate import simulate_predictions

Input = tuple[AnchorPoints, Predictions, Targets]


def scene(boxes: list, num_classes: int = 3, size=(96, 96), strides=(8, 16, 32), seed: int = 0) -> Input:
    """Simulated predictions for gts of classes 0, 1, 2, 0, ... on 144 + 36 + 9 points."""
    points = AnchorPoints.for_image(size, strides)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    targets = Targets(boxes, torch.arange(len(boxes)) % num_classes)
    proper = Targets(
        torch.cat((boxes[:, :2].minimum(boxes[:, 2:]), boxes[:, :2].maximum(boxes[:, 2:])), 1), targets.labels
    )
    generator = torch.Generator().manual_seed(seed)
    return points, simulate_predictions(points, proper, num_classes, generator, skill=0.7), targets


def sixty() -> list:
    """60 overlapping boxes of 12 to 40 px."""
    generator = torch.Generator().manual_seed(1)
    corner = 70 * torch.rand(60, 2, generator=generator)
    return torch.cat((corner, corner + 12 + 28 * torch.rand(60, 2, generator=generator)), 1).tolist()


def nan_logits() -> Input:
    points, predictions, targets = scene([[20, 20, 60, 60]])
    return points, Predictions(torch.full_like(predictions.logits, torch.nan), predictions.boxes), targets


BOX = [20.0, 24, 60, 70]
SCENARIOS: dict[str, Callable[[], Input]] = {
    "no gt": lambda: scene([]),
    "one gt": lambda: scene([BOX]),
    "60 gts": lambda: scene(sixty()),
    "two equal gts": lambda: scene([BOX, BOX], num_classes=1),
    "gt outside the image": lambda: scene([BOX, [200, 200, 260, 250]]),
    "gt of zero area": lambda: scene([BOX, [75, 80, 75, 80]]),
    "inverted gt": lambda: scene([BOX, [85, 88, 70, 75]]),
    "4 points": lambda: scene([[0, 0, 30, 30], [2, 2, 32, 32]], size=(32, 32), strides=(16,)),
    "one class": lambda: scene([BOX, [50, 40, 90, 90]], num_classes=1),
    "NaN logits": nan_logits,
}


def answer(name: str, scenario: str) -> str:
    """Positives of each gt, or of all and the gts left empty where there are many; "error" for an InputError."""
    try:
        assignment = build_assigner(name)(*SCENARIOS[scenario]())
    except InputError:
        return "error"
    counts = assignment.counts.tolist()
    if len(counts) > 4:
        return f"{sum(counts)}, {counts.count(0)} empty"
    return " + ".join(map(str, counts)) or "0"


def rows() -> list[str]:
    """The table, in Markdown."""
    head = "| assigner | " + " | ".join(SCENARIOS) + " |"
    line = "| --- |" + " ---: |" * len(SCENARIOS)
    cells = [f"| `{name}` | " + " | ".join(answer(name, s) for s in SCENARIOS) + " |" for name in ASSIGNERS]
    return [head, line, *cells]


if __name__ == "__main__":
    print(*rows(), sep="\n")
