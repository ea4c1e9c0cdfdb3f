import torch

from otalab.assign import AnchorPoints
from otalab.bench import clamped, textbook
from otalab.simulate import random_targets, simulate_predictions


def test_clamped_exponents_leave_the_textbook_labels_as_they_are():
    generator = torch.Generator().manual_seed(0)
    points = AnchorPoints.for_image((256, 320))
    targets = random_targets((256, 320), 8, 4, generator)
    scene = (points, simulate_predictions(points, targets, 4, generator), targets)
    labels = textbook(*scene)
    assert torch.equal(labels, textbook(*scene, log_sum_exp=clamped))
    assert 0 < (labels < len(targets)).sum() < len(points)  # gts and background, not all the same
