"""The book of the lessons: it builds without a warning, every link in it leads somewhere, and it needs no network."""

import fcntl
import importlib
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
ROOMS = ("transport", "assign", "detect", "data", "viz", "lessons")
LOADS = dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), "src")
LOADS |= {"object": "data", "link": "href", "image": "href", "use": "href"}
STYLE_LOADS = re.compile(r"""(?:@import\s+|url\()\s*["']?(?:url\(["']?)?([^"')\s;]+)""")
slow = pytest.mark.slow


class Page(HTMLParser):
    """What a page loads, what it links to, which places it has, and its pictures' alternative texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads, self.links, self.places, self.alts, self.styles = [], [], set(), [], False
        self.feed(text)

    def handle_starttag(self, tag: str, pairs: list) -> None:
        attributes = dict(pairs)
        self.places |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        self.styles = tag == "style"
        if tag in LOADS and attributes.get(LOADS[tag]):
            self.loads.append(attributes[LOADS[tag]])
        self.loads += [part.split()[0] for part in (attributes.get("srcset") or "").split(",") if part.strip()]
        self.loads += STYLE_LOADS.findall(attributes.get("style") or "")
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "img":
            self.alts.append(attributes.get("alt") or "")

    def handle_data(self, data: str) -> None:
        if self.styles:
            self.loads += STYLE_LOADS.findall(data)
            self.styles = False


@cache
def page(path: Path) -> Page:
    return Page(path.read_text())


def from_the_network(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https", "ftp")


def leads_nowhere(path: Path, address: str) -> bool:
    """Whether a link of the page at `path`, to a file beside it or to a place in one, has no target."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return False
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return True
    return bool(parts.fragment) and target.suffix == ".html" and unquote(parts.fragment) not in page(target).places


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/x.css">',
        '<img alt="" src="http://example/x.png">',
        "<style>@import 'https://example/x.css';</style>",
        '<style>p { background: url("https://example/x.png") }</style>',
        '<p style="background: url(https://example/x.png)"></p>',
    ],
)
def test_the_checker_sees_what_comes_from_the_network(text):
    assert any(map(from_the_network, Page(text).loads))


def test_the_checker_sees_links_that_lead_nowhere_and_leaves_others_alone(tmp_path):
    path = tmp_path / "page.html"
    path.write_text('<p id="here"></p><a href="https://example/">far away</a>')
    assert not any(map(from_the_network, page(path).loads)), "a hyperlink loads nothing"
    assert not any(leads_nowhere(path, link) for link in ("https://example/", "page.html#here", "#here", "page.html"))
    assert all(leads_nowhere(path, link) for link in ("none.html", "#nowhere", "page.html#nowhere", "."))


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """The book, built as `make book` builds it, apart from the place; processes side by side share it."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with (shared / "book.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return built(shared / "book")


def built(folder: Path) -> Path:
    """The folder of the pages."""
    if (folder / "html").exists():
        return folder / "html"
    (recipe,) = re.findall(r"\$\(RUN\) -m (sphinx .*)", (ROOT / "Makefile").read_text())
    recipe = recipe.replace("build/book-trees", str(folder / "trees")).replace("build/book", str(folder / "html"))
    said = subprocess.run([sys.executable, "-m", *recipe.split()], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return folder / "html"


@slow
def test_the_front_page_leads_to_all_lessons(book):
    (target,) = re.findall(r"url=([^\"]+)\"", (book / "index.html").read_text())
    front = page(book / target)
    for path in NOTEBOOKS:
        assert f"../notebooks/{path.stem}.html" in front.links
    assert sum("_images/" in address for address in front.loads) == 1 + len(NOTEBOOKS), "the hero and the gallery"


@slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_a_lesson_is_there_with_its_outputs_its_solution_and_words_for_its_pictures(book, path):
    text = (book / f"notebooks/{path.stem}.html").read_text()
    assert "%pip" not in text and "✗" in text
    assert f"solutions/{path.stem[:2]}.html" in page(book / f"notebooks/{path.stem}.html").links
    assert "verdict" in (book / f"notebooks/solutions/{path.stem[:2]}.html").read_text()
    assert re.search(r'<img alt="[^"]{30,}"', text)


@slow
def test_every_picture_has_an_alternative_text(book):
    without = [str(path.relative_to(book)) for path in book.rglob("*.html") if "" in page(path).alts]
    assert without == []


@slow
@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_has_all_public_names_of(book, room):
    places = page(book / f"docs/api/{room}.html").places
    assert {f"otalab.{room}.{name}" for name in importlib.import_module(f"otalab.{room}").__all__} <= places


@slow
def test_the_reference_reads_well(book):
    text = (book / "docs/api/transport.html").read_text()
    words = re.sub(r"<[^>]+>", "", text)
    assert "plan: Float[Tensor, " in words and "*batch m n" in words
    assert "`" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
    assert "../../otalab/transport/problem.html#TransportProblem" in page(book / "docs/api/transport.html").links


@slow
def test_every_local_link_leads_somewhere(book):
    pages = sorted(book.rglob("*.html"))
    assert len(pages) > 100
    wrong = {
        f"{path.relative_to(book)}: {address}"
        for path in pages
        for address in {*page(path).links, *page(path).loads}
        if leads_nowhere(path, address)
    }
    assert wrong == set()


@slow
def test_nothing_is_loaded_from_the_network(book):
    wrong = {f"{p.name}: {a}" for p in book.rglob("*.html") for a in page(p).loads if from_the_network(a)}
    styles = list(book.rglob("*.css"))
    wrong |= {f"{p.name}: {a}" for p in styles for a in STYLE_LOADS.findall(p.read_text()) if from_the_network(a)}
    assert wrong == set() and len(styles) > 2
    assert (book / "_static/mathjax/tex-chtml.js").exists(), "formulas are drawn by what comes with the book"
