import base64
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from otalab.errors import InputError
from otalab.viz.report import Column, Report, show

VOID = {"meta", "img", "br"}
NASTY = "<script>alert('x')</script> & \"quoted\""


class Page(HTMLParser):
    """A page's elements, its text, and whether its tags are balanced."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def named(self, name):
        return [attributes for element, attributes in self.elements if element == name]

    @property
    def text(self):
        return " ".join(self.words)


def figure():
    made = Figure(figsize=(2, 1))
    made.subplots().plot([1, 2])
    return made


def full_report():
    rows = [{"method": "linprog", "gap": 1.2e-13}, {"method": NASTY, "gap": 3.0}]
    return (
        Report(NASTY, "seed 0")
        .add_cards([("AP", "40.1", "at last"), ("gap", "1.2e-13", "")])
        .add_section(NASTY, NASTY)
        .add_table(rows, [Column("method"), Column("gap", NASTY, ".1e", min)], NASTY, lambda row: row["gap"] > 1)
        .add_figure(figure(), NASTY, NASTY)
    )


def test_the_page_loads_nothing_from_elsewhere():
    html = full_report().html()
    page = Page(html)
    for name, attributes in page.elements:
        assert name not in ("script", "link", "iframe", "object", "base")
        for key in ("src", "href", "srcset", "action"):
            assert attributes.get(key, "data:").startswith("data:")
        assert not any(key.startswith("on") for key in attributes)
    assert not re.search(r"https?:|url\(|@import", html)


def test_every_image_is_embedded_whole_with_its_size_and_words():
    images = Page(full_report().html()).named("img")
    assert len(images) == 1
    kind, data = images[0]["src"].split(",")
    assert kind == "data:image/png;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    picture.load()
    assert picture.size == (300, 150) == (int(images[0]["width"]), int(images[0]["height"]))
    assert images[0]["alt"] == NASTY


def test_text_is_escaped_everywhere():
    html = full_report().html()
    assert "<script" not in html
    page = Page(html)
    assert page.text.count(NASTY) == 8  # title and h1, section, finding, heading, row, two captions
    assert page.named("div")[-1]["aria-label"] == NASTY


def test_sections_and_cards_appear_in_order():
    text = Page(Report("T").add_section("S", "found").add_cards([("AP", "40", "ok")]).html()).text
    places = [text.index(word) for word in ("T", "S", "found", "AP", "40", "ok")]
    assert places == sorted(places)


def test_numbers_are_formatted_aligned_and_the_best_is_bold():
    rows = [{"m": "a", "t": 1.234, "e": 0.0}, {"m": "b", "t": 1.231, "e": 2e-9}, {"m": "c", "t": 5.0, "e": math.nan}]
    html = Report("T").add_table(rows, ["m", Column("t", "time", ".2f", min), Column("e", "error", ".1e")]).html()
    assert html.count("<strong>1.23</strong>") == 2  # equal as shown, so both are best
    assert html.count("<strong>") == 2
    assert "<td class=number>2.0\u00a0×\u00a010<sup>−9</sup></td>" in html
    assert "<td class=number>0</td>" in html and "<td class=number>–</td>" in html
    assert '<th scope="row">a</th>' in html


def test_rows_are_highlighted_on_request():
    html = Report("T").add_table([{"m": "a"}, {"m": "b"}], highlight=lambda row: row["m"] == "b").html()
    assert '<tr><th scope="row">a' in html and '<tr class=highlight><th scope="row">b' in html


@pytest.mark.parametrize(
    ("value", "format", "text"),
    [
        (None, "", "–"),
        (math.nan, ".2f", "–"),
        (True, "", "True"),
        (-1.5, ".1f", "−1.5"),
        (np.float32(0.25), ".2f", "0.25"),
        (1234, ",d", "1,234"),
        (1e20, ".0e", "1\u00a0×\u00a010<sup>20</sup>"),
        ("1e-5 a", "", "1e-5 a"),
        ("a<b", "", "a&lt;b"),
    ],
)
def test_values_are_shown_as_a_reader_writes_them(value, format, text):
    assert show(value, format) == text


def test_an_empty_table_is_a_table():
    page = Page(Report("T").add_table([], ["a"]).html())
    assert len(page.named("table")) == 1 and len(page.named("th")) == 1
    Page(Report("T").add_table([]).html())


def test_a_figure_without_words_is_refused():
    with pytest.raises(InputError, match="alternative text"):
        Report("T").add_figure(figure(), "caption", " ")


def test_light_dark_narrow_and_print_have_their_rules():
    html = full_report().html()
    assert "prefers-color-scheme: dark" in html and "@media print" in html and "max-width: 40rem" in html
    page = Page(html)
    assert any(meta.get("name") == "viewport" for meta in page.named("meta"))
    assert page.named("html")[0]["lang"] == "en"


def test_the_page_is_the_same_each_time(tmp_path):
    assert full_report().html() == full_report().html()


def test_the_page_is_written_whole(tmp_path, monkeypatch):
    path = full_report().write(tmp_path / "runs" / "report.html")
    assert path.read_text(encoding="utf-8") == full_report().html()
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]

    def full_disk(self, *args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full_disk)
    with pytest.raises(InputError, match=r"report\.html: No space left"):
        Report("other").write(path)
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == full_report().html()
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
