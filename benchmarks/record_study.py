"""Gather the cards of the study of drawn scenes for lesson 11: `python -m benchmarks.record_study`.

Writes otalab/lessons/recorded/study.json from benchmarks/results/shapes, where `otalab study` left the cards.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from otalab.files import write_json
from otalab.lab.plan import parse_plan
from otalab.lab.study import read_cards
from otalab.lessons import lesson11

PLAN = Path(__file__).parent / "plans" / "shapes.toml"
CARDS = Path(__file__).parent / "results" / "shapes"
KEPT = ("data", "method", "seed", "scenes", "metrics", "crowding", "size", "epochs", "seconds", "versions")


def record() -> dict:
    """The plan's text, and of its cards what the lesson shows."""
    text = PLAN.read_text()
    cards = [asdict(card) for card in read_cards(parse_plan(text), CARDS)]
    return {"plan": text, "cards": [{name: card[name] for name in KEPT} for card in cards]}


def main() -> int:
    """Write the record."""
    made = record()
    write_json(lesson11.RECORD, made)
    print(f"{len(made['cards'])} cards -> {lesson11.RECORD}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
