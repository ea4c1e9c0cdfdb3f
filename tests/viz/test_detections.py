import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from PIL import Image

from otalab.assign import Targets
from otalab.viz import detection_grid, draw_detections, gt_colour, match_detections
from otalab.viz.detections import save_detections
from otalab.viz.style import INK

from .scenes import NAMES, axes, rendered, scene, texts


def found(*rows):
    """Detections (box, label, score)."""
    return {
        "boxes": torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([row[1] for row in rows], dtype=torch.int64),
        "scores": torch.tensor([row[2] for row in rows], dtype=torch.float32),
    }


A, B = (0.0, 0, 10, 10), (20.0, 20, 40, 40)
GT = {"gt_boxes": torch.tensor([A, B]), "gt_labels": torch.tensor([0, 1])}


def test_the_best_score_takes_the_gt_and_a_second_is_a_false_positive():
    matches = match_detections(**found((A, 0, 0.6), (A, 0, 0.9)), **GT)
    assert matches.gt.tolist() == [-1, 0]
    assert matches.missed.tolist() == [False, True]


def test_another_class_or_too_little_overlap_finds_nothing():
    shifted = (5.0, 0, 15, 10)  # IoU 1 / 3
    assert match_detections(**found((A, 1, 0.9), (shifted, 0, 0.8)), **GT).gt.tolist() == [-1, -1]
    assert match_detections(**found((shifted, 0, 0.8)), **GT, iou=0.3).gt.tolist() == [0]


def test_of_two_gts_the_one_that_overlaps_more_is_taken():
    near = {"gt_boxes": torch.tensor([(0.0, 0, 10, 8), A]), "gt_labels": torch.tensor([0, 0])}
    assert match_detections(**found((A, 0, 0.9), (A, 0, 0.8)), **near).gt.tolist() == [1, 0]


boxes = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)


@given(
    st.lists(st.tuples(boxes, st.integers(0, 1)), max_size=6), st.lists(st.tuples(boxes, st.integers(0, 1)), max_size=6)
)
def test_each_gt_is_found_once_or_missed(detections, gts):
    rows = [(box, label, 0.9 - 0.1 * i) for i, (box, label) in enumerate(detections)]
    gt = Targets(torch.tensor([b for b, _ in gts]).reshape(-1, 4), torch.tensor([c for _, c in gts], dtype=torch.int64))
    matches = match_detections(**found(*rows), gt_boxes=gt.boxes, gt_labels=gt.labels)
    taken = sorted(matches.gt[matches.gt >= 0].tolist())
    assert taken == [i for i in range(len(gts)) if not matches.missed[i]]
    backwards = match_detections(**found(*rows[::-1]), gt_boxes=gt.boxes, gt_labels=gt.labels)
    assert backwards.gt.tolist() == matches.gt.tolist()[::-1]


def test_found_wrong_and_missed_look_different():
    s = scene()
    detection = found((s.targets.boxes[0].tolist(), 0, 0.9), ((0.0, 40, 10, 60), 1, 0.7))
    ax = draw_detections(axes(), s.image, s.targets, detection, NAMES)
    looks = {(to_hex(p.get_edgecolor()), p.get_linestyle() in ("-", "solid"), bool(p.get_hatch())) for p in ax.patches}
    assert (gt_colour(0).lower(), True, False) in looks
    assert (INK, False, False) in looks
    assert {(gt_colour(i).lower(), True, True) for i in (1, 2)} <= looks
    assert (gt_colour(0).lower(), True, True) not in looks
    assert {".90", "dog .70"} <= texts(ax.figure)


def test_by_class_every_box_has_the_colour_of_its_class():
    s = scene()
    first = int(s.targets.labels[0])
    detection = found((s.targets.boxes[0].tolist(), first, 0.9), ((0.0, 40, 10, 60), 1, 0.7))
    ax = draw_detections(axes(), s.image, s.targets, detection, NAMES, by_class=True)
    looks = {(to_hex(p.get_edgecolor()), p.get_linestyle() in ("-", "solid"), bool(p.get_hatch())) for p in ax.patches}
    assert {(gt_colour(first).lower(), True, False), (gt_colour(1).lower(), False, False)} <= looks
    assert {(gt_colour(label).lower(), True, True) for label in s.targets.labels[1:]} <= looks
    assert INK not in {colour for colour, *_ in looks}
    assert {f"{NAMES[first]} .90", "dog .70"} <= texts(ax.figure)


def test_the_grid_counts_what_is_above_the_threshold():
    s = scene()
    detection = found((s.targets.boxes[0].tolist(), 0, 0.9), (s.targets.boxes[1].tolist(), 1, 0.4), (A, 2, 0.8))
    grid = [[s.image] * 3, [s.targets] * 3, [detection] * 3]
    assert "3 of 9 objects found, 3 false alarms" in texts(detection_grid(*grid, NAMES))
    assert "6 of 9 objects found, 3 false alarms" in texts(detection_grid(*grid, NAMES, score_threshold=0.3))


def test_the_grid_has_two_axes_an_image_and_takes_target_dicts():
    s = scene()
    target = {"boxes": s.targets.boxes, "labels": s.targets.labels}
    figure = detection_grid([s.image] * 5, [target] * 5, [found()] * 5, columns=2)
    assert len(figure.axes) == 10
    assert rendered(figure).std() > 0


def test_a_name_is_drawn_as_it_stands(tmp_path):
    detection = found((A, 0, 0.9), (B, 1, 0.8))
    image = np.full((60, 80, 3), 128, dtype=np.uint8)
    save_detections(tmp_path / "odd.png", image, detection, [r"$\frac$", "two\nlines"])  # no formula, no second line
    with Image.open(tmp_path / "odd.png") as picture:
        assert picture.size == (960, 720)


def test_boxes_are_drawn_where_they_lie_however_the_image_is_scaled(tmp_path):
    """A box around the middle of a grey image: its colour is found at its edges, at every scale."""
    for width, height in ((60, 60), (1600, 1600), (40, 2000), (2000, 40)):
        image = np.full((height, width, 3), 128, dtype=np.uint8)
        box = (width * 0.25, height * 0.25, width * 0.75, height * 0.75)
        save_detections(tmp_path / "a.png", image, found((box, 0, 0.9)), [""])
        with Image.open(tmp_path / "a.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        wanted = np.array([int(gt_colour(0)[i : i + 2], 16) for i in (1, 3, 5)])
        h, w = pixels.shape[:2]
        row, column = pixels[h // 2], pixels[:, w // 2]
        for line, at in ((row, 0.25 * w), (row, 0.75 * w), (column, 0.25 * h), (column, 0.75 * h)):
            near = line[max(0, round(at) - 3) : round(at) + 4]
            assert abs(near - wanted).max(axis=1).min() < 30, (width, height, at)


def test_images_without_gts_or_detections_render():
    empty = scene(0)
    rendered(detection_grid([empty.image], [empty.targets], [found()], NAMES))
    rendered(detection_grid([], [], [], NAMES))
    assert "0 of 0 objects found, 1 false alarm" in texts(
        detection_grid([empty.image], [empty.targets], [found((A, 0, 0.9))], NAMES)
    )
