"""PAA against a loop written from its rule, and against mmdetection with scikit-learn's mixture."""

import math

import pytest
import torch
from torchvision.ops import generalized_box_iou, sigmoid_focal_loss

from otalab.assign import Predictions, Targets
from otalab.assign.max_iou import MaxIoU
from otalab.assign.paa import PAA, fit_two_gaussians
from otalab.errors import InputError

from .cases import SCENES, make_case
from .golden.cases import positives, read

STAGES = ("early", "middle", "late", "equal")


def density(x, mean, variance, weight):
    """Log density of x under a weighted Gaussian."""
    return math.log(weight) - 0.5 * math.log(2 * math.pi * variance) - (x - mean) ** 2 / (2 * variance)


def mixture_by_loop(numbers):
    """Expectation maximisation as scikit-learn does it: log densities under both Gaussians, number by number."""
    gaussians, before = [(min(numbers), 1.0, 0.5), (max(numbers), 1.0, 0.5)], -math.inf
    for _ in range(100):
        logs = [[density(x, *g) for g in gaussians] for x in numbers]
        totals = [max(pair) + math.log(sum(math.exp(p - max(pair)) for p in pair)) for pair in logs]
        masses, found = [], []
        for j in (0, 1):
            shares = [math.exp(pair[j] - total) for pair, total in zip(logs, totals, strict=True)]
            mass = sum(shares) + 10 * 2**-52
            mean = sum(s * x for s, x in zip(shares, numbers, strict=True)) / mass
            variance = sum(s * (x - mean) ** 2 for s, x in zip(shares, numbers, strict=True)) / mass + 1e-6
            masses.append(mass)
            found.append((mean, variance))
        gaussians = [(*found[j], masses[j] / sum(masses)) for j in (0, 1)]
        now = sum(totals) / len(numbers)
        if abs(now - before) < 1e-3:
            break
        before = now
    return [[density(x, *g) for g in gaussians] for x in numbers]


def kept_by_loop(losses, keep_lone):
    """How many candidates of rising loss stay: indices into `losses`."""
    if len(losses) < 2:
        return list(range(len(losses))) if keep_lone else []
    logs = mixture_by_loop(losses)
    good = [i for i, (first, second) in enumerate(logs) if first >= second - 1e-9]
    totals = [sum(math.exp(p) for p in logs[i]) for i in good]
    return good[: totals.index(max(totals)) + 1] if good else []


def labels_by_loop(points, predictions, targets, topk=9, keep_lone=False, reg_weight=1.3):
    """The rule, gt by gt, from the labels of the first stage."""
    first = MaxIoU(0.1, 0.1).match(points.boxes(scale=8.0), targets.boxes).tolist()
    labels = [-1] * len(points)
    for gt, (label, box) in enumerate(zip(targets.labels.tolist(), targets.boxes, strict=True)):
        target = torch.zeros_like(predictions.logits)
        target[:, label] = 1
        loss = sigmoid_focal_loss(predictions.logits, target).sum(dim=1)
        loss = loss + reg_weight * (1 - generalized_box_iou(predictions.boxes, box[None])[:, 0])
        pairs = []
        for level in points.level.unique().tolist():
            mine = [p for p in range(len(points)) if first[p] == gt and points.level[p] == level]
            pairs += sorted((float(loss[p]), p) for p in mine)[:topk]
        pairs.sort()
        for index in kept_by_loop([number for number, _ in pairs], keep_lone):
            labels[pairs[index][1]] = gt
    return labels


@pytest.mark.parametrize("scene", ["normal", "crowd", "huge", "border", "outside", "on the grid"])
@pytest.mark.parametrize("stage", ["early", "middle", "late"])
def test_labels_are_those_of_the_rule(stage, scene):
    for seed, options in enumerate(({}, {"topk": 2}, {"reg_weight": 0.0, "keep_lone": True})):
        case = make_case(seed, num_gt=5, stage=stage, scene=scene, num_classes=(4, 1, 20)[seed])
        assert PAA(**options)(*case).matched_gt.tolist() == labels_by_loop(*case, **options)


@pytest.mark.parametrize("record", read("paa"), ids=lambda record: record["case"]["scene"])
def test_losses_and_labels_are_those_of_mmdetection(record):
    points, predictions, targets = make_case(**record["case"])
    first = PAA(reassign=False)(points, predictions, targets)
    if "first stage" in record:
        assert positives(first.matched_gt.tolist()) == record["first stage"]
    point = first.positive.nonzero().squeeze(1)[:6]
    loss = PAA().losses(predictions, targets, point, first.matched_gt[point])
    assert loss.tolist() == pytest.approx(record["first losses"], rel=1e-5)
    assert positives(PAA()(points, predictions, targets).matched_gt.tolist()) == record["positives"]


@pytest.mark.parametrize("scene", SCENES)
def test_the_first_stage_alone_is_a_choice_and_the_final_positives_are_some_of_it(scene):
    case = make_case(2, scene=scene)
    first, final = PAA(reassign=False)(*case), PAA()(*case)
    expected = MaxIoU(0.1, 0.1)(*case)
    assert first.matched_gt.tolist() == expected.matched_gt.tolist()
    assert torch.equal(final.matched_gt[final.positive], first.matched_gt[final.positive])
    assert set(final.matched_gt[~final.positive].tolist()) == {-1}


def test_a_single_candidate_stays_only_if_asked_for():
    points, predictions, _ = make_case(0, num_gt=0, stage="early")
    far = Targets(torch.tensor([[-60.0, -60.0, -50.0, -51.0]], dtype=torch.float64), torch.tensor([0]))
    lone = PAA(reassign=False)(points, predictions, far)
    assert lone.counts.tolist() == [1]
    assert PAA()(points, predictions, far).counts.tolist() == [0]
    assert PAA(keep_lone=True)(points, predictions, far).matched_gt.tolist() == lone.matched_gt.tolist()


def test_the_quality_branch_is_not_looked_at():
    points, predictions, targets = make_case(0)
    quality = torch.linspace(-9, 9, len(points), dtype=torch.float64)
    a = PAA()(points, predictions, targets)
    b = PAA()(points, Predictions(predictions.logits, predictions.boxes, quality), targets)
    assert a.matched_gt.tolist() == b.matched_gt.tolist()


def test_losses_that_are_all_alike_go_to_gaussian_0():
    spread = torch.tensor([0.0, 1e-9, 1e-6, 1e-5], dtype=torch.float64)[:, None]
    x = 2.4 + spread * torch.linspace(0, 1, 9, dtype=torch.float64) ** 2
    good, log = fit_two_gaussians(x, torch.ones_like(x, dtype=torch.bool))
    assert good.all()
    assert log.isfinite().all()


def test_a_row_is_fitted_alike_alone_and_beside_others():
    generator = torch.Generator().manual_seed(0)
    sizes = [1, 2, 3, 9, 20, 45]
    rows = [5 * torch.rand(size, generator=generator, dtype=torch.float64).sort().values for size in sizes]
    x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=torch.inf)
    good, log = fit_two_gaussians(x, x.isfinite())
    for index, row in enumerate(rows):
        alone, log_alone = fit_two_gaussians(row[None], torch.ones_like(row, dtype=torch.bool)[None])
        assert torch.equal(good[index, : len(row)], alone[0])
        assert torch.allclose(log[index, : len(row)], log_alone[0])
        logs = torch.tensor(mixture_by_loop(row.tolist()), dtype=torch.float64)
        assert torch.allclose(log_alone[0], logs.logsumexp(dim=1))
        assert torch.equal(alone[0], logs[:, 0] >= logs[:, 1] - 1e-9)


def test_no_numbers_at_all_are_no_error():
    good, log = fit_two_gaussians(torch.full((2, 3), torch.inf).double(), torch.zeros(2, 3, dtype=torch.bool))
    assert good.shape == log.shape == (2, 3)
    assert log.isfinite().all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"iou": 0.0}, "iou must be above 0 and at most 1, not 0.0"),
        ({"iou": 1.5}, "iou must be above 0 and at most 1, not 1.5"),
        ({"topk": 0}, "topk must be a whole number of at least 1, not 0"),
        ({"scale": -8.0}, "scale must be positive and finite, not -8.0"),
        ({"reg_weight": -1.0}, "reg_weight must be finite and not negative, not -1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        PAA(**options)
