"""The gallery of README.md: one picture a lesson, made from the executed notebook, with an alternative text."""

import base64
import io
import re
from pathlib import Path

import nbformat
import PIL.Image
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from notebooks.gallery import SIZE, described, main, picture, thumbnail
from otalab.errors import InputError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:2])


@lessons
def test_the_thumbnail_is_that_of_the_committed_notebook(path):
    content, _ = picture(path)
    committed = PIL.Image.open(ROOT / f"docs/gallery/{path.stem[:2]}.png").convert("RGB")
    made = PIL.Image.open(io.BytesIO(thumbnail(content))).convert("RGB")
    assert committed.size == SIZE and committed.tobytes() == made.tobytes(), "make notebooks writes it anew"


@lessons
def test_the_readme_shows_picture_question_and_a_sentence(path):
    number, question = path.stem[:2], re.match(r"# (.*\?)\n", nbformat.read(path, 4).cells[0].source)[1]
    target = f"(notebooks/{path.name})"
    _, alt = picture(path)
    assert f"[![{alt}](docs/gallery/{number}.png)]{target}" in README
    (sentence,) = re.findall(re.escape(f"[**{question}**]{target} ") + r"([^|]*?) \|", README)
    assert sentence.endswith(".") and len(sentence) > 40
    assert not re.search(r"\d{2}", sentence.replace("float32", "")), "no number that can go stale"


def test_the_gallery_has_no_other_pictures():
    assert {path.stem for path in (ROOT / "docs/gallery").iterdir()} == {path.stem[:2] for path in LESSONS}
    assert len(re.findall(r"\(docs/gallery/", README)) == len(LESSONS)


def encoded(*colours: str, size: tuple[int, int] = (40, 20), kind: str = "png") -> bytes:
    """An image of one colour, or an animation of several."""
    frames = [PIL.Image.new("RGB", size, colour) for colour in colours]
    file = io.BytesIO()
    frames[0].save(file, format=kind, **({"save_all": True, "append_images": frames[1:]} if kind == "gif" else {}))
    return file.getvalue()


def cell(*images: bytes, alt: str = "a red card", kind: str = "image/png", tags: tuple[str, ...] = ("gallery",)):
    outputs = [
        new_output("display_data", {kind: base64.b64encode(image).decode()}, metadata={kind: {"alt": alt}})
        for image in images
    ]
    return new_code_cell("...", outputs=outputs, metadata={"tags": list(tags)})


def write(folder: Path, *cells) -> Path:
    path = folder / "notebooks/00_first.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


RED = encoded("red")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([cell(RED, tags=())], "0 cells"),
        ([cell(RED), cell(RED)], "2 cells"),
        ([cell()], "0 images"),
        ([cell(RED, RED)], "2 images"),
        ([cell(RED, alt="")], "no alternative text"),
    ],
)
def test_a_lesson_has_one_gallery_cell_with_one_described_image(tmp_path, cells, said):
    with pytest.raises(InputError, match=said):
        picture(write(tmp_path, *cells))


def test_a_thumbnail_holds_the_whole_image_in_the_middle_of_a_white_card():
    made = thumbnail(encoded("red", size=(100, 400)))
    image = PIL.Image.open(io.BytesIO(made)).convert("RGB")
    width, height = SIZE
    assert image.size == SIZE and made == thumbnail(encoded("red", size=(100, 400)))
    red = [x for x in range(width) if image.getpixel((x, height // 2)) == (255, 0, 0)]
    assert len(red) == height // 4 and red[0] == (width - height // 4) // 2
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_a_small_mark_keeps_its_colour():
    scene = PIL.Image.radial_gradient("L").resize(SIZE)
    scene = PIL.Image.merge("RGB", (scene, scene.rotate(90), scene.rotate(180)))
    scene.paste("#E69F00", (100, 100, 104, 104))
    scene.paste("#D55E00", (200, 100, 240, 140))
    file = io.BytesIO()
    scene.save(file, format="png")
    image = PIL.Image.open(io.BytesIO(thumbnail(file.getvalue()))).convert("RGB")
    for place, colour in (((102, 102), (230, 159, 0)), ((220, 120), (213, 94, 0))):
        assert max(abs(a - b) for a, b in zip(image.getpixel(place), colour, strict=True)) < 25


def test_of_an_animation_the_last_frame_is_shown(tmp_path):
    content, _ = picture(write(tmp_path, cell(encoded("red", "blue", kind="gif"), kind="image/gif")))
    image = PIL.Image.open(io.BytesIO(thumbnail(content))).convert("RGB")
    assert image.getpixel((SIZE[0] // 2, SIZE[1] // 2)) == (0, 0, 255)


def test_the_alternative_text_follows_the_notebook():
    text = "![old](docs/gallery/00.png) ![kept](docs/gallery/01.png) ![](docs/gallery/00.png)"
    expected = r"![a \1 b](docs/gallery/00.png) ![kept](docs/gallery/01.png) ![a \1 b](docs/gallery/00.png)"
    assert described(text, "docs/gallery/00.png", r"a \1 b") == expected


def test_the_command_writes_pictures_and_words(tmp_path, capsys):
    write(tmp_path, cell(RED))
    (tmp_path / "README.md").write_text("before ![](docs/gallery/00.png) after\n")
    assert main(["--root", str(tmp_path)]) == 0
    assert "1 picture in" in capsys.readouterr().out
    assert (tmp_path / "docs/gallery/00.png").read_bytes() == thumbnail(RED)
    assert (tmp_path / "README.md").read_text() == "before ![a red card](docs/gallery/00.png) after\n"


def test_the_command_writes_nothing_where_a_lesson_has_no_picture(tmp_path, capsys):
    write(tmp_path, cell())
    (tmp_path / "README.md").write_text("as before\n")
    assert main(["--root", str(tmp_path)]) == 1
    assert "0 images" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists() and (tmp_path / "README.md").read_text() == "as before\n"
