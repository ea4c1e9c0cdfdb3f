import os

import pytest
from foreign_files import photo, rows_of, voc, voc_xml

from otalab.data import CocoDataset
from otalab.data.foreign import write_folder
from otalab.data.voc import parse_xml, read_voc, read_voc_file
from otalab.errors import InputError

CAT = ("cat", (5, 6, 15, 26), 0)
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


def test_a_folder_is_read_by_its_lists_into_one_that_the_data_set_reads(tmp_path, caplog):
    photos = {name: voc_xml(CAT, ("ant", (0, 0, 40, 30), 1)) for name in ("a", "b", "c", "d")}
    source = voc(tmp_path / "voc", photos, train=["b  1", "a -1"], val=["c"])
    splits, names = read_voc(source)
    assert names == ["ant", "cat"]
    assert "left out: 1 XML files that no list of ImageSets/Main names" in caplog.text
    folder = write_folder(tmp_path / "set", splits, names, progress=False)
    rows = [("cat", (5, 6, 10, 20), 0), ("ant", (0, 0, 40, 30), 1)]
    assert rows_of(folder) == [(file, *row) for file in ("b.jpg", "a.jpg") for row in rows]
    data = CocoDataset.from_folder(folder, "val")
    assert data.class_names == ["ant", "cat"] and data[0][1]["boxes"].tolist() == [[5, 6, 15, 26]]
    assert data[0][1]["ignore_boxes"].tolist() == [[0, 0, 40, 30]]


def test_vocs_own_sets_count_pixels_from_one(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(voc_xml(("cat", (1, 1, 40, 30), 0)))
    assert read_voc_file(path, one_based=True)[1][0].box == (0, 0, 40, 30)
    assert read_voc_file(path)[1][0].box == (1, 1, 39, 29)


def test_without_lists_a_fifth_is_drawn_for_val_the_same_everywhere(tmp_path):
    source = voc(tmp_path / "voc", {f"p{i}": voc_xml(CAT) for i in range(10)})

    def val(seed):
        return [item.file.stem for item in read_voc(source, seed=seed)[0]["val"].photos]

    assert val(0) == ["p5", "p7"] and val(1) == ["p3", "p7"]
    train = read_voc(source)[0]["train"]
    assert len(train.photos) == 8 and not set(val(0)) & {item.file.stem for item in train.photos}


def test_photos_and_xml_may_lie_in_one_folder(tmp_path):
    photo(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(voc_xml(CAT))
    splits, _ = read_voc(tmp_path)
    assert [item.file.name for item in splits["train"].photos] == ["a.png"]


def test_two_photos_for_one_xml_file_are_an_error(tmp_path):
    source = voc(tmp_path / "voc", {"a": voc_xml(CAT)})
    photo(source / "JPEGImages" / "a.png")
    with pytest.raises(InputError, match=r"JPEGImages has several photos of one name: a\.jpg and a\.png"):
        read_voc(source)


def test_two_xml_files_of_one_name_are_an_error(tmp_path):
    source = voc(tmp_path / "voc", {"a": voc_xml(CAT)})
    (source / "Annotations" / "a.XML").write_text(voc_xml(CAT))
    with pytest.raises(
        InputError, match=r"Annotations has several XML files of one name: a\.(xml|XML) and a\.(XML|xml)"
    ):
        read_voc(source)


def test_photos_without_an_xml_file_are_told(tmp_path, caplog):
    source = voc(tmp_path / "voc", {"a": voc_xml(CAT)})
    photo(source / "JPEGImages" / "b.jpg")
    assert len(read_voc(source)[0]["train"].photos) == 1
    assert "JPEGImages: 1 photos have no XML file, and are left out" in caplog.text


def test_what_is_left_out_is_counted(tmp_path):
    small = voc_xml(CAT, CAT, size=(80, 60))
    photos = {"a": voc_xml(CAT, ("cat", (5, 5, 5, 9), 0)), "b": voc_xml(CAT), "c": small}
    source = voc(tmp_path / "voc", photos, train=["a", "b", "c", "none"])
    (source / "JPEGImages" / "b.jpg").unlink()
    account = read_voc(source)[0]["train"].account()
    assert account[0].startswith("photos: 1 of 4 used; left out: 1 without an image file, 1 of another size than their")
    assert account[0].endswith("1 without an XML file")
    assert account[1] == (
        "boxes: 1 of 5 used; left out: 1 of zero area, 1 of photos without an image file, "
        "2 of photos of another size than their XML says"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not XML: no element found"),
        ("<annotation>", "is not XML"),
        ("<html/>", "holds <html>, not VOC's <annotation>"),
        (BOMB + "<annotation>&b;</annotation>", "declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/hostname"><annotation/>', "declares a document type"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "is not XML"),
        ("<annotation>&b;</annotation>", "is not XML: undefined entity"),
        (voc_xml(("", (1, 2, 3, 4), 0)), "object 1 has no name"),
        (voc_xml(CAT, ("cat", (1, 2, "x", 4), 0)), "object 2 has bndbox/xmax 'x', not a number"),
        (voc_xml(("cat", (1, 2, "nan", 4), 0)), "bndbox/xmax 'nan', not a number"),
        (voc_xml(("cat", (1, 2, "1e400", 4), 0)), "not a number"),
        (voc_xml(("cat", (9, 2, 3, 4), 0)), "has a box (x, y, width, height) [9.0, 2.0, -6.0, 2.0]"),
        (voc_xml(("cat", (1, 2, 3, 4), "?")), "object 1 has difficult '?', not a number"),
        (voc_xml(size=("wide", 3)), "has size/width 'wide', not a number"),
        ("<annotation><object><name>a</name></object></annotation>", "has bndbox/xmin None, not a number"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_named(text, says, tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_voc_file(path)
    assert says in str(caught.value) and "a.xml" in str(caught.value) and "\n" not in str(caught.value)


def test_xml_in_other_encodings_is_read_and_a_document_type_found_in_them_too(tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(voc_xml(("größe", (1, 2, 3, 4), 0)).encode("utf-16"))
    assert read_voc_file(path)[1][0].name == "größe"
    path.write_bytes((BOMB + "<annotation/>").encode("utf-16"))
    with pytest.raises(InputError, match="declares a document type"):
        read_voc_file(path)


def test_a_deep_file_ends_in_a_line_or_a_root(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<annotation>" * 50_000 + "</annotation>" * 50_000)
    assert parse_xml(path).tag == "annotation"


def test_folders_at_fault_are_named(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        read_voc(tmp_path / "none")
    with pytest.raises(InputError, match="no XML file in"):
        read_voc(tmp_path)
    source = voc(tmp_path / "voc", {"a": voc_xml(CAT)}, train=["a"], val=["a"])
    with pytest.raises(InputError, match="lists 'a' twice"):
        read_voc(source)
    os.mkfifo(tmp_path / "a.xml")
    with pytest.raises(InputError, match="not a regular file"):
        parse_xml(tmp_path / "a.xml")
    bad = voc(tmp_path / "bad", {"a": voc_xml(("a\x85b", (1, 2, 3, 4), 0))}, train=["a"])
    splits, names = read_voc(bad)
    with pytest.raises(InputError, match=r"a class has name .*control character"):
        write_folder(tmp_path / "set", splits, names, progress=False)
