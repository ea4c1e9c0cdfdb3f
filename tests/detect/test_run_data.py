"""A run opens with what it will see and what it will not."""

import json
from pathlib import Path

import pytest

from otalab.detect.train import train
from otalab.errors import InputError

from .runs import steps_of


@pytest.fixture
def bare(edit_annotations):
    """`bare(n)`: the shapes set in which only the first `n` training images have boxes."""

    def strip(count: int) -> str:
        def change(content):
            kept = {row["id"] for row in content["images"][:count]}
            content["annotations"] = [row for row in content["annotations"] if row["image_id"] in kept]

        return str(edit_annotations(change))

    return strip


def lines_of(out) -> list[str]:
    return (Path(out) / "data.txt").read_text().splitlines()


def test_a_run_says_what_it_sees_and_keeps_it(setup, bare, capsys):
    config = setup(data=bare(6), epochs=1, batch_size=2, seed=3)
    train(config)
    lines = lines_of(config.out)
    assert capsys.readouterr().out.splitlines()[: len(lines)] == lines
    images, boxes, classes, val, device = lines
    assert images == (
        "train  images: 6 of 16 used, 6 with a box, 0 without; left out: 10 without a box "
        "(--background N takes N of those without)"
    )
    assert boxes.startswith("train  boxes: ") and classes.startswith("train  classes: 6 (")
    assert val.startswith("val    8 images, ") and device == "device cpu, 1 threads, 0 loader processes, seed 3"


def test_images_without_a_box_take_part_as_many_as_asked_for(setup, bare, tmp_path):
    data = bare(6)
    for background, images in ((0, 6), (4, 10), (100, 16)):
        config = setup(data=data, epochs=1, batch_size=2, background=background, out=str(tmp_path / str(background)))
        train(config, progress=False)
        assert len(steps_of(config.out)) == images // 2
        assert lines_of(config.out)[0].startswith(f"train  images: {images} of 16 used, 6 with a box")
        assert json.loads((Path(config.out) / "config.json").read_text())["background"] == background


def test_a_set_whose_boxes_are_all_under_a_pixel_is_told_before_the_work(setup, edit_annotations, caplog):
    def normalise(content):
        for row in content["annotations"]:
            row["bbox"] = [value / 64 for value in row["bbox"]]

    config = setup(data=str(edit_annotations(normalise)), epochs=1)
    train(config, progress=False)
    (warning,) = [line for line in caplog.messages if "no box to learn" in line]
    assert "boxes: 0 of 100 used; left out: 100 under 1 px" in warning
    assert lines_of(config.out)[1] == "train  boxes: 0 of 100 used; left out: 100 under 1 px"


def test_boxes_that_the_resize_makes_too_small_are_counted(setup, edit_annotations):
    def narrow(content):
        content["annotations"][0]["bbox"] = [10, 10, 3, 20]

    config = setup(data=str(edit_annotations(narrow)), epochs=1, size=16)
    train(config, progress=False)
    assert "left out: 1 under 1 px at size 16" in lines_of(config.out)[1]


def test_images_that_are_too_large_to_train_on_are_told_before_the_work(setup):
    config = setup(size=8192, epochs=1)
    with pytest.raises(InputError, match=r"a batch of 4 padded to 8192 x 8192 px needs .* GB of memory or more"):
        train(config, progress=False)
    assert not Path(config.out).exists()
