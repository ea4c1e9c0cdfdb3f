"""Gather the cards of the study of drawn scenes for lesson 11 and README.md: `python -m benchmarks.record_study`.

Writes otalab/lessons/recorded/study.json, and the tables in README.md, from benchmarks/results/shapes, where
`otalab study` left the cards.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from otalab.files import write_json, write_whole
from otalab.lab.contrasts import answers
from otalab.lab.plan import parse_plan
from otalab.lab.study import read_cards
from otalab.lessons import lesson11
from otalab.viz.study_report import answer_rows, mean_rows

FOLDER = Path(__file__).parent
PLAN, CARDS, README = FOLDER / "plans" / "shapes.toml", FOLDER / "results" / "shapes", FOLDER.parent / "README.md"
KEPT = ("data", "method", "seed", "source", "scenes", "metrics", "crowding", "size", "epochs", "seconds", "versions")
BLOCK = re.compile(
    "(?<=<!-- study: written by `python -m benchmarks.record_study` -->\n).*?(?=<!-- end of study)", re.S
)


def record() -> dict:
    """The plan's text, and of its cards what the lesson shows."""
    text = PLAN.read_text()
    cards = [asdict(card) for card in read_cards(parse_plan(text), CARDS)]
    return {"plan": text, "cards": [{name: card[name] for name in KEPT} for card in cards]}


def tables() -> str:
    """Means by method, and the answers, in Markdown."""
    plan = parse_plan(PLAN.read_text())
    cards = read_cards(plan, CARDS)
    means = {(row["data"], row["method"]): row for row in mean_rows(plan, cards)}
    rows = [
        {"assigner": f"`{method}`"}
        | {f"{name}, {data}": f"{means[data, method][name]:.1f}" for data in plan.data for name in ("AP", "AP50")}
        for method in plan.methods
    ]
    asked = [
        {"question": row["question"], "difference": f"`{row['a']}` - `{row['b']}`"}
        | {key: row[key] for key in ("on", "a - b", "interval", "answer")}
        for row in answer_rows(answers(plan, cards))
    ]
    return f"{markdown(rows)}\n{markdown(asked)}"


def markdown(rows: Sequence[dict]) -> str:
    """Rows of one set of keys as a table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def main() -> int:
    """Write the record and the tables."""
    made = record()
    write_json(lesson11.RECORD, made)
    with write_whole(README) as temporary:
        temporary.write_text(BLOCK.sub(lambda _: tables(), README.read_text()))
    print(f"{len(made['cards'])} cards -> {lesson11.RECORD} and {README}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
