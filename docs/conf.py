"""The book of the lessons: `make book`. Its source folder is the repository, so links that work there work here."""

import ast
import importlib.util
import inspect
import itertools
import json
import posixpath
import re
import shutil
import textwrap
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.parsers import Parser

from otalab.viz.style import PALETTE

ROOT = Path(__file__).parents[1]

project = "otalab"
html_title = "otalab"
copyright = "the authors of otalab"
root_doc = "docs/index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.linkcode", "sphinx.ext.mathjax", "sphinx_copybutton"]
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/**",
    "notebooks/*",
    "notebooks/solutions/*.py",
    "otalab/**.py",
    "benchmarks/README.md",
    "benchmarks/*.py",
]
exclude_patterns = ["docs/conf.py", "**/__pycache__", ".*", "**/.*", "build", "data", "runs"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".py": "source"}

MATHJAX = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax"
MATHJAX_PARTS = ["tex-chtml.js", "output/chtml/fonts", "input/tex/extensions"]  # a tenth of it: what formulas need
mathjax_path = "mathjax/tex-chtml.js"

nb_execution_mode = "off"  # the lessons are shown as they were executed and committed
nb_merge_streams = True
nb_ipywidgets_js = {}  # would come from the network: the picture beside a widget stands in for it
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": PALETTE[0], "color-brand-content": PALETTE[0]},
    "dark_css_variables": {"color-brand-primary": PALETTE[5], "color-brand-content": PALETTE[5]},
}
copybutton_prompt_text = ">>> "
copybutton_exclude = ".linenos, .gp, .go"

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # torch has docstrings of its own for what a module overrides
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
add_module_names = False

# Folders that prose points to, and the page that tells of them; None: the words stay, without a link.
ROOMS = ("transport", "assign", "detect", "data", "lab", "viz", "lessons")
FOLDERS = {f"otalab/{room}": f"docs/api/{room}" for room in ROOMS}
FOLDERS |= dict.fromkeys(("notebooks", "notebooks/solutions"), "notebooks/README")
FOLDERS |= {"otalab/adapters": "docs/adapters"}
FOLDERS |= {"benchmarks": "benchmarks/README", "docs": "docs/index", "otalab/cli": None, "tests": None, "data": None}


class SourceParser(Parser):
    """A Python file as a page: its text, with a target for each function and class."""

    supported = ("source",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        env = document.settings.env
        env.metadata[env.docname] |= {"orphan": True, "nosearch": True}
        lines = inputstring.rstrip().split("\n")
        starts = {0: None}
        for node in ast.parse(inputstring).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                starts[min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1] = node.name
        title = f"{env.docname}.py"
        page = nodes.section("", nodes.title("", "", nodes.literal("", title)), ids=["source"], names=[title])
        document += page
        for (start, name), end in zip(starts.items(), [*list(starts)[1:], len(lines)], strict=True):
            text = "\n".join(lines[start:end]).strip("\n")
            block = nodes.literal_block(text, text, language="python", classes=["source"])
            page += block if name is None else nodes.container("", block, ids=[name])


def linkcode_resolve(domain: str, info: dict) -> str | None:
    """Where a page of the API, which lies in docs/api, finds the source of an object; None if it has none."""
    found = importlib.import_module(info["module"])
    names = info["fullname"].split(".")
    for name in names:
        found = getattr(found, name, None)
        found = getattr(found, "func", getattr(found, "fget", None)) or found  # a property is what it calls
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(found))).relative_to(ROOT)
    except (TypeError, ValueError):
        return None
    home = getattr(found, "__qualname__", names[0]).split(".")[0]
    return f"../../{path.with_suffix('.html').as_posix()}#{home}"


def prepare_notebook(app, docname: str, source: list[str]) -> None:
    """Leave out the cell that installs otalab; give each picture its alternative text where myst-nb looks for it."""
    if not (ROOT / f"{docname}.ipynb").exists():
        return
    notebook = json.loads(source[0])
    notebook["cells"] = [cell for cell in notebook["cells"] if "setup" not in cell["metadata"].get("tags", [])]
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            for kind, shown in output.get("metadata", {}).items():
                if kind.startswith("image/") and "alt" in shown:
                    cell["metadata"]["mystnb"] = {"image": {"alt": shown["alt"]}}
    source[0] = json.dumps(notebook)


def link_folders(app, doctree: nodes.document) -> None:
    """A link to a folder leads to the page that tells of it."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(app.env.docname), node["reftarget"]))
        if node["reftype"] != "myst" or node["refdomain"] or target not in FOLDERS:
            continue
        if FOLDERS[target] is None:
            node.replace_self(node.children)
        else:
            node.attributes |= {"refdomain": "doc", "reftarget": FOLDERS[target], "reftargetid": None}


FIELD = re.compile(r"([a-z_*][\w*]*(?:, [\w*]+)*)(?::\s+|\s{2,})(\S.*)")


def as_rst(rows: list[str]) -> list[str]:
    """A docstring of this package, or a part of it, as reStructuredText."""
    blocks = re.split(r"\n\s*\n", "\n".join(rows).strip("\n"))
    if len(blocks) > 1:
        return [line for block in blocks for line in as_rst(block.split("\n"))]
    rows = blocks[0].split("\n")
    if rows[0].startswith(">>>"):
        return [*rows, ""]
    if re.match(r"(-|\d+\.) ", rows[0]):
        return [*map(inline, rows), ""]
    if is_python(rows) and "(" in blocks[0]:
        return [".. code-block:: python", "", *(f"   {row}" for row in rows), ""]
    indented = [row.startswith(" ") for row in rows]
    if FIELD.fullmatch(rows[0]):
        end = count(row or bool(FIELD.fullmatch(text)) for row, text in zip(indented, rows, strict=True))
        return fields(rows[:end]) + (as_rst(rows[end:]) if rows[end:] else [])
    prose = count(not row for row in indented)
    found = [*map(inline, rows[:prose]), ""]
    if prose == len(rows):
        return found
    end = prose + count(indented[prose:])
    inset = textwrap.dedent("\n".join(rows[prose:end])).split("\n")
    if FIELD.fullmatch(inset[0]):
        found += fields(inset)
    else:
        lexer = "python" if is_python(inset) else "none"
        found += [f".. code-block:: {lexer}", "", *(f"   {row}" for row in inset), ""]
    return found + (as_rst(rows[end:]) if rows[end:] else [])


def fields(rows: list[str]) -> list[str]:
    """A definition list: names, each with what it is and, if it is one of several words, a list of them."""
    found, inset = [], 0
    for row in rows:
        name, word = FIELD.fullmatch(row), re.fullmatch(r'\s+("[\w-]+")\s{2,}(.*)', row)
        if name:
            found += [f"``{name[1]}``", f"   {inline(name[2])}"]
            inset = 3
        elif word:
            found += ["", f"   - ``{word[1]}`` {inline(word[2])}"]
            inset = 5
        else:
            found.append(" " * inset + inline(row.strip()))
    return [*found, ""]


def count(flags) -> int:
    """How many are true before the first that is not."""
    return sum(1 for _ in itertools.takewhile(bool, flags))


def is_python(rows: list[str]) -> bool:
    try:
        ast.parse("\n".join(rows))
    except SyntaxError:
        return False
    return True


def inline(text: str) -> str:
    """A line of prose with nothing but `code` as mark-up; a name in backticks is a link where it has an entry."""
    parts = text.split("`")
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = re.sub(r"([\\*_|])", r"\\\1", part)
        elif i == len(parts) - 1:
            parts[i] = rf"\`{part}"  # without its partner
        else:
            role = ":py:obj:" if re.fullmatch(r"[A-Za-z_][\w.]*", part) else ""
            parts[i] = rf"\ {role}`{part}`\ " if role else rf"\ ``{part}``\ "
    return re.sub(r"^\\ |\\ $", "", "".join(parts))


def rewrite_docstring(app, what, name, thing, options, lines: list[str]) -> None:
    """Prose as it stands in the code is no reStructuredText; this is. Of constants, the names or values they hold."""
    if isinstance(thing, dict | tuple):
        lines[:] = [", ".join(f"``{value}``" for value in thing)]
    else:
        lines[:] = as_rst(lines)


def finish(app, exception) -> None:
    """Add what draws formulas, and an index.html that leads to the front page."""
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    for part in MATHJAX_PARTS:
        (out / "_static/mathjax" / part).parent.mkdir(parents=True, exist_ok=True)
        if (MATHJAX / part).is_dir():
            shutil.copytree(MATHJAX / part, out / "_static/mathjax" / part, dirs_exist_ok=True)
        else:
            shutil.copy(MATHJAX / part, out / "_static/mathjax" / part)
    page = app.builder.get_target_uri(root_doc)
    (out / "index.html").write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{project}</title>'
        f'<meta http-equiv="refresh" content="0; url={page}"><a href="{page}">{project}</a>\n'
    )


def setup(app) -> None:
    app.add_source_parser(SourceParser)
    app.connect("source-read", prepare_notebook, priority=100)
    app.connect("doctree-read", link_folders)
    app.connect("autodoc-process-docstring", rewrite_docstring)
    app.connect("build-finished", finish)
