"""Lesson 11: which assigner is better, and who can tell?"""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from otalab.data import ShapesConfig
from otalab.lab.card import Card, parse_card
from otalab.lab.contrasts import answers
from otalab.lab.plan import Contrast, Plan, Scenes, parse_plan
from otalab.lessons.verdict import Hint, checker, hint_if

METHODS = ("ota", "fcos", "atss", "simota")
HEAP = ShapesConfig(image_size=96, min_objects=6, max_objects=10, min_size=10.0, max_size=32.0, crowd=0.0, spread=0.4)
PLAN = Plan(
    "Four assigners, three seeds",
    {"heaped": Scenes(train=320, val=160, one_class=True, shapes=HEAP)},
    {name: {} for name in METHODS},
    seeds=3,
    settings={"epochs": 5, "batch_size": 8, "lr": 2e-3, "warmup": 30, "ema": 0.99},  # a short run, a short memory
    contrasts=tuple(Contrast(a, b, f"{a} or {b}?") for a, b in combinations(METHODS, 2)),
)
RECORD = Path(__file__).parent / "recorded" / "study.json"


def recorded() -> tuple[Plan, list[Card]]:
    """The plan of a longer study, and its cards."""
    content = json.loads(RECORD.read_text())
    return parse_plan(content["plan"]), [parse_card(card | {"settings": {}}) for card in content["cards"]]


@checker
def check(order=None, cards: Sequence[Card] | None = None, plan: Plan = PLAN) -> str:
    """Whether the cards of a plan leave room for `order`, its methods from the best to the worst."""
    hint_if(not cards, "Give the cards too: lesson11.check(order, cards).")
    names = list(plan.methods)
    hint_if(order is None, f"Write down an order of {', '.join(names)} before you look, the best first.")
    listed = isinstance(order, list | tuple) and all(isinstance(name, str) for name in order)
    hint_if(not listed, "The order is a list of names, the best first.")
    if sorted(order) != sorted(names):
        raise Hint(f"Each of {', '.join(names)} stands in the order once; yours has {', '.join(order) or 'none'}.")
    found = answers(plan, cards)
    better = [each.ahead for each in found if each.found.separated]
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
