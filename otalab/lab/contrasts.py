"""The statistics of a study's cards: means, the spread due to chance, and the plan's contrasts with joint intervals.

The model is AP = effect of the method + effect of the seed + rest. A difference of two methods is judged by the size of
the rest, which all methods of a data set estimate together. Five seeds of six methods give 20 degrees of freedom, where
a pair alone has 4. The model assumes that the rest has the same variance for all methods. To show where it does not,
each answer also has an interval from the spread of its own pairs alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from otalab.errors import InputError
from otalab.lab.card import Card
from otalab.lab.plan import Contrast, Plan

POWER = 0.8  # the probability of detection for which `Answer.detectable` is computed


@dataclass(frozen=True)
class Difference:
    """A mean difference and its confidence interval, in the unit of the values compared."""

    mean: float
    low: float
    high: float

    @property
    def separated(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class TwoWay:
    """How much seeds and methods move the values of one data set: a table, one row per seed and one column per method.

    seed, method: standard deviations of the means of the seeds and of the means of the methods
    rest:         standard deviation of what is left of a value without the effects of its seed and its method
    freedom:      degrees of freedom of the rest
    """

    data: str
    seeds: int
    methods: int
    seed: float
    method: float
    rest: float
    freedom: int


@dataclass(frozen=True)
class Answer:
    """The answer to a contrast on one data set, or across two.

    found:      mean difference, with an interval that holds jointly with those of all other answers
    alone:      the same mean; its interval comes from the spread of these pairs alone, not from the rest of all methods
    detectable: the true difference that these seeds would have told from 0 with a probability of 80 %
    seeds:      number of seeds; across two data sets, the smaller number
    """

    contrast: Contrast
    data: str
    found: Difference
    alone: Difference
    detectable: float
    seeds: int

    @property
    def ahead(self) -> tuple[str, str]:
        """The two methods, with the one of higher mean first."""
        pair = (self.contrast.a, self.contrast.b)
        return pair if self.found.mean > 0 else pair[::-1]

    @property
    def verdict(self) -> str:
        """The answer in words. "Cannot be told" does not mean "equal"."""
        if not self.found.separated:
            return "cannot be told"
        across = self.contrast.across
        return f"larger on {across[self.found.mean < 0]}" if across else f"{self.ahead[0]} is ahead"


def values(cards: Sequence[Card], data: str, method: str, what: str = "metrics/AP") -> dict[int, float]:
    """One number of each of a method's cards on a data set, by seed. Raises InputError if there is no card."""
    found = {card.seed: card.value(what) for card in cards if (card.data, card.method) == (data, method)}
    if not found:
        raise InputError(f"no card of {method!r} on {data!r}")
    return found


def table(cards: Sequence[Card], data: str, what: str = "metrics/AP") -> tuple[list[str], Float[np.ndarray, "s m"]]:
    """The methods of a data set, and a number of each card: one row per seed for which all methods have a card."""
    methods = list(dict.fromkeys(card.method for card in cards if card.data == data))
    each = [values(cards, data, method, what) for method in methods]
    seeds = sorted(set.intersection(*map(set, each))) if each else []
    return methods, np.array([[of[seed] for of in each] for seed in seeds]).reshape(len(seeds), len(methods))


def two_way(cards: Sequence[Card], data: str, what: str = "metrics/AP") -> TwoWay:
    """Separate the effects of seed, method and rest. Raises InputError for fewer than two seeds or methods."""
    methods, x = table(cards, data, what)
    s, m = x.shape
    if s < 2 or m < 2:
        raise InputError(f"{data}: a two-way table needs two seeds and two methods at least, not {s} and {m}")
    rest = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
    freedom = (s - 1) * (m - 1)
    spread = (x.mean(axis=1).std(ddof=1), x.mean(axis=0).std(ddof=1), np.sqrt((rest**2).sum() / freedom))
    return TwoWay(data, s, len(methods), *map(float, spread), freedom)


def answers(plan: Plan, cards: Sequence[Card], what: str = "metrics/AP") -> list[Answer]:
    """Answer all contrasts of the plan on all their data sets, where two seeds or more have the cards of all methods.

    Each interval is Student's, with the rest of the two-way table as standard deviation. The plan's error rate (5 %) is
    shared equally among all intervals, so that by Bonferroni's inequality they hold together at `plan.level`. The rests
    of two data sets may differ, so a contrast across two has Satterthwaite's degrees of freedom.
    """
    asked = [(contrast, data) for contrast in plan.contrasts for data in asked_of(plan, contrast)]
    level = 1 - (1 - plan.level) / max(1, len(asked))
    found = (answer(contrast, data, cards, what, level) for contrast, data in asked)
    return [each for each in found if each is not None]


def asked_of(plan: Plan, contrast: Contrast) -> list[tuple[str, ...]]:
    """The data sets on which a contrast is asked, one at a time; or the one pair that it compares."""
    return [contrast.across] if contrast.across else [(name,) for name in contrast.data or plan.data]


def answer(contrast: Contrast, data: tuple[str, ...], cards: Sequence[Card], what: str, level: float) -> Answer | None:
    """Answer one contrast with an interval of that level; None if there are too few cards."""
    means, rests, pairs, seeds = [], [], [], []
    for name in data:
        methods, x = table(cards, name, what)
        if len(x) < 2 or not {contrast.a, contrast.b} <= set(methods):
            return None
        d, of_all = x[:, methods.index(contrast.a)] - x[:, methods.index(contrast.b)], two_way(cards, name, what)
        means.append(d.mean())
        rests.append((2 * of_all.rest**2 / len(d), of_all.freedom))
        pairs.append((d.var(ddof=1) / len(d), len(d) - 1))
        seeds.append(len(d))
    mean = float(means[0] - sum(means[1:]))
    found, detectable = judged(mean, rests, level)
    return Answer(contrast, " - ".join(data), found, judged(mean, pairs, level)[0], detectable, min(seeds))


def judged(mean: float, parts: Sequence[tuple[float, int]], level: float) -> tuple[Difference, float]:
    """The interval of a mean, and the detectable difference.

    parts: (variance, degrees of freedom) of each term of the mean; its variance is the sum of these variances
    """
    variance = sum(variance for variance, _ in parts)
    freedom = variance**2 / max(sum(variance**2 / freedom for variance, freedom in parts), 1e-300)
    error, critical = float(np.sqrt(variance)), float(stats.t.ppf((1 + level) / 2, max(freedom, 1)))
    detectable = (critical + float(stats.t.ppf(POWER, max(freedom, 1)))) * error
    return Difference(mean, mean - critical * error, mean + critical * error), detectable


def interval(sample: Sequence[float] | np.ndarray, level: float = 0.95) -> Difference:
    """The mean of independent values and its Student's t confidence interval. Raises InputError for fewer than two."""
    if len(sample) < 2:
        raise InputError(f"an interval needs at least two values, got {len(sample)}")
    variance = float(np.var(sample, ddof=1)) / len(sample)
    return judged(float(np.mean(sample)), [(variance, len(sample) - 1)], level)[0]


def paired_difference(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, level: float = 0.95
) -> Difference:
    """Mean and interval of the differences a - b of paired values (of equal seeds), from these pairs alone.

    A seed's effect on both values cancels, so the interval is often narrower than those of `a` and `b`. Raises
    InputError for unequal numbers of values, and for fewer than two.
    """
    if len(a) != len(b):
        raise InputError(f"pairs need equal numbers of values, got {len(a)} and {len(b)}")
    return interval(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), level)
