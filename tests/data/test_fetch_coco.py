"""COCO's own layout, from a server on this machine."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
from command_line import otalab
from conftest import as_zip
from PIL import Image

from otalab.data import CocoDataset, coco_download, fetch_coco
from otalab.data.manifest import Manifest, read_manifest
from otalab.data.sample import by_lot
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
    assert data.image_ids == sorted(by_lot(range(1, 13), seed=2)[:4])
    assert [round(255 * picture[0, 0, 0].item() / 20) for picture, _ in data] == data.image_ids
    content = json.loads((folder / "val" / "instances.json").read_text())
    assert content["licenses"] == [7] and len(content["annotations"]) == 4
    assert all("segmentation" not in row and row["bbox"] == [8.0, 12.0, 32.0, 24.0] for row in content["annotations"])
    asked = len(coco.asked)
    fetch_coco(folder, "val", max_images=6, seed=2, progress=False)
    assert len(coco.asked) == asked + 2  # the larger choice adds two


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


def spoil(coco, i: int, body: bytes) -> None:
    coco.files[f"val2017/{i:012d}.jpg"] = body


def jpeg(size=(64, 48)) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (jpeg()[:1500], "image file is truncated"),
        (b"<html>busy</html>", "cannot identify image file"),
        (jpeg()[:200] + bytes(3000), "cannot read image|truncated|broken"),
        (b"", "cannot identify image file"),
        (jpeg((48, 64)), "it is 48 x 64 px, annotated as 64 x 48 px"),
    ],
    ids=["cut", "no picture", "corrupt", "empty", "another size"],
)
@pytest.mark.parametrize("longest_side", [None, 32])
def test_a_photo_that_arrives_damaged_is_asked_for_again_and_then_named(body, says, longest_side, coco, tmp_path):
    spoil(coco, 5, body)
    with pytest.raises(InputError, match=rf"000000000005\.jpg arrived damaged, twice: .*({says})") as caught:
        fetch_coco(tmp_path / "coco", "val", max_images=12, longest_side=longest_side, progress=False)
    assert "\n" not in str(caught.value)
    assert sum("000000000005" in name for name, _ in coco.asked) == 2
    folder = tmp_path / "coco" / "val"
    assert not (folder / "instances.json").exists() and not (folder / "ids.json").exists()
    assert not list(folder.rglob("*000000000005*"))
    spoil(coco, 5, jpeg())
    fetch_coco(tmp_path / "coco", "val", max_images=12, longest_side=longest_side, progress=False)
    assert len(list(CocoDataset.from_folder(tmp_path / "coco", "val"))) == 12
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("trouble", ["stall", "too short", "too long", "503"])
def test_a_server_in_trouble_costs_a_line_and_the_next_call_goes_on(trouble, coco, tmp_path, monkeypatch):
    folder = fetch_coco(tmp_path / "coco", "val", max_images=2, progress=False)
    if trouble == "stall":
        monkeypatch.setattr("otalab.data.download._TIMEOUT", 0.1)
        coco.pause = 0.5
    elif trouble == "503":
        coco.statuses = [503] * 40
    else:
        coco.length = {"too short": "300", "too long": "100000"}[trouble]
    says = {"stall": "timed out", "too short": "arrived damaged, twice", "too long": "ended after", "503": "HTTP 503"}
    before = (folder / "val" / "instances.json").read_text()
    with pytest.raises(InputError, match=says[trouble]):
        fetch_coco(folder, "val", max_images=6, progress=False)
    assert (folder / "val" / "instances.json").read_text() == before and len(
        CocoDataset.from_folder(folder, "val")
    ) == 2
    coco.pause, coco.length, coco.statuses = 0, None, []
    monkeypatch.setattr("otalab.data.download._TIMEOUT", 30)
    fetch_coco(folder, "val", max_images=6, progress=False)
    assert len(list(CocoDataset.from_folder(folder, "val"))) == 6


def test_an_archive_that_climbs_out_is_refused(coco, tmp_path, monkeypatch):
    body = as_zip({"annotations/instances_val2017.json": b"{}", "../evil.json": b"{}"})
    coco.files["annotations.zip"] = body
    monkeypatch.setitem(coco_download.COCO_MD5, "annotations", hashlib.md5(body).hexdigest())
    with pytest.raises(InputError, match=r"will not extract '\.\./evil\.json'"):
        fetch_coco(tmp_path / "coco", "val", max_images=2, progress=False)
    assert not list(tmp_path.rglob("evil*")) and not list(tmp_path.rglob("instances*"))


def with_dogs(coco, monkeypatch) -> None:
    """Photos 9 and up show a dog too, 12 only a region of dogs to ignore."""
    content = json.loads(zipfile.ZipFile(io.BytesIO(coco.files["annotations.zip"])).read(OFFICIAL))
    content["categories"].append({"id": 18, "name": "dog"})
    for i in range(9, 13):
        row = {"id": 100 + i, "image_id": i, "category_id": 18, "bbox": [1.0, 1, 8, 8], "area": 64.0}
        content["annotations"].append(row | {"iscrowd": int(i == 12)})
    body = as_zip({OFFICIAL: json.dumps(content).encode()})
    coco.files["annotations.zip"] = body
    monkeypatch.setitem(coco_download.COCO_MD5, "annotations", hashlib.md5(body).hexdigest())


OFFICIAL = "annotations/instances_val2017.json"


def test_a_sample_is_made_for_categories_and_told_in_a_manifest_that_makes_the_same_set(coco, tmp_path, monkeypatch):
    with_dogs(coco, monkeypatch)
    folder = fetch_coco(tmp_path / "a", "val", max_images=2, categories=["dog"], seed=3, progress=False)
    data = CocoDataset.from_folder(folder, "val")
    assert data.class_names == ["dog"] and set(data.image_ids) < {9, 10, 11}
    assert sum(len(target["boxes"]) for _, target in data) == 2
    manifest = read_manifest(folder / "val" / "ids.json")
    assert (manifest.ids, manifest.categories, manifest.seed, manifest.split) == (data.image_ids, ["dog"], 3, "val")
    again = fetch_coco(tmp_path / "b", "val", ids=folder / "val" / "ids.json", progress=False)
    for name in ("instances.json", "ids.json"):
        assert (again / "val" / name).read_bytes() == (folder / "val" / name).read_bytes()
    every = fetch_coco(tmp_path / "c", "val", categories=["dog"], progress=False)
    assert CocoDataset.from_folder(every, "val").image_ids == [9, 10, 11]
    with pytest.raises(InputError, match=r"has no category 'dgo'; did you mean dog\?"):
        fetch_coco(tmp_path / "a", "val", max_images=2, categories=["dgo"], progress=False)


def test_a_manifest_that_does_not_fit_is_named(coco, tmp_path):
    path = tmp_path / "ids.json"
    Manifest("val", [3, 77, 78]).write(path)
    with pytest.raises(InputError, match="has no image 77, nor 1 others of the 3"):
        fetch_coco(tmp_path / "coco", "val", ids=path, progress=False)
    with pytest.raises(InputError, match="lists photos of val, not of train"):
        fetch_coco(tmp_path / "coco", "train", ids=path, progress=False)
    with pytest.raises(InputError, match="give no max_images or categories beside it"):
        fetch_coco(tmp_path / "coco", "val", ids=path, max_images=3, progress=False)


def test_the_command_says_the_hash_and_takes_manifests(coco, tmp_path, capsys, refused):
    out = tmp_path / "coco"
    assert otalab("data", "coco", "--out", out, "--splits", "val", "--images", 3, "--categories", "person") == 0
    manifest = read_manifest(out / "val" / "ids.json")
    assert f"  3 photos, sha256 of their ids {manifest.sha256} ({out}/val/ids.json)\n" in capsys.readouterr().out
    assert otalab("data", "coco", "--out", tmp_path / "b", "--ids", out / "val" / "ids.json") == 0
    assert manifest.sha256 in capsys.readouterr().out
    flags = ["data", "coco", "--out", tmp_path / "b", "--ids", out / "val" / "ids.json", "--images", 3]
    assert "give no --images or --categories beside it" in refused(*flags)
    assert "names no category" in refused("data", "coco", "--categories", ",")


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
    with pytest.raises(InputError, match=r"longest_side 320 must .* go with max_images, categories or ids"):
        fetch_coco(tmp_path, "val", longest_side=320)
