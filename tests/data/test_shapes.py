import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from otalab.data import CLASS_NAMES, CocoDataset, ShapesConfig, draw_scene, make_shapes
from otalab.data import scene as drawing
from otalab.data import shapes as writing
from otalab.data.outlines import draw_mask
from otalab.errors import InputError

SMALL = ShapesConfig(image_size=64, max_size=32.0)


def scenes(config: ShapesConfig, count: int) -> list:
    return [draw_scene(config, np.random.default_rng([config.seed, 0, i])) for i in range(count)]


def files(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_seed_makes_the_same_bytes_and_another_seed_makes_others(tmp_path):
    first = files(make_shapes(tmp_path / "a", 3, 2, SMALL, progress=False))
    again = files(make_shapes(tmp_path / "b", 3, 2, SMALL, progress=False))
    other = files(make_shapes(tmp_path / "c", 3, 2, replace(SMALL, seed=1), progress=False))
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_an_image_depends_on_its_number_and_split_not_on_how_many_are_made(tmp_path):
    few = files(make_shapes(tmp_path / "few", 3, 3, SMALL, progress=False))
    many = files(make_shapes(tmp_path / "many", 5, 4, SMALL, progress=False))
    pictures = [name for name in few if name.endswith(".png")]
    assert len(pictures) == 6
    assert all(few[name] == many[name] for name in pictures)
    assert len({few[name] for name in pictures}) == 6  # and val does not repeat train
    rows = [json.loads(f["train/instances.json"])["annotations"] for f in (few, many)]
    assert rows[0] == rows[1][: len(rows[0])]


def test_boxes_are_tight_around_the_visible_pixels():
    for scene in scenes(ShapesConfig(), 20):
        for (x1, y1, x2, y2), mask in zip(scene.boxes.astype(int), scene.masks, strict=True):
            inside = mask[y1:y2, x1:x2]
            assert inside.sum() == mask.sum() > 0
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_masks_are_where_the_picture_changed():
    config = ShapesConfig(min_objects=1, max_objects=1, min_size=20.0, crowd=0.0, noise=0.0, texture=0.0, contrast=0.4)
    for i, scene in enumerate(scenes(config, 20)):
        ground = drawing._ground(config, np.random.default_rng([config.seed, 0, i]))  # drawn first, from the same seed
        change = np.abs(scene.image / 255 - ground).max(2)
        assert (change[scene.masks[0]] > 0.05).mean() > 0.97
        rows, columns = np.nonzero(change > 0.01)  # shape and shadow; the shadow reaches less than 6 px beyond
        x1, y1, x2, y2 = scene.boxes[0]
        assert 0 <= x1 - columns.min() < 6 and 0 <= y1 - rows.min() < 6
        assert 0 <= columns.max() + 1 - x2 < 6 and 0 <= rows.max() + 1 - y2 < 6


def test_a_pixel_belongs_to_the_front_object_alone():
    crowded = ShapesConfig(min_objects=8, max_objects=11, crowd=1.0)
    for scene in scenes(crowded, 10):
        assert scene.masks.sum(0).max() <= 2  # two only where each covers exactly half
        assert (scene.masks.sum(0) == 2).mean() < 0.001
        front = scene.masks[-1].sum() / scene.visible[-1]
        assert scene.masks[-1].sum() <= round(front)


@pytest.mark.parametrize("min_visible", [0.3, 0.7, 1.0])
def test_no_object_shows_less_than_its_least_visible_share(min_visible):
    visible = np.concatenate([s.visible for s in scenes(ShapesConfig(min_visible=min_visible), 20)])
    assert visible.min() >= min_visible
    assert visible.max() <= 1
    if min_visible < 1:
        assert visible.min() < min_visible + 0.2  # occlusion does happen


@pytest.mark.parametrize(
    ("name", "area", "side"),
    [
        ("circle", np.pi * 19**2, 38.0),
        ("square", 2 * 24.0**2, 48 / 2**0.5),
        ("triangle", 0.75 * 3**0.5 * 23**2, None),
        ("star", 10 * 0.5 * 22 * 9.6 * np.sin(np.pi / 5), None),
        ("ring", np.pi * (20**2 - 10.4**2), 40.0),
        ("cross", 4 * 20**2 * (2 * 0.34 - 0.34**2), 40.0),
    ],
)
def test_a_shape_has_the_area_and_width_of_its_outline(name, area, side):
    turn = np.pi / 4 if name == "square" else 0.0  # its outline starts on a corner
    alpha, left, top = draw_mask(CLASS_NAMES.index(name), 40.0, np.array([50.3, 47.9]), 1.0, turn)
    assert alpha.sum() == pytest.approx(area, rel=0.04)  # Pillow draws the outline too: an eighth of a pixel around
    columns, rows = np.nonzero(alpha.sum(0))[0], np.nonzero(alpha.sum(1))[0]
    if side is not None:
        assert alpha.sum(0).astype(bool).sum() == pytest.approx(side, abs=2.1)
        assert left + (columns[0] + columns[-1] + 1) / 2 == pytest.approx(50.3, abs=1)
        assert top + (rows[0] + rows[-1] + 1) / 2 == pytest.approx(47.9, abs=1)
    assert alpha[:2].sum() == alpha[-2:].sum() == alpha[:, :2].sum() == alpha[:, -2:].sum() == 0


def test_scenes_hold_the_numbers_and_sizes_asked_for():
    drawn = scenes(ShapesConfig(), 60)
    counts = [len(s.labels) for s in drawn]
    assert min(counts) == 2 and max(counts) == 11
    assert set(np.concatenate([s.labels for s in drawn])) == set(range(len(CLASS_NAMES)))
    boxes = np.concatenate([s.boxes for s in drawn])
    assert boxes.min() >= 0 and boxes.max() <= 128
    longest = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert longest.max() <= 64 * 1.2 * 1.3**0.5 + 1
    assert np.median(longest) < 32  # small shapes are common
    assert all(s.image.shape == (128, 128, 3) and s.image.dtype == np.uint8 for s in drawn)
    assert all(s.boxes.dtype == np.float32 and s.labels.dtype == np.int64 for s in drawn)


def test_a_crowd_is_a_cluster_of_one_class():
    def overlapping_pairs_of_one_class(crowd: float) -> float:
        found = 0
        for s in scenes(ShapesConfig(min_objects=6, max_objects=6, max_size=30.0, crowd=crowd), 30):
            for a, b in itertools.combinations(range(len(s.labels)), 2):
                low, high = np.maximum(s.boxes[a, :2], s.boxes[b, :2]), np.minimum(s.boxes[a, 2:], s.boxes[b, 2:])
                found += s.labels[a] == s.labels[b] and (low < high).all()
        return found / 30

    assert overlapping_pairs_of_one_class(1.0) > 2
    assert overlapping_pairs_of_one_class(0.0) < 0.5


def test_the_narrower_their_spread_the_more_the_same_shapes_overlap():
    def drawn(spread: float) -> tuple[float, float, float]:
        found = scenes(ShapesConfig(min_objects=8, max_objects=8, max_size=30.0, crowd=0.0, spread=spread), 30)
        overlap = [box_iou(boxes, boxes).fill_diagonal_(0).amax(1) for s in found for boxes in [torch.tensor(s.boxes)]]
        sizes = np.concatenate([(s.boxes[:, 2:] - s.boxes[:, :2]).max(1) for s in found])
        return np.mean([len(s.labels) for s in found]), np.median(sizes), float(torch.cat(overlap).mean())

    (count, size, strewn), (_, _, nearer), (heaped_count, heaped_size, heaped) = map(drawn, (1.0, 0.6, 0.4))
    assert heaped_count == pytest.approx(count, rel=0.05) and heaped_size == pytest.approx(size, rel=0.15)
    assert strewn < nearer < heaped and heaped > 2 * strewn


def test_a_scene_too_full_keeps_fewer_objects_and_still_ends():
    full = ShapesConfig(image_size=32, min_objects=40, max_objects=40, min_size=20.0, max_size=32.0, min_visible=0.9)
    assert all(1 <= len(s.labels) < 40 for s in scenes(full, 3))


def test_the_written_annotations_are_the_scenes(tmp_path):
    folder = make_shapes(tmp_path / "s", 3, 2, SMALL, progress=False)
    content = json.loads((folder / "val" / "instances.json").read_text())
    assert [c["name"] for c in content["categories"]] == list(CLASS_NAMES)
    assert [c["id"] for c in content["categories"]] == [1, 2, 3, 4, 5, 6]
    assert len({row["id"] for row in content["annotations"]}) == len(content["annotations"])
    for i, image in enumerate(content["images"]):
        scene = draw_scene(SMALL, np.random.default_rng([SMALL.seed, 1, i]))
        pixels = np.array(Image.open(folder / "val" / "images" / image["file_name"]))
        assert (pixels == scene.image).all()
        rows = [row for row in content["annotations"] if row["image_id"] == image["id"]]
        assert [row["category_id"] - 1 for row in rows] == scene.labels.tolist()
        assert [row["area"] for row in rows] == scene.masks.sum((1, 2)).tolist()
        xywh = np.array([row["bbox"] for row in rows])
        assert (xywh[:, :2] == scene.boxes[:, :2]).all() and (xywh[:, :2] + xywh[:, 2:] == scene.boxes[:, 2:]).all()
        assert all(isinstance(value, float) for row in rows for value in row["bbox"])
        assert all(row["iscrowd"] == 0 for row in rows)


def test_a_set_is_made_once_and_reused(tmp_path, monkeypatch):
    folder = make_shapes(tmp_path / "s", 2, 1, SMALL, progress=False)
    before = files(folder)
    monkeypatch.setattr(writing, "draw_scene", None)  # drawing again would fail
    assert make_shapes(folder, 2, 1, SMALL, progress=False) == folder
    assert files(folder) == before


def test_a_set_from_before_a_setting_existed_had_its_default(tmp_path):
    folder = make_shapes(tmp_path / "s", 2, 1, SMALL, progress=False)
    statement = json.loads((folder / "shapes.json").read_text())
    del statement["config"]["spread"]
    (folder / "shapes.json").write_text(json.dumps(statement))
    assert make_shapes(folder, 2, 1, SMALL, progress=False) == folder
    with pytest.raises(InputError, match=r"\(spread 1.0, asked 0.5\)"):
        make_shapes(folder, 2, 1, replace(SMALL, spread=0.5), progress=False)


def test_another_set_in_the_folder_is_an_error_until_overwritten(tmp_path):
    folder = make_shapes(tmp_path / "s", 2, 1, SMALL, progress=False)
    with pytest.raises(InputError, match=r"s holds another shapes set \(seed 0, asked 3\)"):
        make_shapes(folder, 2, 1, replace(SMALL, seed=3), progress=False)
    with pytest.raises(InputError, match="train 2, asked 4"):
        make_shapes(folder, 4, 1, SMALL, progress=False)
    make_shapes(folder, 4, 1, SMALL, progress=False, overwrite=True)
    assert len(CocoDataset.from_folder(folder, "train")) == 4


def test_files_that_are_not_a_shapes_set_are_never_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is not a shapes set"):
            make_shapes(tmp_path / "mine", 1, 1, SMALL, progress=False, overwrite=overwrite)
    folder = make_shapes(tmp_path / "s", 1, 1, SMALL, progress=False)
    (folder / "run.log").write_text("x")
    with pytest.raises(InputError, match=r"also holds run\.log"):
        make_shapes(folder, 2, 1, SMALL, progress=False, overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists() and (folder / "run.log").exists()


def test_an_interrupted_set_is_absent_not_half(tmp_path, monkeypatch):
    calls = itertools.count()

    def interrupted(*args):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return draw_scene(*args)

    monkeypatch.setattr(writing, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path / "s", 3, 3, SMALL, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_lost_an_image_is_not_reused(tmp_path):
    folder = make_shapes(tmp_path / "s", 2, 1, SMALL, progress=False)
    (folder / "train" / "images" / "000001.png").unlink()
    with pytest.raises(InputError, match="has 1 of its 2 images"):
        make_shapes(folder, 2, 1, SMALL, progress=False)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/s"):
        make_shapes(tmp_path / "file" / "s", 1, 1, SMALL, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 8}, "must lie in 16..4096 px, got 8"),
        ({"image_size": 10**6}, "must lie in 16..4096 px, got 1000000"),
        ({"min_objects": 5, "max_objects": 4}, "got 5 and 4"),
        ({"min_objects": 0}, "got 0 and 11"),
        ({"min_size": 4.0}, "got 4.0, 64.0, 128"),
        ({"max_size": 300.0}, "got 10.0, 300.0, 128"),
        ({"max_size": float("nan")}, "got 10.0, nan, 128"),
        ({"crowd": 1.5}, "crowd must lie in 0..1, got 1.5"),
        ({"contrast": 0.9}, "contrast must lie in 0..0.5, got 0.9"),
        ({"texture": -0.1}, "texture must lie in 0..1, got -0.1"),
        ({"aspect": 0.5}, "aspect must lie in 1..3, got 0.5"),
        ({"noise": -1.0}, "noise must lie in 0..64, got -1.0"),
        ({"min_visible": 0.0}, r"min_visible must lie in \(0, 1\], got 0.0"),
        ({"spread": 0.0}, r"spread must lie in \(0, 1\], got 0.0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_number(change, message):
    with pytest.raises(InputError, match=message):
        ShapesConfig(**change)


def test_a_split_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="train=0 and val=3"):
        make_shapes(tmp_path / "s", 0, 3, SMALL, progress=False)
