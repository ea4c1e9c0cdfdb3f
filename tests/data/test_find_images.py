"""The image files that paths stand for: in order, nothing dropped in silence."""

import logging
import os
from pathlib import Path

import pytest

from otalab.data.find_images import find_images
from otalab.errors import InputError


@pytest.fixture
def frames(tmp_path, monkeypatch) -> Path:
    """A folder of empty files, below the working directory: what is an image is told by its name."""
    folder = tmp_path / "frames"
    (folder / "more").mkdir(parents=True)
    names = ("frame10.jpg", "frame2.JPG", "frame1.png", "frame02.webp", "more/frame3.jpg")
    for name in (*names, "notes.txt", "film.mpg", ".frame5.jpg", "frame7"):
        (folder / name).touch()
    monkeypatch.chdir(tmp_path)
    return Path("frames")


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_is_its_images_in_natural_order_and_the_rest_is_counted_once(frames, caplog):
    with caplog.at_level(logging.WARNING, logger="otalab"):
        found = find_images([frames])
    assert names(found) == ["frame1.png", "frame2.JPG", "frame02.webp", "frame10.jpg"]
    assert {path.parent for path in found} == {frames}
    assert [record.getMessage() for record in caplog.records] == [
        "left out: 4 files that are no images by their names"  # notes, a film, a hidden file, one without an ending
    ]


def test_a_pattern_that_the_shell_left_alone_is_expanded(frames, caplog):
    assert names(find_images([frames / "frame*.[jJ]*"])) == ["frame2.JPG", "frame10.jpg"]
    assert names(find_images([frames / "**" / "*.jpg"])) == ["frame10.jpg", "frame3.jpg"]
    assert caplog.text == ""
    assert len(find_images([frames / "*"])) == 4
    assert "3 files that are no images" in caplog.text  # * matches no hidden file


def test_paths_keep_their_order_and_files_are_taken_as_they_are(frames):
    literal = frames / "photo[1].jpg"
    literal.touch()
    given = [literal, frames / "more", frames / "notes.txt", frames / "not there.jpg"]
    assert find_images(given) == [literal, frames / "more" / "frame3.jpg", *given[2:]]


def test_a_folder_or_a_pattern_without_an_image_is_told(frames):
    os.mkdir("empty")
    Path("texts").mkdir()
    Path("texts", "a.txt").touch()
    for path, said in {
        "empty": "no image directly in folder empty",
        "texts": "no image directly in folder texts, only other files (1)",
        "frames/x*.jpg": "no image matches frames/x*.jpg",
        "frames/*.txt": "no image matches frames/*.txt, only other files (1)",
    }.items():
        with pytest.raises(InputError) as told:
            find_images([frames, Path(path)])
        assert str(told.value) == said
