"""A report as one self-contained HTML file: text, numbers, tables and figures."""

import base64
import io
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

import PIL.Image
from matplotlib.figure import Figure

from otalab.errors import InputError
from otalab.files import write_whole
from otalab.viz.output import as_png

PAGE = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    key:     key of its values in the rows
    heading: heading of the column, `key` if None
    format:  format specification of its numbers
    best:    `min`, `max` or None; cells that show the best value are bold
    """

    key: str
    heading: str | None = None
    format: str = ""
    best: Callable | None = None


class Report:
    """A page that is built from top to bottom. Each `add_...` method returns the report, so calls can be chained.

    Report("Demo", "seed 0").add_section("Detector", "AP is 40.1.").add_figure(figure, caption, alt).write(path)
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.parts = [f"<header><h1>{escape(title)}</h1>{tag('p', subtitle)}</header>"]

    def add_section(self, title: str, finding: str = "") -> "Report":
        """Add a heading and, if given, a paragraph that says what the section finds."""
        self.parts.append(tag("h2", title) + tag("p", finding, "finding"))
        return self

    def add_cards(self, cards: Sequence[tuple[str, str, str]]) -> "Report":
        """Add headline numbers side by side, each as (label, value, remark). A remark may be empty."""
        each = (
            f'<div>{tag("dt", label)}<dd class="value">{powers(escape(value))}</dd>{tag("dd", remark, "remark")}</div>'
            for label, value, remark in cards
        )
        self.parts.append(f'<dl class="cards">{"".join(each)}</dl>')
        return self

    def add_table(
        self,
        rows: Sequence[Mapping[str, object]],
        columns: Sequence[Column | str] | None = None,
        caption: str = "",
        highlight: Callable[[Mapping[str, object]], bool] = lambda row: False,
    ) -> "Report":
        """Add rows as a table. None and NaN are shown as a dash.

        columns:   a string stands for `Column(string)`; without columns, the keys of the first row are used
        highlight: rows for which it returns True are tinted
        """
        columns = list(rows[0] if rows else ()) if columns is None else columns
        columns = [Column(c) if isinstance(c, str) else c for c in columns]
        kinds = [" class=number" * any(is_number(row.get(c.key)) for row in rows) for c in columns]
        heads = [
            f'<th scope="col"{kind}>{escape(c.key if c.heading is None else c.heading)}</th>'
            for c, kind in zip(columns, kinds, strict=True)
        ]
        best = [best_text(rows, column) for column in columns]
        body = []
        for row in rows:
            body.append(f"<tr{' class=highlight' * bool(highlight(row))}>")
            for i, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
                text = show(row.get(column.key), column.format)
                text = f"<strong>{text}</strong>" if text == best[i] else text
                body.append(f"<td{kind}>{text}</td>" if i else f'<th scope="row"{kind}>{text}</th>')
            body.append("</tr>")
        table = f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(body)}</tbody>"
        self.parts.append(scroll(f"<table>{tag('caption', caption)}{table}</table>", caption or "table"))
        return self

    def add_figure(self, figure: Figure, caption: str, alt: str, dpi: int = 150) -> "Report":
        """Add a Matplotlib figure, embedded as PNG.

        `alt` says in words what it shows, for readers who cannot see it. Raises InputError if it is empty.
        """
        if not alt.strip():
            raise InputError(f"the figure {caption!r} has no alternative text; say in a sentence what it shows")
        data = as_png(figure, dpi)
        width, height = PIL.Image.open(io.BytesIO(data)).size
        source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        image = f'<img src="{source}" alt="{escape(alt)}" width="{width}" height="{height}">'
        self.parts.append(f"<figure>{scroll(image, caption or 'figure')}{tag('figcaption', caption)}</figure>")
        return self

    def html(self) -> str:
        """The page as HTML."""
        return PAGE.substitute(title=escape(self.title), body="\n".join(self.parts))

    def write(self, path: str | os.PathLike) -> Path:
        """Write the page whole, or not at all, and return its path. Raises InputError if it cannot be written."""
        with write_whole(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")
        return Path(path)


def tag(name: str, text: str, kind: str = "") -> str:
    """An HTML element that holds the escaped text; an empty string if the text is empty."""
    kind = f' class="{kind}"' if kind else ""
    return f"<{name}{kind}>{escape(text)}</{name}>" if text else ""


def scroll(inner: str, name: str) -> str:
    """Wrap HTML in a region that can be scrolled on narrow screens, by keyboard too; `name` is its label."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">{inner}</div>'


def is_number(value: object) -> bool:
    """Whether a value is a number, so that its column is aligned right and its best value is marked."""
    return hasattr(value, "__float__") and not isinstance(value, bool)


def show(value: object, format: str) -> str:
    """Format a cell's value as escaped HTML: a dash for None and NaN, 1.2e-09 as a power of ten."""
    if value is None or (is_number(value) and math.isnan(float(value))):
        return "–"
    if not is_number(value):
        return escape(str(value))
    text = "0" if value == 0 and format[-1:] in ("e", "g") else f"{value:{format}}"
    return powers(escape(re.sub("^-", "−", text)))


def powers(text: str) -> str:
    """Write numbers such as 1.2e-09 as powers of ten."""
    return re.sub(r"(?<=\d)e([+-])0*(\d+)\b", lambda m: f"\u00a0×\u00a010<sup>{'−' * (m[1] == '-')}{m[2]}</sup>", text)


def best_text(rows: Sequence[Mapping[str, object]], column: Column) -> str | None:
    """The best value of a column, as it is shown, so that all cells that look like it are marked; None if none."""
    values = [row[column.key] for row in rows if is_number(row.get(column.key))]
    values = [value for value in values if not math.isnan(float(value))]
    return show(column.best(values), column.format) if column.best and values else None
