"""Lesson 11: which assigner is better, and who can tell?"""

import json
from itertools import combinations
from pathlib import Path

from otalab.data import ShapesConfig, make_shapes
from otalab.files import write_json
from otalab.lab.study import Difference, Run, assigners_of, paired_difference, values
from otalab.lessons.verdict import Hint, checker, hint_if

ASSIGNERS = ("ota", "fcos", "atss", "simota")
KEPT = ("ota", "ota:q=10", "simota", "simota-price", "fcos", "atss", "tal")  # in the study that comes with the lesson
CROWDS = ShapesConfig(image_size=96, min_size=14.0, max_size=48.0, crowd=0.7, min_objects=3, max_objects=10)
SETTINGS = {"batch_size": 8, "lr": 2e-3, "warmup": 30, "ema": 0.99}  # a short run needs a short memory
RECORD = Path(__file__).parent / "recorded" / "study.json"


def crowd_set(folder: str | Path, train: int, val: int) -> Path:
    """A shapes set of crowded scenes in which every shape is a "shape": one class, as in CrowdHuman."""
    folder = make_shapes(folder, train=train, val=val, config=CROWDS, progress=False)
    for file in folder.glob("*/instances.json"):
        content = json.loads(file.read_text())
        content["categories"] = [{"id": 1, "name": "shape"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = 1
        write_json(file, content)
    return folder


def recorded() -> tuple[list[Run], dict]:
    """The runs of a longer study, and how it was made: "command", "train", "val", "epochs"."""
    content = json.loads(RECORD.read_text())
    return [Run(**run) for run in content.pop("runs")], content


def pairs(runs: list[Run], split: str = "all", level: float = 0.95) -> dict[tuple[str, str], Difference]:
    """The paired difference of every two assigners; the intervals hold all at once with at least that level."""
    both = list(combinations(assigners_of(runs), 2))
    each = 1 - (1 - level) / len(both)  # Bonferroni
    return {(a, b): paired_difference(values(runs, a, split), values(runs, b, split), each) for a, b in both}


@checker
def check(order=None, runs: list[Run] | None = None) -> str:
    """Whether the runs leave room for `order`, names of assigners from the best to the worst."""
    hint_if(not runs, "Give the runs too: lesson11.check(order, runs).")
    names = assigners_of(runs)
    hint_if(order is None, f"Write down an order of {', '.join(names)} before you look, the best first.")
    listed = isinstance(order, list | tuple) and all(isinstance(name, str) for name in order)
    hint_if(not listed, "The order is a list of names, the best first.")
    if sorted(order) != sorted(names):
        raise Hint(f"Each of {', '.join(names)} stands in the order once; yours has {', '.join(order) or 'none'}.")
    found = pairs(runs)
    better = [(a, b) if d.mean > 0 else (b, a) for (a, b), d in found.items() if d.separated]
    wrong = [(a, b) for a, b in better if order.index(a) > order.index(b)]
    if wrong:
        raise Hint(
            f"These runs tell {len(better)} of {len(found)} pairs apart, and {len(wrong)} of them against your order. "
            "It was a prediction: say what you expected, and what the runs show instead."
        )
    if not better:
        return "These runs tell no pair apart: they contradict no order, and prove none either."
    return (
        f"These runs tell {len(better)} of {len(found)} pairs apart, and all of those stand as in your order. On the "
        f"other {len(found) - len(better)} they are silent, whatever the means say."
    )
