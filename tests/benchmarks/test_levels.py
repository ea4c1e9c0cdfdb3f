"""Points of each level per gt: counted again from the labels."""

import torch

from benchmarks.levels import lines, points_by_level
from otalab.data import CocoDataset
from otalab.detect import build_detector
from otalab.detect.detector import as_targets


def test_points_are_counted_by_the_size_of_their_gt_and_by_level(shapes):
    torch.manual_seed(0)
    dataset = CocoDataset.from_folder(shapes, "val")
    model = build_detector("tiny", len(dataset.class_names), "fcos").eval()
    gts, learnt = points_by_level(model, dataset, 3)
    counted, edges = torch.zeros_like(learnt), (0, 16, 32, 64, 10**6)
    for image, target in (dataset[i] for i in range(3)):
        targets = as_targets(target)
        points, predictions = model.predict([image])
        labels = model.assign(points, predictions, [targets])[0].matched_gt.tolist()
        for gt, level in zip(labels, points.level.tolist(), strict=True):
            if gt >= 0:
                left, top, right, bottom = targets.boxes[gt].tolist()
                side = ((right - left) * (bottom - top)) ** 0.5
                counted[sum(side >= edge for edge in edges) - 1, level] += 1
    assert torch.equal(learnt, counted) and learnt.sum() > 20
    assert gts.sum() == sum(len(dataset[i][1]["boxes"]) for i in range(3))


def test_sizes_without_a_gt_have_no_row():
    gts, learnt = torch.tensor([2, 0, 4, 0]), torch.tensor([[6, 0], [0, 0], [2, 8], [0, 0]])
    head, *rows = lines(gts, learnt, (8, 16))
    assert head.split() == ["px", "gts", "stride", "8", "stride", "16"]
    assert [row.split() for row in rows] == [
        ["under", "16", "2", "3.00", "0.00"],
        ["32", "to", "64", "4", "0.50", "2.00"],
    ]
