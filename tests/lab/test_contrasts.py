"""What a study concludes: intervals as in the textbooks, seed told from method, and questions answered together."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from otalab.errors import InputError
from otalab.lab.contrasts import answers, interval, paired_difference, table, two_way, values
from otalab.lab.plan import Contrast, Plan

from .cards import card, cards

shares = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def plan_of(*contrasts: Contrast, data=("d",), methods=("ota", "fcos", "atss"), level=0.95) -> Plan:
    return Plan("t", dict.fromkeys(data, "folder"), {name: {} for name in methods}, 4, contrasts=contrasts, level=level)


def noisy(seed: int, seeds: int, effects: dict[str, float], spread: float = 0.01, data="d") -> list:
    """AP = 0.4 + what the method does + what the seed does (much) + the rest."""
    rng = np.random.default_rng(seed)
    luck = 0.05 * rng.standard_normal(seeds)
    return cards(
        {data: {name: 0.4 + effect + luck + spread * rng.standard_normal(seeds) for name, effect in effects.items()}}
    )


def test_the_interval_is_students():
    sample = [0.2, 0.1, 0.4, 0.35]
    theirs = stats.ttest_1samp(sample, 0).confidence_interval(0.9)
    found = interval(sample, level=0.9)
    assert (found.mean, found.low, found.high) == pytest.approx((0.2625, theirs.low, theirs.high))


@given(shares, st.floats(-0.5, 0.5))
def test_what_a_seed_does_to_both_cancels_in_pairs(sample, lift):
    found = paired_difference(np.array(sample) + lift, sample)
    assert found.mean == pytest.approx(lift, abs=1e-9)
    assert found.high - found.low < 1e-6


@given(shares, st.randoms(use_true_random=False))
def test_the_other_way_round_is_the_negative(sample, random):
    other = random.sample(sample, len(sample))
    there, back = paired_difference(sample, other), paired_difference(other, sample)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert there.separated == back.separated


def test_intervals_without_zero_separate():
    assert paired_difference([0.5, 0.6, 0.7], [0.1, 0.21, 0.3]).separated
    assert paired_difference([0.1, 0.21, 0.3], [0.5, 0.6, 0.7]).separated
    assert not paired_difference([0.5, 0.6, 0.7], [0.6, 0.5, 0.7]).separated
    assert not paired_difference([0.5, 0.6], [0.5, 0.6]).separated


def test_too_few_values_and_unequal_numbers_are_named():
    with pytest.raises(InputError, match="two values, got 1"):
        interval([0.3])
    with pytest.raises(InputError, match="got 2 and 3"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


def test_values_go_by_seed_and_a_missing_method_is_named():
    assert values(cards({"d": {"ota": [0.1, 0.3]}}), "d", "ota") == {0: 0.1, 1: 0.3}
    assert values(cards({"d": {"ota": [0.1]}}), "d", "ota", "size/under 16/recall") == {0: 0.1}
    with pytest.raises(InputError, match="no card of 'atss' on 'd'"):
        values(cards({"d": {"ota": [0.1]}}), "d", "atss")


def test_the_table_holds_the_seeds_of_which_all_methods_have_a_card():
    some = [card("d", "ota", 0, 0.1), card("d", "fcos", 0, 0.2), card("d", "ota", 1, 0.3), card("e", "fcos", 1, 0.4)]
    methods, x = table(some, "d")
    assert methods == ["ota", "fcos"] and x.tolist() == [[0.1, 0.2]]


def test_a_two_way_table_tells_seed_from_method_and_both_from_the_rest():
    exact = two_way(cards({"d": {"ota": [0.1, 0.3], "fcos": [0.2, 0.4]}}), "d")  # additive: nothing is left
    assert (exact.seed, exact.method, exact.rest) == pytest.approx((0.1 * 2**0.5, 0.05 * 2**0.5, 0), abs=1e-12)
    assert (exact.seeds, exact.methods, exact.freedom) == (2, 2, 1)
    with pytest.raises(InputError, match="two seeds and two methods at least, not 1 and 2"):
        two_way(cards({"d": {"ota": [0.1], "fcos": [0.2]}}), "d")


def test_one_contrast_of_two_methods_is_the_paired_interval():
    some = noisy(1, 6, {"ota": 0.02, "fcos": 0})
    (found,) = answers(plan_of(Contrast("ota", "fcos", "?"), methods=("ota", "fcos")), some)
    a, b = (list(values(some, "d", name).values()) for name in ("ota", "fcos"))
    ours, theirs = found.found, paired_difference(a, b)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((theirs.mean, theirs.low, theirs.high))
    assert found.seeds == 6
    assert [found.alone.low, found.alone.high] == pytest.approx([ours.low, ours.high])  # two methods: no others to ask


def test_an_interval_by_its_pairs_alone_asks_no_other_method():
    some = noisy(1, 6, {"ota": 0.02, "fcos": 0, "atss": 0})
    (found,) = answers(plan_of(Contrast("ota", "fcos", "?")), some)
    theirs = paired_difference(*(list(values(some, "d", name).values()) for name in ("ota", "fcos")))
    assert [found.alone.low, found.alone.high] == pytest.approx([theirs.low, theirs.high])
    assert found.found != found.alone


def test_more_questions_need_wider_intervals():
    some = noisy(2, 5, {"ota": 0.02, "fcos": 0, "atss": 0})
    one = answers(plan_of(Contrast("ota", "fcos", "?")), some)
    two = answers(plan_of(Contrast("ota", "fcos", "?"), Contrast("ota", "atss", "?")), some)
    widths = [each[0].found.high - each[0].found.low for each in (one, two)]
    assert len(two) == 2 and widths[0] < widths[1] and one[0].found.mean == two[0].found.mean


@pytest.mark.parametrize("across", [False, True])
def test_intervals_hold_together_as_often_as_they_say(across):
    """Of 400 studies without any difference, about 5 % may claim one; twice that is refused at odds below 1e-4."""
    names = ("ota", "fcos", "atss", "paa")
    asked = [Contrast("ota", x, "?", across=("d", "e") if across else ()) for x in names[1:]]
    plan = plan_of(*asked, data=("d", "e") if across else ("d",), methods=names)
    wrong = 0
    for seed in range(400):
        some = noisy(seed, 4, dict.fromkeys(names, 0.0))
        some += noisy(1000 + seed, 4, dict.fromkeys(names, 0.0), spread=0.03, data="e") if across else []
        wrong += any(each.found.separated for each in answers(plan, some))
    assert 2 <= wrong <= 40


def test_a_difference_as_large_as_promised_is_seen_about_as_often():
    """`detectable` comes from the noise; a true difference of that size is told apart in about 80 % of the studies."""
    plan, error = plan_of(Contrast("ota", "fcos", "?")), 0.01 * (2 / 5) ** 0.5
    size = (stats.t.ppf(0.975, 8) + stats.t.ppf(0.8, 8)) * error  # with the true noise in place of its estimate
    free = [answers(plan, noisy(seed, 5, dict.fromkeys(plan.methods, 0.0)))[0] for seed in range(400)]
    assert np.mean([each.detectable for each in free]) == pytest.approx(size, rel=0.08)
    seen = [answers(plan, noisy(seed, 5, {"ota": size, "fcos": 0.0, "atss": 0.0}))[0] for seed in range(400, 800)]
    assert 0.72 < np.mean([each.found.low > 0 for each in seen]) < 0.88  # four standard errors
    assert {each.verdict for each in seen} == {"ota is ahead", "cannot be told"}


def test_whether_crowds_change_a_difference_is_a_difference_of_differences():
    some = cards({"far": {"ota": [0.3, 0.31, 0.32], "fcos": [0.3, 0.312, 0.32]}})
    some += cards({"heap": {"ota": [0.3, 0.31, 0.32], "fcos": [0.2, 0.21, 0.221]}})
    asked = Contrast("ota", "fcos", "?", across=("heap", "far"))
    (found,) = answers(plan_of(asked, data=("far", "heap"), methods=("ota", "fcos")), some)
    assert found.found.mean == pytest.approx(0.1, abs=0.002)
    assert found.verdict == "larger on heap" and found.data == "heap - far"


def test_without_two_seeds_there_is_no_answer():
    assert answers(plan_of(Contrast("ota", "fcos", "?")), cards({"d": {"ota": [0.1], "fcos": [0.2]}})) == []
    assert answers(plan_of(Contrast("ota", "fcos", "?")), []) == []


def test_a_number_of_a_class_can_be_asked_for():
    (one,) = (replace(card, metrics=card.metrics | {"AP/cat": 0.4}) for card in cards({"d": {"ota": [0.1]}}))
    assert values([one], "d", "ota", "metrics/AP/cat") == {0: 0.4}
    with pytest.raises(InputError, match="no number metrics/AP/dog"):
        one.value("metrics/AP/dog")
