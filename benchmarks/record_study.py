"""Gather the cards of the studies for lesson 11 and the pages: `python -m benchmarks.record_study`.

This writes the lesson's records from the plans and from the cards that `otalab study` left in results/. Then it
rewrites tables in README.md and docs/: all between `<!-- study NAME: means -->` (or `answers` or `course`), where NAME
is that of a plan, and `<!-- end of study -->`.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from otalab.files import write_json, write_whole
from otalab.lab.card import Card
from otalab.lab.contrasts import answers, values
from otalab.lab.plan import Plan, parse_plan
from otalab.lab.study import read_cards
from otalab.lessons import lesson11
from otalab.viz.study import methods_of
from otalab.viz.study_report import answer_rows

FOLDER = Path(__file__).parent
PAGES = [FOLDER.parent / page for page in ("README.md", "docs/results.md", "docs/assigners.md")]
RECORDS = {
    "shapes": lesson11.RECORD,
    "balanced": lesson11.BALANCED,
    "demo_anew": lesson11.DEMO,
    "classes": lesson11.CLASSES,
    "budget": lesson11.LONGER,
}
KEPT = ("data", "method", "seed", "source", "scenes", "metrics", "crowding", "size", "epochs", "seconds", "versions")
COLUMNS = {"AP": "AP", "AP50": "AP50"}  # columns of a table, and the metric of a card that each shows
OF_CELLS = {
    "small": "APs",
    "medium": "APm",
    "large": "APl",
    "platelets: AP": "AP/Platelets",
    "platelets: AP50": "AP50/Platelets",
}
CARDS = re.compile(r"^# otalab study .* --cards (\S+)", re.M)
BLOCK = re.compile(r"(?<=<!-- study )(\w+): (means|answers|course) -->\n.*?(?=<!-- end of study -->)", re.S)


def study(name: str) -> tuple[str, Plan, list[Card]]:
    """A plan's text, the plan, and its cards, from the folder that the command at the head of the plan names."""
    text = (FOLDER / "plans" / f"{name}.toml").read_text()
    plan = parse_plan(text)
    return text, plan, read_cards(plan, FOLDER.parent / CARDS.search(text)[1])


def record(name: str) -> dict:
    """The plan's text, and those fields of its cards that the lesson shows."""
    text, _, cards = study(name)
    return {"plan": text, "cards": [{key: card[key] for key in KEPT} for card in map(asdict, cards)]}


def table(name: str, kind: str) -> str:
    """A study's table of `means`, `answers` or `course`, in Markdown."""
    _, plan, cards = study(name)
    if kind == "means":
        return markdown(mean_lines(plan, cards))
    return markdown(answer_lines(plan, cards) if kind == "answers" else course_lines(cards))


def mean_lines(plan: Plan, cards: Sequence[Card]) -> list[dict]:
    """One row per method: means over the seeds, in percent."""
    columns = COLUMNS | (OF_CELLS if "cells" in plan.data else {})

    def mean(data: str, method: str, metric: str) -> str:
        return f"{100 * np.mean(list(values(cards, data, method, f'metrics/{metric}').values())):.1f}"

    return [
        {"method": f"`{method}`"}
        | {
            f"{column}, {data}" if len(plan.data) > 1 else column: mean(data, method, metric)
            for data in plan.data
            for column, metric in columns.items()
        }
        for method in methods_of(cards)
    ]


def course_lines(cards: Sequence[Card]) -> list[dict]:
    """One row per run: its first and last loss, its AP, and the time of a step relative to the first run's."""
    first = sum(cards[0].seconds.values())
    return [
        {
            "method": f"`{card.method}`",
            "mean loss, first to last epoch": f"{card.epochs[0]['loss']:.2f} to {card.epochs[-1]['loss']:.2f}",
            "AP": f"{100 * card.metrics['AP']:.1f}",
            "AP50": f"{100 * card.metrics['AP50']:.1f}",
            "a step's time": f"{sum(card.seconds.values()) / first:.1f}",
        }
        for card in cards
    ]


def answer_lines(plan: Plan, cards: Sequence[Card]) -> list[dict]:
    """One row per contrast and data set."""
    return [
        {"question": row["question"], "difference": f"`{row['a']}` - `{row['b']}`"}
        | {key: row[key] for key in ("on", "a - b", "interval", "by its pairs alone", "answer")}
        for row in answer_rows(answers(plan, cards))
    ]


def markdown(rows: Sequence[dict]) -> str:
    """Rows that share their keys, as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def filled(page: str) -> str:
    """The text of a page with its tables rewritten."""
    return BLOCK.sub(lambda block: f"{block[1]}: {block[2]} -->\n{table(block[1], block[2])}", page)


def main() -> int:
    """Write the lesson's records and the tables of the pages."""
    for name, path in RECORDS.items():
        write_json(path, made := record(name))
        print(f"{len(made['cards'])} cards -> {path}")
    for page in PAGES:
        text = filled(page.read_text())
        with write_whole(page) as temporary:
            temporary.write_text(text)
        print(f"{len(BLOCK.findall(text))} tables -> {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
