"""The gallery of README.md: `python -m notebooks.gallery` writes docs/gallery/NN.png from the executed notebooks.

In each notebook, one cell is tagged `gallery` and shows the picture. Its alternative text is copied to the place in
README.md that shows the thumbnail.
"""

import argparse
import base64
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import PIL.Image

from otalab.errors import InputError
from otalab.files import write_whole
from otalab.viz.output import few_colours
from otalab.viz.style import PAPER, plural

SIZE = 480, 256  # of a thumbnail, px
KINDS = "image/png", "image/gif"


def picture(path: Path) -> tuple[bytes, str]:
    """The gallery picture of the notebook at `path`: a PNG or GIF, and its alternative text.

    Raises InputError unless exactly one cell is tagged `gallery`, and it shows exactly one image with alternative text.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if "gallery" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise InputError(f"{path}: {len(cells)} cells are tagged `gallery`; it should be one")
    outputs = cells[0].get("outputs", [])
    shown = [(output, kind) for output in outputs for kind in KINDS if kind in output.get("data", {})]
    if len(shown) != 1:
        raise InputError(f"{path}: the cell tagged `gallery` shows {len(shown)} images; it should be one")
    output, kind = shown[0]
    alt = output.metadata.get(kind, {}).get("alt", "")
    if not alt:
        raise InputError(f"{path}: the image of the cell tagged `gallery` has no alternative text")
    return base64.b64decode(output.data[kind]), alt


def thumbnail(content: bytes) -> bytes:
    """Scale an image, or the last frame of an animation, to fit into a white card of SIZE, and encode it as a PNG."""
    image = PIL.Image.open(io.BytesIO(content))
    image.seek(getattr(image, "n_frames", 1) - 1)
    image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, PAPER), image.convert("RGBA")).convert("RGB")
    scale = min(most / side for most, side in zip(SIZE, image.size, strict=True))
    image = image.resize([max(1, round(scale * side)) for side in image.size], PIL.Image.Resampling.LANCZOS)
    card = PIL.Image.new("RGB", SIZE, PAPER)
    card.paste(image, tuple((whole - part) // 2 for whole, part in zip(SIZE, image.size, strict=True)))
    return few_colours(card)


def described(text: str, name: str, alt: str) -> str:
    """The Markdown `text` with the alternative text of the picture `name` replaced by `alt`."""
    return re.sub(rf"!\[[^\]]*\]\(({re.escape(name)})\)", lambda found: f"![{alt}]({found[1]})", text)


def main(argv: Sequence[str] | None = None) -> int:
    """Write all thumbnails and alternative texts. Returns 1 and writes nothing if a notebook lacks its picture."""
    flags = argparse.ArgumentParser(prog="python -m notebooks.gallery", description=__doc__.splitlines()[0])
    flags.add_argument("--root", type=Path, default=Path(), help="folder of notebooks/ and README.md (default: this)")
    root = flags.parse_args(argv).root
    try:
        pictures = {path.name[:2]: picture(path) for path in sorted(root.glob("notebooks/[0-9][0-9]_*.ipynb"))}
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    page = root / "README.md"
    text = page.read_text()
    for number, (content, alt) in pictures.items():
        name = f"docs/gallery/{number}.png"
        with write_whole(root / name) as temporary:
            temporary.write_bytes(thumbnail(content))
        text = described(text, name, alt)
    with write_whole(page) as temporary:
        temporary.write_text(text)
    print(f"{plural(len(pictures), 'picture')} in {root / 'docs/gallery'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
