"""AutoAssign against loops written from its definition, and recorded losses and gradients of mmdetection."""

import copy
import math

import pytest
import torch
from torch import nn

from otalab import boxes as box_ops
from otalab.assign import AnchorPoints, Predictions, Targets
from otalab.assign.autoassign import AutoAssign
from otalab.errors import InputError

from .cases import KINDS, Case, make_case
from .golden.cases import read, with_objectness
from .golden.record_autoassign import case_of, prior_of
from .own_losses import answer, normalised, sizes
from .strange_gts import STRANGE, few_points, sound, strange_case


def trained(num_classes, **options):
    """An assigner whose prior is not the initial one."""
    assigner = AutoAssign(**options).for_classes(num_classes)
    assigner.mean, assigner.sigma = (nn.Parameter(part) for part in prior_of(num_classes))
    return assigner


def losses_by_loop(case, kept, mean, sigma, topk):
    """(positive, negative, centre) losses, not divided, the sum of priors, and {point: positive weight} of each gt."""
    points, predictions, targets = case
    xy, stride, gts = points.xy.tolist(), points.stride.tolist(), targets.boxes.tolist()
    n, labels, mean, sigma = len(points), targets.labels.tolist(), mean.tolist(), sigma.tolist()
    confidence = predictions.logits.sigmoid()
    if predictions.quality is not None:
        confidence = confidence * predictions.quality.sigmoid()[:, None]
    confidence, classes = confidence.tolist(), predictions.logits.shape[1]
    iou = box_ops.iou(targets.boxes[:, None], predictions.boxes).tolist()
    giou = box_ops.iou(targets.boxes[:, None], predictions.boxes, kind="giou").tolist()
    factor = [[1.0] * classes for _ in range(n)]
    positive, sum_of_priors, bags = 0.0, 0.0, []
    for i, (left, top, right, bottom) in enumerate(gts):
        c, prior = labels[i], []
        for (x, y), s in zip(xy, stride, strict=True):
            u, v = (x - (left + right) / 2) / s, (y - (top + bottom) / 2) / s
            exponent = ((u - mean[c][0]) / sigma[c][0]) ** 2 + ((v - mean[c][1]) / sigma[c][1]) ** 2
            prior.append(math.exp(-exponent / 2))
        within = [j for j, (x, y) in enumerate(xy) if min(x - left, y - top, right - x, bottom - y) > 0]
        if topk and not within:
            within = sorted(range(n), key=lambda j: -prior[j])[:topk]
        weight, p = {}, {}
        for j in within:
            p[j] = confidence[j][c] * math.exp(-5 * (1 - giou[i][j]))
            weight[j] = kept[j] * math.exp(3 * p[j]) * prior[j]
            sum_of_priors += kept[j] * prior[j]
        total = max(sum(weight.values()), 1e-12)
        average = sum(weight[j] * p[j] for j in within) / total
        positive += -math.log(average) if average > math.exp(-100) else 100
        bags.append(weight)
        sharp = {j: 1 / max(1 - max(row[j] for row in iou), 1e-12) for j in within}
        for j in within:
            low, high = min(sharp.values()), max(sharp.values())
            factor[j][c] = 1 - (sharp[j] - low + 1e-12) / (high - low + 1e-12)
    negative = 0.0
    for j in range(n):
        for p, f in zip(confidence[j], factor[j], strict=True):
            negative -= kept[j] * (p * f) ** 2 * math.log1p(-p * f)
    centre = len(gts) / sum_of_priors if sum_of_priors > 1e-12 else 0.0
    return 0.25 * positive, 0.75 * negative, 0.75 * centre, sum_of_priors, bags


@pytest.mark.parametrize(("stage", "scene"), KINDS)
def test_losses_are_those_of_the_definition(stage, scene):
    for seed, topk in enumerate((0, 5)):
        case = make_case(seed, (64, 96), num_gt=5, num_classes=3, stage=stage, scene=scene, strides=(8, 16))
        case = with_objectness(case, seed) if topk else case
        assigner = trained(3, force_topk=True, topk=topk) if topk else AutoAssign()
        mean, sigma = prior_of(3) if topk else (torch.zeros(3, 2), torch.ones(3, 2))
        assignment = assigner(*case)
        kept = torch.arange(len(case.points)) % 5 > 0
        for mask in (torch.ones_like(kept), kept):
            losses = assignment.make_losses(case.predictions, mask)
            *expected, priors, bags = losses_by_loop(case, mask.tolist(), mean, sigma, topk)
            found = [float(losses[name].total.detach()) for name in ("positive", "negative", "centre")]
            assert found == pytest.approx(expected, rel=1e-8)
            assert [float(term.count) for term in losses.values()] == pytest.approx([5, priors, 1])
            if mask.all():
                for gt, bag in enumerate(bags):
                    mine = (assignment.matched_gt == gt).nonzero().flatten().tolist()
                    assert set(mine) <= set(bag)
                    shares = [bag[j] / sum(bag.values()) for j in mine]
                    assert assignment.label_weight[mine].tolist() == pytest.approx(shares, rel=1e-5)


@pytest.mark.parametrize("record", read("autoassign"), ids=lambda record: "{stage} {scene}".format(**record["case"]))
def test_losses_and_gradients_are_those_that_mmdetection_gave(record):
    found = sizes(answer(trained(4), case_of(record["case"])))
    assert found == pytest.approx(record["answer"], rel=1e-5, abs=1e-7)


def test_without_an_objectness_branch_the_objectness_is_1():
    points, predictions, targets = make_case(1)
    sure = Predictions(predictions.logits, predictions.boxes, torch.full_like(points.stride, 40.0))
    without = sizes(answer(AutoAssign(), Case(points, predictions, targets)))
    assert sizes(answer(AutoAssign(), Case(points, sure, targets))) == pytest.approx(without | {"quality": 0.0})


def test_of_equal_gts_the_last_decides_what_is_background():
    """The second gt contains fewer points, and so gives another scale to the one that both contain."""
    points = AnchorPoints.for_image((8, 24), strides=(8,), dtype=torch.float64)
    wide, narrow = [0.0, 0.0, 24.0, 8.0], [0.0, 0.0, 16.0, 8.0]
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 12.0, 8.0], [0.0, 0.0, 20.0, 8.0]], dtype=torch.float64)
    predictions = Predictions(torch.zeros(3, 1, dtype=torch.float64), boxes)
    weights = []
    for gts in ([wide, narrow], [narrow, wide]):
        targets = Targets(torch.tensor(gts, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
        weights.append(AutoAssign().insides(points, predictions, targets).negative[:, 0].tolist())
    sharp = [2.0, 4.0, 6.0]  # 1 / (1 - IoU) with the better gt: 8/16, 12/16, 20/24
    assert weights[0] == pytest.approx([1.0, 0.0, 0.0], abs=1e-9)
    assert weights[1] == pytest.approx([1 - (s - 2) / 4 for s in sharp], abs=1e-9)


def test_a_gt_without_a_point_has_a_constant_loss_or_its_nearest_points_on_demand():
    points = AnchorPoints.for_image((32, 32), strides=(8,), dtype=torch.float64)
    targets = Targets(torch.tensor([[6.0, 6.0, 10.0, 10.0]], dtype=torch.float64), torch.tensor([0]))
    case = Case(points, Predictions(torch.zeros(16, 1, dtype=torch.float64), points.boxes(1.0)), targets)
    alone = answer(AutoAssign(), case)
    assert float(alone["positive"]) == 25
    assert not alone["boxes"].any()
    assert not AutoAssign()(*case).positive.any()
    forced = AutoAssign(force_topk=True, topk=4)
    assert answer(forced, case)["boxes"].any()
    assert forced.insides(*case).point.tolist() == [0, 1, 4, 5]


def test_the_centre_prior_learns_where_the_predictions_are_good():
    """Boxes right of the centre are perfect, all others bad: mean x rises."""
    points, _, _ = make_case(0, (64, 64), num_gt=0, strides=(8,))
    gt = torch.tensor([[8.0, 8.0, 56.0, 56.0]], dtype=torch.float64)
    boxes = torch.where((points.xy[:, :1] > 32), gt, points.boxes(1.0))
    case = Case(points, Predictions(torch.zeros(64, 2, dtype=torch.float64), boxes), Targets(gt, torch.tensor([1])))
    assigner = AutoAssign().for_classes(2)
    optimiser = torch.optim.SGD(assigner.parameters(), lr=0.5)
    for _ in range(5):
        optimiser.zero_grad()
        normalised(assigner(*case), case.predictions)["positive"].backward()
        optimiser.step()
    assert assigner.mean[1, 0] > 0.1
    assert abs(float(assigner.mean[1, 1].detach())) < 1e-6
    assert not assigner.mean[0].any()


def test_a_deviation_of_zero_is_no_trouble():
    assigner = AutoAssign().for_classes(4)
    with torch.no_grad():
        assigner.sigma.zero_()
    assert all(value.isfinite().all() for value in answer(assigner, make_case(0)).values())


def test_what_it_learns_is_saved_copied_and_moved_with_a_detector():
    plain = AutoAssign(confidence=2.0)
    assert not plain.state_dict()
    assigner = plain.for_classes(3)
    assert plain.mean is None
    assert assigner.confidence == 2.0
    detector = nn.Module()
    detector.assigner = assigner
    assert {name: tuple(value.shape) for name, value in detector.state_dict().items()} == {
        "assigner.mean": (3, 2),
        "assigner.sigma": (3, 2),
    }
    twin = copy.deepcopy(detector)
    with torch.no_grad():
        assigner.mean.fill_(0.5)
    assert not twin.assigner.mean.any()
    twin.load_state_dict(detector.state_dict())
    case = make_case(2, num_classes=3)
    assert sizes(answer(twin.assigner, case)) == sizes(answer(assigner, case))
    assert twin.to("meta").assigner.sigma.device.type == "meta"


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("force_topk", [False, True])
def test_strange_gts_have_finite_losses_and_gradients(name, force_topk):
    for case in (strange_case(name), strange_case(name, num_classes=3, strides=(8,)), few_points()):
        assigner = AutoAssign(force_topk=force_topk).for_classes(3)
        assignment = sound(assigner, case)
        assert not assignment.positive.all() or len(case.points) < 5
        found = answer(assigner, case)
        assert all(value.isfinite().all() for value in found.values())
        assert found["centre"] < 1e3  # no prior is as good as none


def test_predicted_boxes_of_no_size_or_inverted_have_finite_losses_and_gradients():
    points, predictions, targets = make_case(0)
    corner = points.xy.repeat(1, 2)
    for boxes in (corner, corner + torch.tensor([300.0, 300.0, -300.0, -300.0]), 1e7 * corner):
        found = answer(AutoAssign(), Case(points, Predictions(predictions.logits, boxes), targets))
        assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 0}, "topk must be a whole number of at least 1, not 0"),
        ({"gamma": 0.5}, r"gamma must be finite and at least 1, not 0\.5"),
        ({"pos_loss_weight": -1.0}, r"pos_loss_weight must be finite and not negative, not -1\.0"),
        ({"neg_loss_weight": float("inf")}, "neg_loss_weight must be finite and not negative, not inf"),
        ({"centre_loss_weight": -1.0}, r"centre_loss_weight must be finite and not negative, not -1\.0"),
        ({"reg_weight": -1.0}, r"reg_weight must be finite and not negative, not -1\.0"),
        ({"confidence": float("nan")}, "confidence must be finite and not negative, not nan"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        AutoAssign(**options)


def test_a_prior_of_fewer_classes_than_the_logits_is_refused():
    with pytest.raises(InputError, match="the priors are of 2 classes, the logits of 3"):
        AutoAssign().for_classes(2)(*make_case(0, num_classes=3))
