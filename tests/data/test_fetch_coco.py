"""COCO's own layout, from a server on this machine."""

import json

import pytest

from otalab.data import CocoDataset, fetch_coco
from otalab.errors import InputError


def test_a_whole_split_lands_in_the_official_layout_once(coco, tmp_path):
    folder = fetch_coco(tmp_path / "coco", "val", progress=False)
    data = CocoDataset.from_folder(folder, "val")
    assert len(data) == 12 and len(list(data)) == 12
    assert sorted(p.name for p in folder.iterdir()) == ["annotations", "val2017"]  # the archives are gone
    assert [p.name for p in (folder / "annotations").iterdir()] == ["instances_val2017.json"]
    asked = len(coco.asked)
    fetch_coco(folder, "val", progress=False)
    assert len(coco.asked) == asked
    next((folder / "val2017").iterdir()).unlink()
    fetch_coco(folder, "val", progress=False)
    assert len(CocoDataset.from_folder(folder, "val")) == 12


def test_a_subset_is_fetched_photo_by_photo(coco, tmp_path):
    folder = fetch_coco(tmp_path / "coco", "val", max_images=4, seed=2, progress=False)
    data = CocoDataset.from_folder(folder, "val")
    assert data.image_ids == CocoDataset(*fetch_all(tmp_path), max_images=4, seed=2).image_ids
    assert [round(255 * picture[0, 0, 0].item() / 20) for picture, _ in data] == data.image_ids
    content = json.loads((folder / "val" / "instances.json").read_text())
    assert content["licenses"] == [7] and len(content["annotations"]) == 4
    assert all("segmentation" not in row and row["bbox"] == [8.0, 12.0, 32.0, 24.0] for row in content["annotations"])
    asked = len(coco.asked)
    fetch_coco(folder, "val", max_images=6, seed=2, progress=False)
    assert len(coco.asked) == asked + 2  # the larger choice adds two


def fetch_all(tmp_path):
    folder = fetch_coco(tmp_path / "all", "val", progress=False)
    return folder / "annotations" / "instances_val2017.json", folder / "val2017"


def test_a_subset_may_be_shrunk_with_its_boxes(coco, tmp_path):
    folder = fetch_coco(tmp_path / "coco", "val", max_images=3, longest_side=32, progress=False)
    picture, target = CocoDataset.from_folder(folder, "val")[0]
    assert picture.shape == (3, 24, 32)
    assert target["boxes"].tolist() == [[4.0, 6.0, 20.0, 18.0]]
    rows = json.loads((folder / "val" / "instances.json").read_text())["annotations"]
    assert [row["area"] for row in rows] == [175.0] * 3
    fetch_coco(folder, "val", max_images=3, longest_side=500, progress=False)  # never enlarged; the originals again
    assert CocoDataset.from_folder(folder, "val")[0][0].shape == (3, 48, 64)
    assert sorted(p.suffix for p in (folder / "val" / "images").iterdir()) == [".jpg"] * 3


@pytest.mark.parametrize("name", ["annotations.zip", "val2017.zip"])
def test_an_archive_that_a_killed_process_did_not_extract_to_its_end_is_extracted_and_removed(name, coco, tmp_path):
    folder = fetch_coco(tmp_path / "coco", "val", progress=False)
    before, asked = sorted(folder.rglob("*")), len(coco.asked)
    (folder / f".{name}").write_bytes(coco.files[name])
    (folder / "val2017" / "000000000003.jpg.part").touch()
    (folder / "annotations" / "instances_val2017.json.part").touch()
    fetch_coco(folder, "val", progress=False)
    left = {"annotations.zip": ["000000000003.jpg.part"], "val2017.zip": ["instances_val2017.json.part"]}[name]
    assert [path.name for path in sorted(folder.rglob("*")) if path not in before] == left
    assert len(coco.asked) == asked


def test_an_archive_that_its_owner_brought_along_is_not_fetched_again(coco, tmp_path):
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "val2017.zip").write_bytes(coco.files["val2017.zip"])
    folder = fetch_coco(tmp_path / "coco", "val", progress=False)
    assert len(CocoDataset.from_folder(folder, "val")) == 12
    assert not any("val2017.zip" in str(asked) for asked in coco.asked)


def test_what_a_killed_process_left_of_a_photo_is_removed(coco, tmp_path):
    images = fetch_coco(tmp_path / "coco", "val", max_images=3, longest_side=32, progress=False) / "val" / "images"
    before = sorted(images.iterdir())
    (images / f".{before[0].name}.otalab-12345678.jpg").touch()
    fetch_coco(tmp_path / "coco", "val", max_images=3, longest_side=32, progress=False)
    assert sorted(images.iterdir()) == before


def test_a_photo_that_fails_leaves_no_annotation_file(coco, tmp_path):
    for i in range(1, 13):
        if i % 2:
            del coco.files[f"val2017/{i:012d}.jpg"]
    with pytest.raises(InputError, match="HTTP 404"):
        fetch_coco(tmp_path / "coco", "val", max_images=12, progress=False)
    assert not (tmp_path / "coco" / "val" / "instances.json").exists()


@pytest.mark.parametrize("url", [None, 7, ["http://a"], "file:///etc/hostname", "nowhere"])
def test_a_photo_without_an_address_is_named(coco, tmp_path, url):
    folder = fetch_coco(tmp_path / "coco", "val", max_images=1, progress=False)
    path = folder / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    for row in content["images"]:
        row["coco_url"] = url
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"image \d+ has coco_url .*no address|not an http or https address"):
        fetch_coco(folder, "val", max_images=3, progress=False)


def test_no_photo_is_written_outside_its_folder(coco, tmp_path):
    folder = fetch_coco(tmp_path / "coco", "val", max_images=1, progress=False)
    path = folder / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace("000000000001.jpg", "../../../evil.jpg", 1))
    with pytest.raises(InputError, match=r"image 1 lies outside the image folder: '\.\./"):
        fetch_coco(folder, "val", max_images=12, progress=False)
    assert not list(tmp_path.rglob("evil*"))


def test_wrong_options_are_named(tmp_path):
    with pytest.raises(InputError, match="split must be train or val, got 'test'"):
        fetch_coco(tmp_path, "test")
    with pytest.raises(InputError, match=r"longest_side 320 must .* go with max_images"):
        fetch_coco(tmp_path, "val", longest_side=320)
