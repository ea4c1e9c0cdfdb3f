"""`otalab study`: train the runs of a plan, and print what they show."""

import argparse
from collections.abc import Sequence

from otalab.cli.compare_runs import table
from otalab.lab.card import Card
from otalab.lab.contrasts import answers
from otalab.lab.plan import Plan, read_plan
from otalab.lab.study import read_cards, run_plan
from otalab.viz.study_report import answer_rows, mean_rows, study_report, two_way_row, two_ways


def run(a: argparse.Namespace) -> None:
    plan, folder = read_plan(a.plan), a.cards or a.out / "cards"
    cards = read_cards(plan, folder) if a.report else run_plan(plan, a.out, a.processes, folder, a.hours)
    report = study_report(plan, cards)
    print(*summary(plan, cards), sep="\n")
    print(f"\n{len(cards)} of {len(plan.jobs())} runs have a card in {folder}")
    print(f"page     {report.write(a.out / 'report.html')}")


def summary(plan: Plan, cards: Sequence[Card]) -> list[str]:
    """Lines of text: means over the seeds, standard deviations, and the answers to the contrasts."""
    lines = ["Means over the seeds, in %", *table(mean_rows(plan, cards), digits=1)]
    if both := two_ways(plan, cards):
        lines += ["", "Standard deviations in points of AP", *table([two_way_row(each) for each in both])]
    if found := answers(plan, cards):
        kept = ("a", "b", "on", "a - b", "interval", "answer", "would have seen")
        rows = [{key: row[key] for key in kept} for row in answer_rows(found)]
        lines += ["", f"Differences in points of AP; all intervals hold together with {100 * plan.level:.0f} %"]
        lines += table(rows)
    return lines
