"""Boxes of image files: any shape, any name, nothing lost."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from otalab.detect import predict as predict_module
from otalab.detect.predict import detect_pixels, predict
from otalab.errors import InputError

from .models import eager_detector


def draw(path: Path, width: int, height: int, **options) -> Path:
    """An image file of noise."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def rows_of(out: Path, name: str) -> list[dict]:
    return json.loads((out / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("width", "height", "drawn"),
    [
        (1, 1, (960, 960)),
        (1, 4000, (1, 3840)),
        (4000, 1, (3840, 1)),
        (6000, 6, (3840, 4)),
        (100, 4000, (96, 3840)),
        (80, 60, (960, 720)),
    ],
)
def test_an_image_of_any_shape_gets_boxes_in_it_and_a_picture_of_bounded_size(
    width, height, drawn, detector_folder, tmp_path
):
    image = draw(tmp_path / "image.png", width, height)
    (said,) = predict(detector_folder, [image], tmp_path / "out")
    assert isinstance(said, str) and said.startswith(f"{image}: ")
    for x1, y1, x2, y2 in (row["box"] for row in rows_of(tmp_path / "out", "image")):
        assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height
    with Image.open(tmp_path / "out" / "image.png") as picture:
        assert picture.size == drawn


def test_a_large_image_is_shrunk_before_it_becomes_floats_and_its_boxes_are_scaled_back(
    detector_folder, tmp_path, monkeypatch
):
    image = draw(tmp_path / "large.png", 400, 300)
    small = tmp_path / "small.png"
    with Image.open(image) as opened:
        opened.resize((200, 150), Image.Resampling.BILINEAR).save(small)
    monkeypatch.setattr(predict_module, "PREDICT_PIXELS", 200 * 150)
    told, untold = predict(detector_folder, [image, small], tmp_path / "out")
    assert told.endswith(" (400 x 300 px, looked at in 200 x 150 px)") and "looked at" not in untold
    large, other = rows_of(tmp_path / "out", "large"), rows_of(tmp_path / "out", "small")
    assert [row["score"] for row in large] == [row["score"] for row in other] and large
    for a, b in zip(large, other, strict=True):
        assert np.allclose(a["box"], 2 * np.array(b["box"]), atol=0.15)  # both are rounded to 0.1


def test_a_detector_that_resizes_sees_a_photo_as_evaluation_does():
    model = eager_detector(image_size=(64, 200))
    pixels = np.random.default_rng(0).integers(0, 255, (120, 90, 3), dtype=np.uint8)
    found, seen = detect_pixels(model, pixels)
    with torch.inference_mode():
        (expected,) = model([torch.from_numpy(pixels).permute(2, 0, 1) / 255])
    assert seen == (120, 90) and len(found["boxes"])
    assert torch.equal(found["scores"], expected["scores"]) and torch.equal(found["boxes"], expected["boxes"])


def test_a_phones_photo_is_looked_at_upright(detector_folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: stored 96 x 64, shown 64 x 96
    turned = draw(tmp_path / "turned.png", 96, 64, exif=exif)
    with Image.open(turned) as opened:
        opened.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png", exif=Image.Exif())
    list(predict(detector_folder, [turned, tmp_path / "upright.png"], tmp_path / "out"))
    assert rows_of(tmp_path / "out", "turned") == rows_of(tmp_path / "out", "upright") != []
    with Image.open(tmp_path / "out" / "turned.png") as picture:
        assert picture.size == (640, 960)


def test_one_bad_image_is_told_and_the_others_are_predicted(detector_folder, tmp_path):
    good = [draw(tmp_path / f"{name}.png", 64, 64) for name in ("a", "c")]
    (tmp_path / "b.png").write_bytes(good[0].read_bytes()[:100])
    (tmp_path / "d").mkdir()
    said = list(predict(detector_folder, [good[0], tmp_path / "b.png", tmp_path / "d", good[1]], tmp_path / "out"))
    assert [type(line) for line in said] == [str, InputError, InputError, str]
    assert "cannot read image" in str(said[1]) and str(tmp_path / "b.png") in str(said[1])
    assert sorted(os.listdir(tmp_path / "out")) == ["a.json", "a.png", "c.json", "c.png"]


@pytest.mark.parametrize(
    "name", ["two words", "größe 猫", "line\nbreak", "tab\tbed", "$x$ {y} %s", "x" * 240, "-f", "a.b"]
)
def test_an_image_of_any_name_is_predicted_and_told_in_one_line(name, detector_folder, tmp_path):
    image = draw(tmp_path / f"{name}.png", 64, 64)
    (said,) = predict(detector_folder, [image], tmp_path / "out")
    assert isinstance(said, str) and said.isprintable()
    assert sorted(os.listdir(tmp_path / "out")) == [f"{name}.json", f"{name}.png"]


@pytest.mark.parametrize("threshold", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_threshold_is_a_score(threshold, detector_folder, tmp_path):
    with pytest.raises(InputError, match=f"threshold is {threshold}; a score lies in 0..1"):
        next(predict(detector_folder, [tmp_path / "a.png"], tmp_path / "out", threshold))


def test_results_replace_results_and_nothing_else(detector_folder, tmp_path):
    image, out = draw(tmp_path / "photo.jpg", 64, 64), tmp_path / "out"
    for _ in range(2):
        list(predict(detector_folder, [image], out))
    (out / "photo.json").write_text('{"shapes": []}')  # as annotation tools name their files
    with pytest.raises(InputError, match=r"photo.json is no result of predict and would be overwritten"):
        list(predict(detector_folder, [image], out))
    assert (out / "photo.json").read_text() == '{"shapes": []}'
    (out / "photo.json").unlink()
    before = (out / "photo.png").read_bytes()
    with pytest.raises(InputError, match=r"photo.png is no result of predict"):
        list(predict(detector_folder, [image], out))
    assert (out / "photo.png").read_bytes() == before


def test_images_whose_results_have_one_place_are_refused(detector_folder, tmp_path):
    image = draw(tmp_path / "photo.jpg", 64, 64)
    other = shutil.copy(image, tmp_path / "photo.jpeg")
    for images in ([image, image], [image, Path(other)]):
        with pytest.raises(InputError, match="would be overwritten: it is the place of both"):
            list(predict(detector_folder, images, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_for_results_that_is_a_file_is_told(detector_folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=r"cannot write into .*out: it is a file"):
        list(predict(detector_folder, [draw(tmp_path / "a.png", 64, 64)], tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "mine"


def test_a_disk_that_is_full_is_told_for_each_image_and_leaves_only_whole_files(detector_folder, tmp_path, full_disk):
    images = [draw(tmp_path / f"{name}.png", 64, 64) for name in "ab"]
    with full_disk(room=20_000):  # the boxes fit, the picture does not
        said = list(predict(detector_folder, images, tmp_path / "out"))
    assert all(isinstance(line, InputError) and "cannot write" in str(line) for line in said)
    assert sorted(os.listdir(tmp_path / "out")) == ["a.json", "b.json"]
    assert rows_of(tmp_path / "out", "a")
