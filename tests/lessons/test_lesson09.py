"""Lesson 09's detector is the package's, part by part, whatever the seed; its checker knows NMS from what is not."""

import operator
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms, box_iou

from otalab import boxes as box_ops
from otalab.assign import AnchorPoints, build_assigner
from otalab.detect import build_detector
from otalab.detect.detector import as_targets
from otalab.detect.evaluate import coco_metrics, coco_rows
from otalab.detect.losses import detection_losses
from otalab.lessons import lesson09

NOTEBOOK = nbformat.read(Path(__file__).parents[2] / "notebooks" / "09_inside_the_detector.ipynb", as_version=4)
SEEDS = range(30)


@pytest.fixture(scope="module")
def ours() -> dict:
    """The names of the notebook's own detector: its imports, then the cells tagged `detector`."""
    names: dict = {"take_weights": None}
    for cell in NOTEBOOK.cells:
        imports = cell.cell_type == "code" and cell.source.startswith("import ")
        helper = "def take_weights" in cell.source
        if imports or "detector" in cell.metadata.get("tags", []):
            exec(compile(cell.source, "09", "exec"), names)
        elif helper:
            source = cell.source[: cell.source.index("torch.manual_seed")]
            exec(compile(source, "09", "exec"), names)
    return names


def scenes(seed: int):
    """Images and target dicts of two easy scenes."""
    images, targets = zip(*lesson09.easy_scenes(7 + seed, 2), strict=True)
    return torch.stack(images), list(targets)


def test_the_detector_is_about_150_lines():
    source = [cell.source for cell in NOTEBOOK.cells if "detector" in cell.metadata.get("tags", [])]
    lines = [line for line in "\n".join(source).splitlines() if line.strip()]
    assert 130 <= len(lines) <= 170, len(lines)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_weights_give_the_same_rows_labels_and_losses_as_the_package(seed, ours):
    torch.manual_seed(seed)
    package = build_detector("tiny", num_classes=3).train()
    model = ours["take_weights"](ours["Detector"](), package).train()
    images, targets = scenes(seed)
    logits, boxes, quality = model(images)
    points, theirs = package.predict(list(images))
    for values, name in ((logits, "logits"), (boxes, "boxes"), (quality, "quality")):
        torch.testing.assert_close(values, torch.stack([getattr(p, name) for p in theirs]))
    matched = ours["labels_of"](points, logits, boxes, targets)
    assignments = build_assigner("ota").assign_batch(points, theirs, [as_targets(t) for t in targets])
    assert torch.equal(matched, torch.stack([a.matched_gt for a in assignments]))
    expected = detection_losses(theirs, [as_targets(t) for t in targets], assignments)
    losses = ours["losses_of"](logits, boxes, quality, matched, targets)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


@pytest.mark.parametrize("seed", SEEDS)
def test_detections_are_the_package_s(seed, ours):
    torch.manual_seed(seed)
    package = build_detector("tiny", num_classes=3).eval()
    torch.nn.init.normal_(package.head.logits.weight, std=0.3)  # so that some scores stand out
    package.head.logits.bias.data.fill_(-7.0)
    model = ours["take_weights"](ours["Detector"](), package).eval()
    images, _ = scenes(seed)
    with torch.no_grad():
        rows, theirs = model(images), package(list(images))
    for row, other in zip(zip(*rows, strict=True), theirs, strict=True):
        mine = ours["detect"](*row, images.shape[-2:])
        assert len(other["scores"]) > 0
        for name in ("boxes", "labels", "scores"):
            torch.testing.assert_close(mine[name], other[name])


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (65, 33)])
def test_points_are_the_package_s_on_images_of_any_shape(size, ours):
    strides = (4, 8, 16, 32)
    shapes = [(-(-size[0] // s), -(-size[1] // s)) for s in strides]
    xy, stride = ours["anchor_points"](shapes, strides)
    points = AnchorPoints.for_image(size, strides)
    assert torch.equal(xy, points.xy) and torch.equal(stride, points.stride)


def test_an_image_without_a_gt_costs_its_classes_alone(ours):
    images, targets = scenes(0)
    empty = [{"boxes": t["boxes"][:0], "labels": t["labels"][:0]} for t in targets]
    logits, boxes, quality = ours["Detector"]()(images)
    points = AnchorPoints.for_image((64, 64), (4, 8, 16, 32))
    matched = ours["labels_of"](points, logits, boxes, empty)
    losses = ours["losses_of"](logits, boxes, quality, matched, empty)
    assert (matched == -1).all() and losses["box"] == 0 and losses["quality"] == 0 and losses["classification"] > 0


def test_a_hull_that_neither_fills_pulls_boxes_together_where_the_iou_is_flat(ours):
    far = torch.tensor([[0.0, 0, 4, 4]], requires_grad=True)
    iou, giou = ours["overlap"](far, torch.tensor([[10.0, 0, 14, 4]]))
    assert iou == 0 and torch.autograd.grad(iou.sum(), far, retain_graph=True)[0].eq(0).all()
    assert giou < 0 and torch.autograd.grad(giou.sum(), far)[0][0, 2] > 0, "its right side is pulled to the right"


def by_loops(boxes, scores, labels, overlap, exceeds=operator.gt):
    stay = []
    for i in sorted(range(len(scores)), key=lambda i: -float(scores[i])):
        close = [exceeds(box_ops.iou(boxes[i], boxes[j]), overlap) for j in stay if labels[i] == labels[j]]
        if not any(close):
            stay.append(i)
    return stay


def as_numpy(*arguments):
    return np.array(by_loops(*arguments), dtype=np.int64)


def stepping_back(*arguments):
    return as_numpy(*arguments)[::-1].copy()[::-1]


def as_tuple(*arguments):
    return tuple(by_loops(*arguments))


def by_matrix(boxes, scores, labels, overlap):
    order = scores.argsort(descending=True)
    close = ((box_iou(boxes, boxes) > overlap) & (labels[:, None] == labels))[order][:, order]
    alive = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~close[i, i + 1 :]
    return order[alive]


def by_shifted_boxes(boxes, scores, labels, overlap):
    return by_loops(boxes + 1000 * labels[:, None], scores, torch.zeros_like(labels), overlap)


@pytest.mark.parametrize(
    "answer", [by_loops, as_numpy, stepping_back, as_tuple, by_matrix, by_shifted_boxes, batched_nms]
)
def test_class_wise_nms_passes_in_any_form(answer):
    verdict = lesson09.check(answer)
    assert verdict.passed and "the best of its class" in verdict.message


def reversed_order(*arguments):
    return by_loops(*arguments)[::-1]


def mask(boxes, scores, labels, overlap):
    stay = torch.zeros(len(scores), dtype=torch.bool)
    stay[by_loops(boxes, scores, labels, overlap)] = True
    return stay


def the_boxes(boxes, scores, labels, overlap):
    return boxes[by_loops(boxes, scores, labels, overlap)]


def the_scores(boxes, scores, labels, overlap):
    return scores[by_loops(boxes, scores, labels, overlap)]


def by_the_dead(boxes, scores, labels, overlap):
    """A box goes if any better one of its class is close, whether that one stays or not."""
    close = (box_iou(boxes, boxes) > overlap) & (labels[:, None] == labels) & (scores[:, None] > scores)
    return [i for i in scores.argsort(descending=True).tolist() if not close[:, i].any()]


def one_a_class(boxes, scores, labels, overlap):
    best = {int(labels[i]): i for i in scores.argsort().tolist()}
    return sorted(best.values(), key=lambda i: -scores[i])


def what_goes(boxes, scores, labels, overlap):
    stay = by_loops(boxes, scores, labels, overlap)
    return [i for i in scores.argsort(descending=True).tolist() if i not in stay]


def itself(boxes, scores, labels, overlap):
    """Each box overlaps itself by 1."""
    close = (box_iou(boxes, boxes) > overlap) & (labels[:, None] == labels)
    return (~close.any(dim=1)).nonzero()[:, 0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda b, s, c, t: s.argsort(descending=True), "every box stays"),
        (lambda b, s, c, t: by_loops(b, -torch.arange(len(s)), c, t), "sort by score"),
        (lambda b, s, c, t: by_loops(b, -s, c, t), "From which end"),
        (lambda b, s, c, t: by_loops(b, s, 0 * c, t), "same class"),
        (lambda b, s, c, t: by_loops(b, s, c, t, operator.ge), "exactly `overlap` stays"),
        (lambda b, s, c, t: by_loops(b, s, c, 0.6), "whatever `overlap` says"),
        (by_the_dead, "a box that is gone suppresses"),
        (one_a_class, "two rings, far apart"),
        (what_goes, "Return the others"),
        (reversed_order, "in another order"),
        (itself, "does it suppress itself"),
        (mask, "mask"),
        (the_boxes, "boxes, perhaps"),
        (the_scores, "look like scores"),
        (lambda *a: by_loops(*a)[:2], "fewer than should stay"),
        (lambda *a: by_loops(*a) * 2, "named twice"),
        (lambda *a: [len(a[1])], "lies outside"),
        (lambda *a: None, "returns nothing"),
        (lambda *a: "0, 1", "should return indices"),
        (lambda *a: 1 / 0, "ZeroDivisionError"),
        (lambda boxes: [], "TypeError"),
    ],
)
def test_a_wrong_answer_gets_the_hint_that_fits_it(answer, said):
    verdict = lesson09.check(answer)
    assert not verdict.passed and said in verdict.message, verdict


@pytest.mark.parametrize("answer", [None, 3, [0, 1], torch.zeros(3)])
def test_what_is_no_function_gets_a_hint(answer):
    verdict = lesson09.check(answer)
    assert not verdict.passed and "function" in verdict.message


def test_the_cases_tell_all_mistakes_apart():
    mistakes = [lesson09.wrong(*case) for case in lesson09.cases()]
    answers = {str([lesson09.right(*case) for case in lesson09.cases()])}
    answers |= {str([found[mistake] for found in mistakes]) for mistake in lesson09.MISTAKES}
    assert len(answers) == 1 + len(lesson09.MISTAKES)


def test_an_answer_may_write_into_what_it_is_given():
    def destroys(boxes, scores, labels, overlap):
        stay = by_loops(boxes, scores, labels, overlap)
        boxes.zero_(), scores.zero_(), labels.zero_()
        return stay

    assert lesson09.check(destroys).passed and lesson09.check(by_loops).passed


def test_perfect_detections_have_an_ap_of_one():
    drawn = lesson09.easy_scenes(1, 12)
    rows = [coco_rows(t | {"scores": torch.ones(len(t["labels"]))}, i, [0, 1, 2]) for i, (_, t) in enumerate(drawn)]
    metrics = coco_metrics(lesson09.ground_truth(drawn), [row for each in rows for row in each])
    assert metrics["AP"] == pytest.approx(1.0) and {f"AP/{name}" for name in lesson09.KINDS} <= metrics.keys()


def test_the_scenes_are_few_large_shapes():
    for seed in SEEDS:
        for target in scenes(seed)[1]:
            assert 1 <= len(target["labels"]) <= 2 and target["labels"].max() < len(lesson09.KINDS)
            assert (target["boxes"][:, 2:] - target["boxes"][:, :2]).amax(dim=1).min() > 8
