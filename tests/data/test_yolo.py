import pytest
from foreign_files import photo, rows_of, yolo
from PIL import ExifTags, Image

from otalab.data import CocoDataset
from otalab.data.foreign import write_folder
from otalab.data.yolo import read_names, read_yolo
from otalab.errors import InputError

DOG = "1 0.5 0.5 0.25 0.4\n"  # of 40 x 30 px: 10 x 12 px in the middle


@pytest.mark.parametrize("nested", [False, True])
def test_a_folder_in_either_layout_is_read_into_one_that_the_data_set_reads(nested, tmp_path):
    val = "valid" if nested else "val"
    source = yolo(
        tmp_path / "y", nested=nested, train={"p10": DOG, "p2": None}, **{val: {"q": DOG + "\n0 0.5 0.5 1 1"}}
    )
    splits, names = read_yolo(source)
    assert names == ["cat", "dog"]
    folder = write_folder(tmp_path / "set", splits, names, progress=False)
    assert rows_of(folder) == [("p10.png", "dog", (15, 9, 10, 12), 0)]
    assert [item.file.name for item in splits["train"].photos] == ["p2.png", "p10.png"]
    data = CocoDataset.from_folder(folder, "val")
    assert data[0][1]["boxes"].tolist() == [[15, 9, 25, 21], [0, 0, 40, 30]]
    assert data[0][1]["labels"].tolist() == [1, 0]


def test_what_is_left_out_is_counted(tmp_path):
    source = yolo(tmp_path / "y", train={"a": DOG + "0 0.5 0.5 0 0.3\n"})
    (source / "labels" / "train" / "alone.txt").write_text(DOG)
    (source / "labels" / "train" / "classes.txt").write_text("cat\n")  # some tools write it beside the labels
    assert read_yolo(source)[0]["train"].account() == [
        "photos: 1 of 2 used; left out: 1 that have a text file alone",
        "boxes: 1 of 2 used; left out: 1 of zero area",
    ]


def test_photos_that_exif_turns_are_told(tmp_path, caplog):
    source = yolo(tmp_path / "y", train={"a": DOG, "b": DOG, "c": DOG})
    for name, asked in (("a", 6), ("b", 3)):  # a quarter turn, and a half turn, which keeps the sides
        with Image.open(source / "images" / "train" / f"{name}.png") as image:
            image.getexif()[ExifTags.Base.Orientation] = asked
            image.save(source / "images" / "train" / f"{name}.png", exif=image.getexif())
    assert len(read_yolo(source)[0]["train"].photos) == 3
    assert "EXIF turns 1 photos by a quarter" in caplog.text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1 0.5 0.5 0.25", "line 2 is '1 0.5 0.5 0.25', not 'class x y width height'"),
        ("1 0.1 0.1 0.9 0.1 0.9 0.9", "not 'class x y width height'"),
        ("dog 0.5 0.5 0.25 0.4", "not 'class x y width height'"),
        ("1.5 0.5 0.5 0.25 0.4", "not 'class x y width height'"),
        ("2 0.5 0.5 0.25 0.4", "line 2 has class 2, but there are 2, counted from 0"),
        ("-1 0.5 0.5 0.25 0.4", "has class -1"),
        ("1 20 15 10 12", "line 2 has a box that lies outside its photo"),
        ("1 0.5 0.5 1.1 0.4", "outside its photo"),
        ("1 nan 0.5 0.25 0.4", "outside its photo"),
        ("1 0.5 0.5 -0.25 0.4", "its sides not negative"),
    ],
)
def test_a_line_that_is_not_as_it_should_be_is_named(line, says, tmp_path):
    source = yolo(tmp_path / "y", train={"a": DOG + line})
    with pytest.raises(InputError) as caught:
        read_yolo(source)
    assert says in str(caught.value) and "a.txt" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "names: [cat, 'guide dog']",
        "path: x\nnames:\n  0: cat\n  1: guide dog\nnc: 2\n",
        'names:\n- cat  # a comment\n- "guide dog"\n',
        "train: a\nnames: [\n  cat,\n  guide dog\n]\n",
        "names: {1: guide dog, 0: cat}",
    ],
)
def test_the_ways_in_which_yaml_files_name_classes(text, tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    assert read_names(path) == ["cat", "guide dog"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nc: 2", "has no list 'names' of classes"),
        ("names: cat", "has no list 'names' of classes"),
        ("names: [[cat], dog]", "has no list 'names' of classes"),
        ("- cat", "has no list 'names' of classes"),
        ("names: [cat", "is not YAML: while parsing a flow sequence"),
        ("names:\n  1: cat\n", "numbers its names otherwise than 0, 1, 2"),
        ("names:\n  0: cat\n  - dog\n", "is not YAML"),
        ("names: [cat, cat]", "names a class twice"),
        ("names: []", "names no class"),
    ],
)
def test_a_yaml_file_that_cannot_be_read_is_named(text, says, tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_names(path)


def test_a_class_keeps_its_name_where_yaml_knows_the_word(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("names: [no, 1, 2.50, null]")
    assert read_names(path) == ["no", "1", "2.50", "null"]


def test_classes_may_stand_in_a_text_file(tmp_path):
    source = yolo(tmp_path / "y", None, train={"a": DOG})
    with pytest.raises(InputError, match=r"has none of data.yaml, classes.txt, obj.names"):
        read_yolo(source)
    (source / "classes.txt").write_text("\ufeffcat\n\ndog\n")
    assert read_yolo(source)[1] == ["cat", "dog"]
    (tmp_path / "mine.txt").write_text("one\ntwo")
    assert read_yolo(source, tmp_path / "mine.txt")[1] == ["one", "two"]


def test_folders_at_fault_are_named(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        read_yolo(tmp_path / "none")
    (tmp_path / "classes.txt").write_text("cat")
    with pytest.raises(InputError, match="has neither images/train nor train/images"):
        read_yolo(tmp_path)
    photo(tmp_path / "images/train/a.png")
    photo(tmp_path / "images/train/a.jpg")
    with pytest.raises(InputError, match="several photos of one name"):
        read_yolo(tmp_path)


@pytest.mark.parametrize("second", ["images/valid", "val/images", "valid/images"])
def test_two_folders_of_one_split_are_an_error(second, tmp_path):
    (tmp_path / "classes.txt").write_text("cat")
    photo(tmp_path / "images/val/a.png")
    photo(tmp_path / second / "b.png")
    with pytest.raises(InputError, match=rf"two folders of one split: \S+images/val and \S+{second}"):
        read_yolo(tmp_path)
