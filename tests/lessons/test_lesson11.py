"""The checker of lesson 11 holds a predicted order against the runs, and claims no more than they show."""

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from lab.cards import cards

from benchmarks import record_study
from otalab.data import ShapesConfig
from otalab.data.scene import draw_scene
from otalab.files import to_json
from otalab.lab.contrasts import answers
from otalab.lab.plan import Contrast, Plan
from otalab.lessons import lesson11


def plan_of(*methods: str) -> Plan:
    asked = tuple(Contrast(a, b, "?") for a, b in combinations(methods, 2))
    return Plan("t", {"d": "folder"}, {name: {} for name in methods}, 4, contrasts=asked)


def runs(**bases: float) -> list:
    """Four seeds a method around a mean, with a little noise that differs from method to method."""
    noise = ([0.001, -0.002, 0.0, 0.001], [-0.001, 0.001, 0.002, -0.002], [0.002, 0.0, -0.001, -0.001])
    return cards(
        {"d": {name: [base + each for each in noise[row % 3]] for row, (name, base) in enumerate(bases.items())}}
    )


CLEAR, PLAN = runs(ota=0.30, fcos=0.25, atss=0.2501), plan_of("ota", "fcos", "atss")


@pytest.mark.parametrize("order", [["ota", "fcos", "atss"], ("ota", "atss", "fcos")])
def test_an_order_that_agrees_with_the_pairs_told_apart_passes_and_says_how_many_they_are(order):
    verdict = lesson11.check_order(order, CLEAR, PLAN)
    assert verdict.passed and "2 of 3 pairs" in verdict.message and "silent" in verdict.message


def test_an_order_against_them_gets_their_number_and_not_their_names():
    verdict = lesson11.check_order(["fcos", "ota", "atss"], CLEAR, PLAN)
    assert not verdict.passed and "tell 2 of 3 pairs apart, and 1 of them" in verdict.message
    assert "fcos" not in verdict.message


def test_runs_that_tell_nothing_apart_contradict_no_order():
    verdict = lesson11.check_order(["atss", "ota"], runs(ota=0.3, atss=0.3), plan_of("ota", "atss"))
    assert verdict.passed and "no pair apart" in verdict.message


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (None, "Write down an order of ota, fcos, atss"),
        ("ota", "a list of names"),
        ([1, 2, 3], "a list of names"),
        (["ota", "fcos"], "stands in the order once; yours has ota, fcos"),
        (["ota", "fcos", "simota"], "stands in the order once"),
        (["ota", "ota", "fcos"], "stands in the order once"),
        ([], "yours has none"),
    ],
)
def test_no_order_and_half_orders_get_a_hint(order, said):
    verdict = lesson11.check_order(order, CLEAR, PLAN)
    assert not verdict.passed and said in verdict.message


def test_without_runs_there_is_nothing_to_check():
    assert "cards" in lesson11.check_order(["ota", "fcos", "atss"]).message


RIGHT = [
    lambda run, a, b, seeds: [run(a, seed) - run(b, seed) for seed in seeds],
    lambda run, a, b, seeds: np.array([run(a, s) for s in seeds]) - np.array([run(b, s) for s in seeds]),
    lambda run, a, b, seeds: torch.tensor([run(a, s) - run(b, s) for s in seeds], dtype=torch.float64),
    lambda run, a, b, seeds: torch.tensor([run(a, s) for s in seeds]) - torch.tensor([run(b, s) for s in seeds]),
    lambda run, a, b, seeds: tuple(-(run(b, s) - run(a, s)) for s in seeds),
    lambda run, a, b, seeds: list(map(float.__sub__, [run(a, s) for s in seeds], [run(b, s) for s in seeds])),
]


def sorted_first(run, a, b, seeds) -> list[float]:
    """Each method's APs in order, whatever their seeds."""
    best, other = (sorted(run(name, seed) for seed in seeds) for name in (a, b))
    return [x - y for x, y in zip(best, other, strict=True)]


WRONG = [
    (None, "Give the function itself"),
    (lambda run, a, b, seeds: None, "never calls run"),
    (lambda run, a, b, seeds: [run(a, s) for s in seeds], "one of the two methods only"),
    (lambda run, a, b, seeds: [run(a, s) - run(b, s + 1) for s in seeds], "different seeds"),
    (lambda run, a, b, seeds: [run(a, s) - run(b, s) for s in range(len(seeds))], "The seeds given were [11, 4, 8]"),
    (lambda run, a, b, seeds: [run(b, s) - run(a, s) for s in seeds], "a minus b"),
    (lambda run, a, b, seeds: sum(run(a, s) - run(b, s) for s in seeds) / len(seeds), "One number only"),
    (lambda run, a, b, seeds: [run(a, s) - run(b, s) for s in sorted(seeds)], "not in the order of the seeds"),
    (lambda run, a, b, seeds: [run(a, s) - run(b, t) for s in seeds for t in seeds], "it trains 18 detectors; 6 are"),
    (lambda run, a, b, seeds: [run(a, s) - run(b, seeds[-i]) for i, s in enumerate(seeds)], "equal seeds"),
    (lambda run, a, b, seeds: [run(a, s) + run(b, s) for s in seeds], "not the differences"),
    (lambda run, a, b, seeds: [run(s, a) for s in seeds], "asked for the method 11"),
    (lambda run, a, b, seeds: [abs(run(a, s) - run(b, s)) for s in seeds], "where b was better"),
    (lambda run, a, b, seeds: sorted_first(run, a, b, seeds), "equal seeds"),
    (lambda run, a, b, seeds: (run(a, s) - run(b, s) for s in seeds), "gives a generator"),
    (lambda run, a, b, seeds: [run("a", s) for s in seeds], "asked for the method 'a'"),
    (lambda run, a, b, seeds: run(a, seeds[0]) - run(b, seeds[0]), "it used [11]: all of them"),
    (lambda run, a, b, seeds: [run(a) - run(b) for s in seeds], "raises TypeError"),
    (lambda run, a, b, seeds: [(run(a, s), run(b, s)) for s in seeds], "6 values for 3 seeds"),
]  # fmt: skip


@pytest.mark.parametrize("loop", RIGHT)
def test_a_loop_over_pairs_passes_in_any_form(loop):
    verdict = lesson11.check(loop)
    assert verdict.passed and "6 detectors, 3 differences" in verdict.message


@pytest.mark.parametrize(("loop", "said"), WRONG)
def test_a_wrong_loop_gets_a_hint_that_fits(loop, said):
    verdict = lesson11.check(loop)
    assert not verdict.passed and said in verdict.message


@pytest.mark.parametrize(("name", "path"), record_study.RECORDS.items())
def test_a_record_is_that_of_the_cards_and_the_plan(name, path):
    assert json.loads(path.read_text()) == json.loads(to_json(record_study.record(name)))


@pytest.mark.parametrize("path", record_study.RECORDS.values(), ids=record_study.RECORDS)
def test_a_recorded_study_is_whole(path):
    plan, kept = lesson11.recorded(path)
    assert [(card.data, card.method, card.seed) for card in kept] == [job[:3] for job in plan.jobs()]
    assert len(answers(plan, kept)) >= len(plan.contrasts)
    assert all(0 <= card.value("metrics/AP") <= 1 for card in kept)


def test_the_picture_of_the_dial_shows_the_same_shapes_at_every_setting():
    scenes = []
    for spread in (0.9, 0.6, 0.4, 0.25):
        sizes = {"min_size": 10.0, "max_size": 32.0, "crowd": 0.0, "spread": spread}
        look = ShapesConfig(image_size=96, min_objects=8, max_objects=8, **sizes)
        scenes.append(draw_scene(look, np.random.default_rng(37)))
    assert len({tuple(scene.labels) for scene in scenes}) == 1
    area = np.array([scene.masks.sum((1, 2)) / scene.visible for scene in scenes])  # px of whole shapes
    assert area.shape == (4, 8) and np.allclose(area, area[0], rtol=0.05, atol=4)  # edges fall on other parts of pixels
