"""A report as one HTML file: text, numbers, tables and figures, with nothing to fetch from anywhere."""

import base64
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from otalab.errors import InputError
from otalab.files import write_whole
from otalab.viz.save import as_png


@dataclass(frozen=True)
class Column:
    """A column of a table: the rows' key, its heading, a format specification and which value is best, if any.

    best: "min" or "max": that value, where it is shown, is set in bold
    """

    key: str
    heading: str | None = None
    format: str = ""
    best: str | None = None

    def __post_init__(self) -> None:
        if self.best not in (None, "min", "max"):
            raise InputError(f"best value of column {self.key!r} is {self.best!r}; it must be 'min', 'max' or None")


class Report:
    """A page that is built from top to bottom; each `add_...` returns the report.

    Report("Demo", "seed 0").add_section("Detector", "AP is 40.1.").add_figure(figure, caption, alt).write(path)
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.parts = [f"<header><h1>{escape(title)}</h1>{tag('p', subtitle)}</header>"]

    def add_section(self, title: str, finding: str = "") -> "Report":
        """A heading, and the paragraph that says what the section found."""
        self.parts.append(tag("h2", title) + tag("p", finding, "finding"))
        return self

    def add_text(self, text: str) -> "Report":
        """Plain text; an empty line begins a new paragraph."""
        self.parts += [tag("p", paragraph) for paragraph in re.split(r"\n\s*\n", text.strip())]
        return self

    def add_cards(self, cards: Sequence[tuple[str, str, str]]) -> "Report":
        """Headline numbers side by side: (label, value, remark) each; a remark may be empty."""
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
        highlight: Callable[[Mapping[str, object]], bool] | None = None,
    ) -> "Report":
        """Rows as a table; a string stands for `Column(string)`, no columns for all keys of the first row.

        Rows for which `highlight` is true are tinted. None and NaN are shown as a dash.
        """
        columns = list(rows[0] if rows else ()) if columns is None else columns
        columns = [Column(c) if isinstance(c, str) else c for c in columns]
        figures = [any(is_number(row.get(c.key)) for row in rows) for c in columns]
        heads = (
            f'<th scope="col"{" class=number" * number}>{escape(c.key if c.heading is None else c.heading)}</th>'
            for c, number in zip(columns, figures, strict=True)
        )
        best = [best_text(rows, column) for column in columns]
        body = []
        for row in rows:
            cells = []
            for i, (column, number) in enumerate(zip(columns, figures, strict=True)):
                text = show(row.get(column.key), column.format)
                text = f"<strong>{text}</strong>" if text == best[i] else text
                name, scope = ("th", ' scope="row"') if i == 0 else ("td", "")
                cells.append(f"<{name}{scope}{' class=number' * number}>{text}</{name}>")
            tinted = " class=highlight" if highlight is not None and highlight(row) else ""
            body.append(f"<tr{tinted}>{''.join(cells)}</tr>")
        head, rows = f"<thead><tr>{''.join(heads)}</tr></thead>", f"<tbody>{''.join(body)}</tbody>"
        self.parts.append(scroll(f"<table>{tag('caption', caption)}{head}{rows}</table>", caption or "table"))
        return self

    def add_figure(self, figure: Figure, caption: str, alt: str, dpi: int = 150) -> "Report":
        """A Matplotlib figure, embedded as PNG; `alt` says in words what it shows, for those who cannot see it."""
        if not alt.strip():
            raise InputError(f"the figure {caption!r} has no alternative text; say in a sentence what it shows")
        data = as_png(figure, dpi)
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))  # of the PNG's first chunk
        source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        image = f'<img src="{source}" alt="{escape(alt)}" width="{width}" height="{height}">'
        self.parts.append(f"<figure>{scroll(image, caption or 'figure')}{tag('figcaption', caption)}</figure>")
        return self

    def html(self) -> str:
        """The page."""
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        head += f"<title>{escape(self.title)}</title><style>{CSS}</style>"
        body = "\n".join(self.parts)
        return f'<!doctype html><html lang="en"><head>{head}</head><body><main>\n{body}\n</main></body></html>\n'

    def write(self, path: str | os.PathLike) -> Path:
        """Write the page whole and return its path. Raises InputError when it cannot be written."""
        with write_whole(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")
        return Path(path)


def tag(name: str, text: str, kind: str = "") -> str:
    """An element that holds escaped text; nothing for empty text."""
    kind = f' class="{kind}"' if kind else ""
    return f"<{name}{kind}>{escape(text)}</{name}>" if text else ""


def scroll(inner: str, name: str) -> str:
    """A region that narrow screens scroll, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">{inner}</div>'


def is_number(value: object) -> bool:
    """Whether a value is set as a figure: aligned right, compared for the best."""
    return hasattr(value, "__float__") and not isinstance(value, bool)


def show(value: object, format: str) -> str:
    """A cell's value as escaped HTML: a dash for None and NaN, 1.2e-09 as a power of ten."""
    if value is None or (is_number(value) and math.isnan(float(value))):
        return "–"
    if not is_number(value):
        return escape(str(value))
    text = "0" if value == 0 and format[-1:] in ("e", "g") else f"{value:{format}}"
    return powers(escape(text.replace("-", "−", 1) if text.startswith("-") else text))


def powers(text: str) -> str:
    """1.2e-09 as a power of ten."""
    return re.sub(r"(?<=\d)e([+-])0*(\d+)\b", lambda m: f"\u00a0×\u00a010<sup>{'−' * (m[1] == '-')}{m[2]}</sup>", text)


def best_text(rows: Sequence[Mapping[str, object]], column: Column) -> str | None:
    """The best value of a column as it is shown, so that values that look equal are equally good."""
    values = [row[column.key] for row in rows if is_number(row.get(column.key))]
    values = [value for value in values if not math.isnan(float(value))]
    if column.best is None or not values:
        return None
    return show(min(values) if column.best == "min" else max(values), column.format)


CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2129; --muted: #5c6370; --line: #e3e6ea; --soft: #f6f7f9;
  --accent: #0072b2; --tint: #e8f2f9 }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e6e8ec; --muted: #9aa3b0; --line: #2c323b;
  --soft: #1c2027; --accent: #56b4e9; --tint: #17303f } }
* { box-sizing: border-box } body { margin: 0; background: var(--paper); color: var(--ink); font: 1.0625rem/1.6
  system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100% }
main { max-width: 68rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem }
h1, h2 { line-height: 1.2; letter-spacing: -0.015em; text-wrap: balance; margin: 0 }
h1 { font-size: clamp(1.9rem, 5vw, 2.75rem); font-weight: 750 }
h2 { font-size: 1.5rem; font-weight: 700; margin-top: 4rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }
p { max-width: 44rem; margin: 0.75rem 0 0 } header p { color: var(--muted) } header p, .finding { font-size: 1.125rem }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem; margin: 2.25rem 0 0 }
.cards div { background: var(--soft); border: 1px solid var(--line); border-radius: 0.75rem; padding: 1.1rem 1.25rem;
  container-type: inline-size }
.cards dt { color: var(--muted); font-size: 0.875rem } .cards dd { margin: 0 }
.cards .value { font-size: clamp(1.05rem, 14.5cqi, 2rem); font-weight: 700; line-height: 1.35 }
.number { text-align: right; font-variant-numeric: tabular-nums lining-nums } strong { color: var(--accent) }
.cards .remark { color: var(--muted); font-size: 0.8125rem; line-height: 1.4; margin-top: 0.25rem }
.scroll { overflow-x: auto; margin-top: 1.75rem } .scroll:focus-visible { outline: 2px solid var(--accent) }
table { border-collapse: collapse; min-width: min(100%, 34rem); font-size: 0.9375rem; line-height: 1.45 }
caption { caption-side: bottom; text-align: left; padding-top: 0.75rem }
caption, figcaption { color: var(--muted); font-size: 0.875rem }
th, td { padding: 0.55rem 0.9rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap }
thead th { color: var(--muted); font-weight: 600; font-size: 0.8125rem; border-bottom: 2px solid var(--line);
  vertical-align: bottom; white-space: normal } tbody th { font-weight: 500 } sup { line-height: 0; font-size: 0.72em }
tbody tr:hover > * { background: var(--soft) } tbody .highlight > * { background: var(--tint) }
figure { margin: 1.75rem 0 0 } figure .scroll { margin: 0 } figcaption { max-width: 44rem; margin-top: 0.75rem }
img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 0.75rem; padding: clamp(0.4rem, 1.5vw, 1rem) }
@media (max-width: 40rem) { main { padding: 2rem 1rem 3rem } h2 { margin-top: 2.75rem } img { min-width: 42rem } }
@page { margin: 16mm } @media print { :root { --paper: #fff; --ink: #000; --muted: #444; --line: #ccc; --soft: #fff;
  --accent: #005a8c; --tint: #eef4f8; color-scheme: light } main { max-width: none; padding: 0 } h2 { margin-top: 2rem }
  body { font-size: 10pt } h2, .finding { break-after: avoid } figure, table, .cards div { break-inside: avoid }
  .scroll { overflow: visible } img { border: 0; padding: 0; min-width: 0 } }
""".strip()
