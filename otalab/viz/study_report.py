"""The page of a study: the answers to its contrasts, its runs, and figures that may explain the answers."""

from collections.abc import Sequence

import numpy as np

from otalab.errors import InputError
from otalab.lab.card import Card
from otalab.lab.contrasts import Answer, TwoWay, answers, table, two_way
from otalab.lab.plan import Plan
from otalab.viz.report import Column, Report
from otalab.viz.study import answers_figure, bins_figure, by_method, epochs_figure, points, study_figure
from otalab.viz.style import plural

SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def study_report(plan: Plan, cards: Sequence[Card]) -> Report:
    """Build the page. Raises InputError if there is no card."""
    if not cards:
        raise InputError(f"the study {plan.title!r} has no card yet")
    found, asked = answers(plan, cards), len(plan.jobs())
    report = Report(plan.title, f"{len(cards)} of {plural(asked, 'run')}, {', '.join(plan.data)}")
    hours = sum(sum(card.seconds.values()) for card in cards) / 3600
    told = sum(each.found.separated for each in found)
    report.add_cards(
        [
            ("runs", f"{len(cards)}", f"of {asked}, {hours:.1f} h of training"),
            ("contrasts", f"{len(found)}", f"declared before the first run; {told} told apart"),
        ]
    )
    if found:
        add_answers(report, plan, found)
    add_runs(report, plan, cards)
    add_explanations(report, plan, cards)
    return report


def add_answers(report: Report, plan: Plan, found: Sequence[Answer]) -> None:
    """Add the contrasts as a figure and as a table."""
    report.add_section(
        "Answers",
        f"All intervals hold together with {100 * plan.level:.0f} %. A hollow dot cannot be told from 0, which is not "
        "the same as 0: the interval says how large the difference may still be. Luck is taken to be as large for one "
        "method as for another; an interval by its pairs alone goes without that.",
    )
    text = "A row a contrast: mean difference of AP and its interval."
    report.add_figure(answers_figure(found, "Differences that were asked for"), text, text)
    report.add_table(answer_rows(found), None, "Differences of AP in points")


def answer_rows(found: Sequence[Answer]) -> list[dict]:
    """The table rows of the answers, in points of AP."""
    return [
        {
            "question": each.contrast.question,
            "a": each.contrast.a,
            "b": each.contrast.b,
            "on": each.data,
            "a - b": points(each.found.mean),
            "interval": f"{points(each.found.low)} to {points(each.found.high)}",
            "answer": each.verdict,
            "the paper": each.contrast.paper,
            "seeds": each.seeds,
            "by its pairs alone": f"{points(each.alone.low)} to {points(each.alone.high)}",
            "would have seen": f"{100 * each.detectable:.1f}",
        }
        for each in found
    ]


def add_runs(report: Report, plan: Plan, cards: Sequence[Card]) -> None:
    """Add the AP of every run, the means by method, and how much of the spread is due to method, seed and the rest."""
    report.add_section("Runs", "A dot is a run, a stroke the mean, a pale bar its interval, for that row alone.")
    text = "AP of every run, a row a method, a column a data set."
    report.add_figure(study_figure(plan, cards, "AP of every run"), text, text)
    means = mean_rows(plan, cards)
    columns = ["data", "method", "seeds", *(Column(key, format=".1f") for key in SHOWN if key in means[0])]
    report.add_table(means, columns, "Means over the seeds, in %")
    rows = [two_way_row(each) for each in two_ways(plan, cards)]
    if rows:
        caption = "How far values lie apart because of the method, of the seed, and for no reason: sd in points of AP"
        report.add_table(rows, None, caption)


def mean_rows(plan: Plan, cards: Sequence[Card]) -> list[dict]:
    """A table row for each data set and method: means over the seeds, in percent.

    Metrics that no card has a value for are left out.
    """
    measured = [key for key in SHOWN if not all(np.isnan(card.metrics[key]) for card in cards)]
    rows = []
    for data in plan.data:
        for _, method, own in by_method(cards, data):
            means = {key: 100 * float(np.mean([card.metrics[key] for card in own])) for key in measured}
            rows.append({"data": data, "method": method, "seeds": len(own)} | means)
    return rows


def two_ways(plan: Plan, cards: Sequence[Card]) -> list[TwoWay]:
    """The two-way tables of the data sets that have at least two seeds and two methods."""
    return [two_way(cards, data) for data in plan.data if min(table(cards, data)[1].shape) > 1]


def two_way_row(of: TwoWay) -> dict:
    """The table row of a two-way table, in points of AP."""
    spreads = {name: f"{100 * getattr(of, name):.1f}" for name in ("method", "seed", "rest")}
    return {"data": of.data, "seeds": of.seeds, "methods": of.methods} | spreads | {"degrees of freedom": of.freedom}


def add_explanations(report: Report, plan: Plan, cards: Sequence[Card]) -> None:
    """Add AP by crowding and by size, and the course of loss and labels over the epochs."""
    report.add_section("Crowds and sizes", "Compare methods within a bin, not bins: few gts make a low AP.")
    for kind in ("crowding", "size"):
        text = f"AP of each method over the {kind} of the gts."
        report.add_figure(bins_figure(plan, cards, kind, f"AP over {kind}"), text, text)
    report.add_section("Labels while training", "Means over the seeds; labels changed are those of 64 training images.")
    for data in plan.data:
        if any(card.data == data for card in cards):
            text = f"Loss, positives per gt, gts left empty and labels changed by epoch, on {data}."
            report.add_figure(epochs_figure(cards, data, f"Labels on {data}"), text, text)
