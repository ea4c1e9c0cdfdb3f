"""Every link to a word or a formula leads to it, and every word names a lesson that there is."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
PAGES = [*LESSONS, *sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def anchors(text: str) -> list[str]:
    """The anchors of a page's third-level headings, as GitHub and the book make them."""
    return [
        heading.strip().lower().replace(" ", "-") for heading in re.findall(r"^### (.*)$", text, flags=re.MULTILINE)
    ]


def prose(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text()
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


def test_no_word_stands_twice():
    words = anchors(GLOSSARY)
    assert len(words) == len(set(words)) > 50


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_to_words_lead_to_them(path):
    linked = re.findall(r"glossary\.md#([\w-]+)", prose(path))
    assert set(linked) <= set(anchors(GLOSSARY))


def test_the_lessons_named_are_there():
    named = set(re.findall(r"\b(\d\d)\b", " ".join(re.findall(r"\(Lessons? [^)]*\)", GLOSSARY))))
    assert named <= {path.stem[:2] for path in LESSONS}
