import json
import shutil

import pytest
from command_line import otalab, read

from otalab.assign import ASSIGNERS
from otalab.data import CLASS_NAMES
from otalab.detect import build_detector
from otalab.detect.checkpoint import save_model

FEW = ["--assigners", "ota", "fcos"]


def test_a_drawn_scene_is_compared_by_all_assigners_with_a_picture_and_figures(tmp_path, capsys):
    picture, figures = tmp_path / "all.png", tmp_path / "all.json"
    assert otalab("compare-assigners", "shapes", "--skill", "0.7", "--picture", picture, "--json", figures) == 0
    said = capsys.readouterr().out
    assert said.startswith("shapes scene, seed 0: 341 anchor points, predictions simulated, skill 0.7\n8 gts")
    assert picture.read_bytes().startswith(b"\x89PNG")
    content = read(figures)
    assert [row["name"] for row in content["rows"]] == list(ASSIGNERS)
    assert all(f"\n{name} " in said for name in ASSIGNERS)
    assert content["rows"][0] | {"name": "ota", "agreement": 1.0, "empty": []} == content["rows"][0]


def test_an_image_of_a_folder_is_found_with_its_annotations(shapes, capsys):
    image = sorted((shapes / "val" / "images").iterdir())[2]
    content = json.loads((shapes / "val" / "instances.json").read_text())
    (row,) = [row for row in content["images"] if row["file_name"] == image.name]
    gts = sum(a["image_id"] == row["id"] for a in content["annotations"])
    assert otalab("compare-assigners", image, *FEW) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{image.name}: ") and "predictions of an untrained detector" in said
    assert f"\n{gts} gts," in said


def test_annotations_may_lie_elsewhere_and_a_detector_predicts(shapes, detector_folder, tmp_path, capsys):
    image = sorted((shapes / "val" / "images").iterdir())[0]
    copy = shutil.copy(image, tmp_path)
    annotations = shapes / "val" / "instances.json"
    for path in (shapes / "val" / "images").iterdir():
        shutil.copy(path, tmp_path)
    flags = ["--annotations", annotations, "--checkpoint", detector_folder, *FEW]
    assert otalab("compare-assigners", copy, *flags) == 0
    assert f"predictions of {detector_folder}" in capsys.readouterr().out


def test_equal_seeds_give_equal_figures(tmp_path):
    first, second, other = (tmp_path / f"{i}.json" for i in range(3))
    for path, seed in ((first, 1), (second, 1), (other, 2)):
        assert otalab("compare-assigners", "shapes", *FEW, "--seed", seed, "--json", path) == 0
    assert first.read_text() == second.read_text() != other.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.png"], "no image nowhere.png"),
        (["shapes", "--assigners", "oat"], "assigner 'oat' is none of ota,"),
        (["shapes", "--skill", "1.5"], "skill is 1.5; it lies in 0..1"),
        (["shapes", "--skill", "nan"], "skill is nan"),
        (["shapes", "--skill", "0.5", "--checkpoint", "x"], "choose one"),
        (["shapes", "--checkpoint", "nowhere"], "no checkpoint at nowhere"),
        (["shapes", "--picture", "a.txt"], "must end in .png or .svg"),
        (["shapes", "--objects", "0"], "0 is less than 1"),
        (["shapes", "--objects", "1000"], "1000 objects do not fit into a scene; 100 are the most to try"),
        (["shapes", "--seed", "-1"], "seed is -1; it must be at least 0"),
    ],
)
def test_input_at_fault_is_named_in_a_line(arguments, says, refused):
    assert says in refused("compare-assigners", *arguments)


def test_an_image_without_annotations_says_where_they_were_looked_for(tmp_path, refused):
    lonely = tmp_path / "images" / "a.png"
    lonely.parent.mkdir()
    lonely.write_bytes(b"")
    assert str(tmp_path / "instances.json") in refused("compare-assigners", lonely)


def test_an_image_that_its_annotations_do_not_know_is_named(own_shapes, refused):
    images = own_shapes / "val" / "images"
    stranger = shutil.copy(sorted(images.iterdir())[0], images / "stranger.png")
    assert "has no image stranger.png" in refused("compare-assigners", stranger, *FEW)


def test_a_detector_with_anchor_boxes_of_its_own_has_max_iou_compare_them(tmp_path, capsys):
    settings = {"backbone": "tiny", "num_classes": 6, "assigner": "max-iou", "anchors": "guided"}
    save_model(tmp_path / "model.safetensors", build_detector(**settings), settings, list(CLASS_NAMES), [*range(1, 7)])
    assert otalab("compare-assigners", "shapes", "--checkpoint", tmp_path, "--assigners", "max-iou", "ota") == 0
    said = capsys.readouterr().out
    assert f"of {tmp_path}, whose own anchor boxes max-iou compares" in said and "\nmax-iou " in said
