"""Lesson 11: which assigner is better, and who can tell?"""

import json
from collections.abc import Sequence
from pathlib import Path

from otalab.lab.card import Card, parse_card
from otalab.lab.contrasts import answers
from otalab.lab.plan import Plan, parse_plan
from otalab.lessons.verdict import Hint, ask, checker, hint_if, numbers, whole

RECORD = Path(__file__).parent / "recorded" / "study.json"
BALANCED, DEMO, CLASSES, LONGER = (
    RECORD.with_name(f"{name}.json") for name in ("balanced", "demo", "classes", "longer")
)


def recorded(path: Path = RECORD) -> tuple[Plan, list[Card]]:
    """The plan and the cards of a recorded study, which is longer than that of the lesson.

    `RECORD` is the first study, `BALANCED` the one with a balanced loss, `DEMO` the one on scenes like the demo's,
    `CLASSES` compares six classes with one, and `LONGER` trains longer.
    """
    content = json.loads(path.read_text())
    return parse_plan(content["plan"]), [parse_card(card | {"settings": {}}) for card in content["cards"]]


@checker
def check_order(order=None, cards: Sequence[Card] | None = None, plan: Plan | None = None) -> str:
    """Check that the cards of a plan do not contradict `order`, the plan's methods from best to worst."""
    hint_if(not cards or plan is None, "Give cards and plan too: lesson11.check_order(order, cards, plan).")
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


@checker
def check(paired_loop=None) -> str:
    """Check that `paired_loop(run, a, b, seeds)` gives a's AP minus b's for each seed, without any needless run."""
    hint_if(not callable(paired_loop), "Give the function itself: lesson11.check(paired_loop).")
    bases, seeds = {"ota": 0.40, "fcos": 0.37}, [11, 4, 8]
    luck = {seed: 0.07 * ((seed * 37) % 11) / 11 for seed in range(40)}  # much larger than the difference
    rest = {11: 0.002, 4: 0.001, 8: -0.05}  # added to ota: it is behind with one seed, and orders seeds unlike fcos
    asked: list[tuple] = []

    def run(method, seed):
        hint_if(method not in bases, f"run takes a method's name and a seed; it was asked for the method {method!r}.")
        number = whole(seed)
        hint_if(number not in luck, f"run takes a method's name and a seed; it was asked for the seed {seed!r}.")
        asked.append((method, number))
        return bases[method] + luck[number] + (rest.get(number, 0.0) if method == "ota" else 0.0)

    found = ask(paired_loop, "paired_loop", run, "ota", "fcos", list(seeds))
    of = {method: [seed for name, seed in asked if name == method] for method in bases}
    hint_if(not asked, "It never calls run(method, seed), which trains a detector and returns its AP.")
    hint_if(not all(of.values()), "It trains one of the two methods only.")
    hint_if(set(of["ota"]) != set(of["fcos"]), "The two methods get different seeds: then their luck does not cancel.")
    used = sorted(set(of["ota"]))
    hint_if(used != sorted(seeds), f"The seeds given were {seeds}; it used {used}: all of them, once each?")
    spent = f"With {len(seeds)} seeds it trains {len(asked)} detectors; {2 * len(seeds)} are enough."
    hint_if(len(asked) > 2 * len(seeds), spent + " A run takes minutes: keep what it gave.")
    values = numbers(found)
    hint_if(values is None, f"It returns {found!r}, not the differences, one for each seed.")
    right = numbers([bases["ota"] - bases["fcos"] + rest[seed] for seed in seeds])
    hint_if(values.numel() == 1, "One number only: without the differences of all seeds there is no interval.")
    hint_if(values.shape != right.shape, f"It returns {values.numel()} values for {len(seeds)} seeds.")
    hint_if(values.allclose(-right), "The signs are the wrong way round: a minus b.")
    hint_if(values.allclose(right.abs()), "All differences are positive: where b was better, a minus b is negative.")
    shuffled = values.sort().values.allclose(right.sort().values) and not values.allclose(right)
    hint_if(shuffled, "The differences are not in the order of the seeds.")
    hint_if(not values.allclose(right), "These are not the differences of runs with equal seeds.")
    return (
        f"{len(asked)} detectors, {len(seeds)} differences. Seeds alone moved AP by 6 points; in pairs that is gone. "
        "One difference is negative: who is better in the mean need not win with every seed."
    )
