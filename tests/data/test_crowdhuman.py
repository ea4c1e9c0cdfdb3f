import json
import os

import numpy as np
import pytest
from foreign_files import SIZE, crowdhuman, mask, person, photo, rows_of

from otalab.data import CocoDataset
from otalab.data.crowdhuman import read_crowdhuman, read_odgt
from otalab.data.foreign import write_folder
from otalab.errors import InputError


def fault(folder, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_crowdhuman(folder, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("boxes", "expected"), [("full", (5, 5, 10, 20)), ("visible", (5, 5, 10, 10)), ("head", (7, 5, 4, 4))]
)
def test_each_kind_of_box_is_read_and_seen_by_the_data_set(boxes, expected, tmp_path):
    source = crowdhuman(tmp_path / "source", train={"273271,c9db": [person(), mask()]}, val={"2": [person()]})
    folder = write_folder(tmp_path / "set", read_crowdhuman(source, boxes), ["person"], progress=False)
    name = "273271,c9db.jpg"
    assert rows_of(folder) == [(name, "person", expected, 0), (name, "person", (20, 0, 15, 15), 1)]
    ((_, target),) = CocoDataset.from_folder(folder, "train")
    x, y, width, height = expected
    assert target["boxes"].tolist() == [[x, y, x + width, y + height]]
    assert target["ignore_boxes"].tolist() == [[20, 0, 35, 15]]
    assert len(rows_of(folder, "val")) == 1


def test_what_the_benchmark_ignores_is_a_region_to_ignore(tmp_path):
    hidden = person(extra={"ignore": 1})
    headless = person(head_attr={"ignore": 1})
    source = crowdhuman(tmp_path / "s", train={"1": [person(), hidden, headless, mask(), person(tag="statue")]})
    ignored = {
        kind: [m.ignored for m in read_crowdhuman(source, kind)["train"].photos[0].marks] for kind in ("full", "head")
    }
    assert ignored == {"full": [False, True, False, True, True], "head": [False, True, True, True, True]}


def test_boxes_beyond_the_photo_stay_or_are_cut_and_what_is_left_out_is_counted(tmp_path):
    gts = [person((-10, 5, 20, 40)), person((-30, 5, 20, 10)), person((5, 5, 0, 10))]
    source = crowdhuman(tmp_path / "s", train={"1": gts})
    kept = read_crowdhuman(source)["train"]
    assert [mark.box for mark in kept.photos[0].marks] == [(-10, 5, 20, 40), (-30, 5, 20, 10)]
    assert kept.account() == ["photos: 1 of 1 used", "boxes: 2 of 3 used; left out: 1 of zero area"]
    cut = read_crowdhuman(source, clip=True)["train"]
    assert [mark.box for mark in cut.photos[0].marks] == [(0, 5, 10, 25)]
    assert cut.account()[1] == "boxes: 1 of 3 used; left out: 1 outside their photo, 1 of zero area"


def test_photos_that_are_not_there_and_rows_without_the_box_are_counted(tmp_path):
    bare = person()
    del bare["vbox"]
    source = crowdhuman(tmp_path / "s", train={"1": [person(), bare, mask()], "2": [person()] * 3})
    (source / "Images" / "2.jpg").unlink()
    assert read_crowdhuman(source, "visible")["train"].account() == [
        "photos: 1 of 2 used; left out: 1 without an image file",
        "boxes: 2 of 6 used, 1 of them regions to ignore; left out: 1 without vbox, 3 of photos without an image file",
    ]
    (source / "Images" / "1.jpg").unlink()
    with pytest.raises(InputError, match=r"no photo is left for .*left out: 2 without an image file"):
        write_folder(tmp_path / "set", read_crowdhuman(source), ["person"], progress=False)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 holds a list"),
        ('{"gtboxes": []}', "line 2 has ID None, which names no file"),
        ('{"ID": "../x", "gtboxes": []}', "'../x', which names no file"),
        ('{"ID": "x"}', "line 2, ID 'x' has no list 'gtboxes'"),
        ('{"ID": "1", "gtboxes": []}', "line 2, ID '1' is there twice"),
        ('{"ID": "x", "ID": "y"}', "the key 'ID' twice"),
        ({"tag": 1}, "line 2, ID 'x', gtboxes[0] has no 'tag'"),
        (person(extra=[1]), "extra [1], whose ignore is neither 0 nor 1"),
        (person(extra={"ignore": 2}), "whose ignore is neither 0 nor 1"),
        (person((1, 2, -3, 4)), "gtboxes[0] has a box (x, y, width, height) [1, 2, -3, 4]"),
        (person((1, 2, float("nan"), 4)), "needs four finite px"),
        (person((1, 2, 3)), "needs four finite px"),
        (person(fbox="1234"), "needs four finite px"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_a_line_that_is_not_as_it_should_be_is_named(line, says, tmp_path):
    source = crowdhuman(tmp_path / "s", train={"1": []})
    text = json.dumps({"ID": "x", "gtboxes": [line]}) if isinstance(line, dict) else line
    with (source / "annotation_train.odgt").open("a") as file:
        file.write(text)
    said = fault(source)
    assert says in said and "annotation_train.odgt" in said and "\n" not in said


def test_what_is_missing_is_named(tmp_path):
    assert "has neither annotation_train.odgt nor annotation_val.odgt" in fault(tmp_path)
    (tmp_path / "annotation_val.odgt").touch()
    assert "no folder" in fault(tmp_path)
    (tmp_path / "Images").mkdir()
    assert "annotation_val.odgt holds no line" in fault(tmp_path)
    assert "boxes must be one of full, visible, head" in fault(tmp_path, boxes="hands")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        read_odgt(tmp_path / "pipe", tmp_path)


def test_a_photo_that_is_none_is_named(tmp_path):
    source = crowdhuman(tmp_path / "s", train={"1": [person()]})
    (source / "Images" / "1.jpg").write_bytes(b"no photo")
    assert "cannot read image" in fault(source) and "1.jpg" in fault(source)


def test_photos_are_linked_to_or_shrunk_with_their_boxes(tmp_path):
    source = crowdhuman(tmp_path / "s", train={"1": [person((4, 8, 10, 12))]})
    splits = read_crowdhuman(source)
    linked = write_folder(tmp_path / "linked", splits, ["person"], progress=False)
    assert (linked / "train/images/1.jpg").samefile(source / "Images/1.jpg")
    small = write_folder(tmp_path / "small", splits, ["person"], longest_side=20, progress=False)
    picture, target = CocoDataset.from_folder(small, "train")[0]
    assert picture.shape == (3, 15, 20) and target["boxes"].tolist() == [[2, 4, 7, 10]]
    assert np.allclose(picture, 90 / 255, atol=0.02) and SIZE == (40, 30)


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    source = crowdhuman(tmp_path / "s", train={"1": [person()]})
    photo(tmp_path / "set" / "mine.jpg")
    with pytest.raises(InputError, match="exists already"):
        write_folder(tmp_path / "set", read_crowdhuman(source), ["person"], progress=False)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["mine.jpg"]


def test_a_disk_without_links_gets_copies(tmp_path, monkeypatch):
    def no_link(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", no_link)
    source = crowdhuman(tmp_path / "s", train={"1": [person()]})
    folder = write_folder(tmp_path / "set", read_crowdhuman(source), ["person"], progress=False)
    assert not (folder / "train/images/1.jpg").samefile(source / "Images/1.jpg")
    assert (folder / "train/images/1.jpg").read_bytes() == (source / "Images/1.jpg").read_bytes()
