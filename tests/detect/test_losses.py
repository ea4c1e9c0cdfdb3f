import math
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from processes import in_processes
from torch.testing import assert_close

from benchmarks.device import HostWaits
from otalab.assign import Assignment, Predictions, Targets
from otalab.assign.types import LossTerm
from otalab.detect.distributed import mean_over_processes
from otalab.detect.losses import detection_losses
from otalab.errors import InputError

RTOL = 1e-8  # torchvision's GIoU adds 1e-7 px^2 to the areas it divides by; those here are larger than 10 px^2


def scene(matched: list[list[int]], seed: int = 0) -> tuple[list[Predictions], list[Targets], list[Assignment]]:
    """A batch in float64: image i has the labels matched[i], three gts and four classes."""
    torch.manual_seed(seed)
    predictions, targets, assignments = [], [], []
    for labels in matched:
        n = len(labels)
        corner, size = 50 * torch.rand(n, 2), 5 + 40 * torch.rand(n, 2)
        boxes = torch.cat((corner, corner + size), dim=1).double().requires_grad_()
        logits = (2 * torch.randn(n, 4)).double().requires_grad_()
        quality = torch.randn(n).double().requires_grad_()
        predictions.append(Predictions(logits, boxes, quality))
        gts = torch.tensor([[0, 0, 30, 30], [20, 10, 60, 50], [5, 40, 25, 80]]).double()
        targets.append(Targets(gts, torch.tensor([3, 0, 3])))
        none = torch.zeros(3, dtype=torch.int64)
        assignments.append(Assignment(torch.tensor(labels), torch.zeros(4, dtype=torch.int64), none))
    return predictions, targets, assignments


def point_by_point(predictions, targets, assignments) -> dict[str, float]:
    """The same losses, one point and one class at a time, from the definitions."""
    focal = giou_sum = bce = 0.0
    positives = 0
    for p, t, a in zip(predictions, targets, assignments, strict=True):
        for i, gt in enumerate(a.matched_gt.tolist()):
            if gt == -2:
                continue
            for c in range(p.logits.shape[1]):
                probability = 1 / (1 + math.exp(-p.logits[i, c].item()))
                if gt >= 0 and t.labels[gt] == c:
                    focal += -0.25 * (1 - probability) ** 2 * math.log(probability)
                else:
                    focal += -0.75 * probability**2 * math.log(1 - probability)
            if gt >= 0:
                positives += 1
                iou, giou = overlaps(p.boxes[i].tolist(), t.boxes[gt].tolist())
                giou_sum += 1 - giou
                quality = 1 / (1 + math.exp(-p.quality[i].item()))
                bce += -(iou * math.log(quality) + (1 - iou) * math.log(1 - quality))
    normaliser = max(1, positives)
    return {"classification": focal / normaliser, "box": 2 * giou_sum / normaliser, "quality": 0.5 * bce / normaliser}


def overlaps(a: list[float], b: list[float]) -> tuple[float, float]:
    """IoU and GIoU of two boxes."""

    def area(x1, y1, x2, y2):
        return max(0.0, x2 - x1) * max(0.0, y2 - y1)

    shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    hull = area(min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    union = area(*a) + area(*b) - shared
    return shared / union, shared / union - (hull - union) / hull


@pytest.mark.parametrize(
    "matched",
    [
        [[0, -1, 1, -2, 2, -1, 0, -2], [-1, -1, 2, -2]],
        [[-1, -1], [0, 1]],  # an image without positives beside one with
        [[-1, -2, -1]],  # no positive at all
        [[-2, -2]],
        [[0]],
    ],
)
def test_losses_equal_the_definitions_summed_point_by_point(matched):
    batch = scene(matched)
    found = {name: loss.item() for name, loss in detection_losses(*batch).items()}
    assert found == pytest.approx(point_by_point(*batch), rel=RTOL, abs=1e-12)


def test_an_ignored_point_has_no_loss_and_no_gradient():
    batch = scene([[0, -1, -2, 1, -2]])
    (p,) = batch[0]
    sum(detection_losses(*batch).values()).backward()
    ignored, background = [2, 4], [1]
    for values in (p.logits, p.boxes, p.quality):
        assert values.grad[ignored].eq(0).all()
    assert p.logits.grad[background].ne(0).all()
    assert p.boxes.grad[background].eq(0).all() and p.quality.grad[background].eq(0).all()
    assert p.boxes.grad[[0, 3]].ne(0).any(dim=1).all() and p.quality.grad[[0, 3]].ne(0).all()


def test_the_quality_target_is_a_number_not_a_path_for_gradients():
    batch = scene([[0, 1, -1]])
    (p,) = batch[0]
    gradient = torch.autograd.grad(detection_losses(*batch)["quality"], p.boxes, allow_unused=True)[0]
    assert gradient is None or gradient.eq(0).all()


def with_soft_labels(batch, **soft: list[float]):
    """The batch, its single assignment with soft labels."""
    predictions, targets, (assignment,) = batch
    values = {name: torch.tensor(value, dtype=torch.float64) for name, value in soft.items()}
    return predictions, targets, [replace(assignment, **values)]


def test_a_weight_of_one_half_halves_what_a_point_adds():
    def totals(factor: float) -> dict[str, float]:
        weights = [factor] + 3 * [1.0]
        batch = with_soft_labels(scene([[0, 1, -1, 2]]), label_weight=weights, box_weight=weights)
        return {name: loss.item() * (2 + factor) for name, loss in detection_losses(*batch).items()}

    whole, half, none = totals(1.0), totals(0.5), totals(0.0)
    plain = {name: 3 * loss for name, loss in point_by_point(*scene([[0, 1, -1, 2]])).items()}
    assert whole == pytest.approx(plain, rel=RTOL)
    for name in whole:
        assert half[name] == pytest.approx((whole[name] + none[name]) / 2, rel=1e-9)
        assert none[name] < whole[name]


def test_losses_are_divided_by_the_weight_of_the_positives_and_at_least_by_one():
    light = detection_losses(*with_soft_labels(scene([[0, -1, 1]]), box_weight=[0.25, 9.0, 0.5]))
    heavy = detection_losses(*with_soft_labels(scene([[0, -1, 1]]), box_weight=[2.5, 9.0, 5.0]))
    assert heavy["box"].item() == pytest.approx(light["box"].item() * 10 / 7.5, rel=1e-9)
    assert heavy["classification"].item() == pytest.approx(light["classification"].item() / 7.5, rel=1e-9)


def test_a_score_is_the_probability_that_has_no_loss():
    for score in (0.2, 0.5, 0.9):
        predictions, targets, assignments = with_soft_labels(scene([[0]]), score=[score])
        logits = torch.full((1, 4), -40.0, dtype=torch.float64)
        logits[0, targets[0].labels[0]] = math.log(score / (1 - score))
        met = replace(predictions[0], logits=logits)
        assert detection_losses([met], targets, assignments)["classification"].item() == pytest.approx(0, abs=1e-20)
        off = replace(predictions[0], logits=logits + 0.5)
        p = 1 / (1 + math.exp(-math.log(score / (1 - score)) - 0.5))
        expected = -(score * math.log(p) + (1 - score) * math.log(1 - p)) * (score - p) ** 2
        assert detection_losses([off], targets, assignments)["classification"].item() == pytest.approx(expected)


def test_losses_that_an_assignment_brings_along_are_summed_over_the_batch_and_its_counts():
    predictions, targets, assignments = scene([[0, -2, 1], [-1]])

    def bring(total: float, count: float):
        def losses(p: Predictions, kept: torch.Tensor) -> dict[str, LossTerm]:
            return {"own": LossTerm(total * p.logits[kept].sum(), torch.tensor(count))}

        return losses

    own = [replace(a, make_losses=bring(i + 1.0, 3.0 * i)) for i, a in enumerate(assignments)]
    first, second = predictions
    expected = (first.logits[[0, 2]].sum() + 2 * second.logits.sum()) / 3
    found = detection_losses(predictions, targets, own)
    assert found.keys() == {"own"} and found["own"].item() == pytest.approx(expected.item())
    found["own"].backward()
    assert first.logits.grad[1].eq(0).all() and second.logits.grad.ne(0).all()
    few = detection_losses(predictions[:1], targets[:1], own[:1])  # counts nothing: divided by one
    assert few["own"].item() == pytest.approx(first.logits[[0, 2]].sum().item())


def test_losses_do_not_depend_on_how_images_are_ordered():
    predictions, targets, assignments = scene([[0, -1, 1, -2], [-1, 2], [-1]])
    there = detection_losses(predictions, targets, assignments)
    back = detection_losses(predictions[::-1], targets[::-1], assignments[::-1])
    assert_close(there, back, rtol=1e-12, atol=0)


def test_a_single_process_is_its_own_mean():
    assert mean_over_processes(torch.tensor(3.0)) == 3


MATCHED = [[0, -1, 1, 2, 0], [-1, -1, 2]]  # of process 0 and of process 1: four positives and one


def one_of_two(rank: int, folder: str) -> None:
    """A process: its losses, and its count of positives after the mean, into `folder`."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        count = torch.tensor(float(4 - 3 * rank))
        mean = mean_over_processes(count)
        losses = {name: loss.item() for name, loss in detection_losses(*scene([MATCHED[rank]], seed=rank)).items()}
        torch.save({"count": count, "mean": mean, "losses": losses}, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_divide_by_the_mean_of_their_positives(tmp_path):
    in_processes(2, one_of_two, str(tmp_path))
    for rank, positives in enumerate((4, 1)):
        said = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert said["mean"] == 2.5 and said["count"] == positives  # and the count is not overwritten
        alone = point_by_point(*scene([MATCHED[rank]], seed=rank))
        assert said["losses"] == pytest.approx({k: v * positives / 2.5 for k, v in alone.items()}, rel=RTOL)


def test_predictions_without_a_quality_have_no_such_loss():
    predictions, targets, assignments = scene([[0, -1, 2]])
    without = [replace(p, quality=None) for p in predictions]
    expected = detection_losses(predictions, targets, assignments)
    assert detection_losses(without, targets, assignments) == {k: expected[k] for k in ("classification", "box")}


def test_a_quality_in_some_predictions_alone_is_refused():
    predictions, targets, assignments = scene([[0, -1, 2], [1, -1, -1]])
    mixed = [predictions[0], replace(predictions[1], quality=None)]
    with pytest.raises(InputError, match="1 of 2 predictions lack a quality"):
        detection_losses(mixed, targets, assignments)


def test_the_host_waits_as_often_for_a_batch_as_for_an_image():
    waits = []
    for number in (1, 4):
        batch = scene([[0, -1, 2, -2]] * number)
        with HostWaits() as seen:
            detection_losses(*batch)
        waits.append(seen.waits)
    assert waits[0] == waits[1] and waits[0].total() <= 6  # one is ours; torchvision picks by masks in its GIoU


def test_balanced_gts_have_the_mean_of_their_points_losses_each():
    predictions, targets, assignments = scene([[0, 0, 0, 2, 2, 1]])
    alone = [detection_losses(*scene_of(predictions, targets, gt, [0, 0, 0, 2, 2, 1])) for gt in range(3)]
    together = detection_losses(predictions, targets, [a.balanced() for a in assignments])
    for name in ("box", "quality"):
        assert_close(together[name], sum(losses[name] for losses in alone) / 3)


def scene_of(predictions, targets, gt: int, labels: list[int]):
    """The same batch, in which all points but those of one gt are ignored."""
    kept = torch.tensor([label if label == gt else -2 for label in labels])
    none = torch.zeros(3, dtype=torch.int64)
    return predictions, targets, [Assignment(kept, torch.zeros(4, dtype=torch.int64), none)]
