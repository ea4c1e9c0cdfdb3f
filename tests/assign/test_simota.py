"""SimOTA against loops written from its definition, and against the recorded answers of YOLOX and mmdetection."""

import math

import pytest
import torch

from otalab.assign import Predictions, Targets
from otalab.assign.prior import inside
from otalab.assign.simota import MMDETECTION, SimOTA
from otalab.errors import InputError

from .cases import KINDS, STAGES, make_case
from .golden.cases import positives, read, with_objectness


def simota_by_loop(points, predictions, targets, radius=1.5, box_too=False, eps=1e-8, outside=1e6):
    """matched_gt as a person would find it: gt by gt, point by point, class by class."""
    xy, stride, gts = points.xy.tolist(), points.stride.tolist(), targets.boxes.tolist()
    logits, boxes = predictions.logits.tolist(), predictions.boxes.tolist()
    quality = [math.inf] * len(xy) if predictions.quality is None else predictions.quality.tolist()

    def regions(j, box):
        (x, y), (left, top, right, bottom) = xy[j], box
        reach = radius * stride[j]
        square = abs(x - (left + right) / 2) < reach and abs(y - (top + bottom) / 2) < reach
        if not box_too:
            return square, square
        inside = left < x < right and top < y < bottom
        return square and inside, square or inside

    somebodys = [j for j in range(len(xy)) if any(regions(j, box)[1] for box in gts)]
    costs, wants = [], []
    for box, label in zip(gts, targets.labels.tolist(), strict=True):
        costs.append({})
        overlaps = []
        for j in somebodys:
            p = [math.sqrt(sigmoid(logit) * sigmoid(quality[j])) for logit in logits[j]]
            entropy = -sum(math.log(p[c] if c == label else 1 - p[c]) for c in range(len(p)))
            overlaps.append(overlap(boxes[j], box))
            far = 0 if regions(j, box)[0] else outside
            costs[-1][j] = entropy - 3 * math.log(overlaps[-1] + eps) + far
        wants.append(max(1, int(sum(sorted(overlaps, reverse=True)[:10]) + 1e-6)))
    taken = [sorted(cost, key=cost.get)[:k] for cost, k in zip(costs, wants, strict=True)]
    labels = [-1] * len(xy)
    for j in somebodys:
        takers = [i for i, mine in enumerate(taken) if j in mine]
        if len(takers) == 1:
            labels[j] = takers[0]
        elif takers:
            labels[j] = min(range(len(gts)), key=lambda i: costs[i][j])
    return labels


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def overlap(a, b):
    """IoU of two boxes; an inverted one has no area."""
    area = [max(0, right - left) * max(0, bottom - top) for left, top, right, bottom in (a, b)]
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / (area[0] + area[1] - shared) if shared else 0.0


@pytest.mark.parametrize(("stage", "scene"), KINDS)
def test_labels_are_those_of_the_definition(stage, scene):
    for seed, objectness in enumerate((True, False)):
        case = make_case(seed, (64, 96), num_gt=7, num_classes=3, stage=stage, scene=scene)
        case = with_objectness(case, seed) if objectness else case
        assert SimOTA()(*case).matched_gt.tolist() == simota_by_loop(*case)
        loop = simota_by_loop(*case, radius=2.5, box_too=True, eps=1e-7, outside=1e5)
        assert SimOTA(**MMDETECTION)(*case).matched_gt.tolist() == loop


@pytest.mark.parametrize("record", read("simota"), ids=lambda record: "{stage} {scene}".format(**record["case"]))
def test_labels_are_those_that_yolox_and_mmdetection_gave(record):
    case = with_objectness(make_case(**record["case"], dtype=torch.float32), record["objectness"])
    assert positives(SimOTA()(*case).matched_gt.tolist()) == record["yolox"]
    assert positives(SimOTA(**MMDETECTION)(*case).matched_gt.tolist()) == record["mmdetection"]


def test_without_an_objectness_branch_the_objectness_is_one():
    points, predictions, targets = make_case(3, scene="crowd")
    certain = Predictions(predictions.logits, predictions.boxes, torch.full((len(points),), 800.0))
    plain, same = (SimOTA().problem(points, p, targets)[0] for p in (predictions, certain))
    assert torch.equal(plain, same)


def test_a_contested_point_may_go_to_a_gt_that_did_not_take_it():
    found = 0
    for seed in range(6):
        case = make_case(seed, num_gt=12, scene="huge")
        cost, k = SimOTA().problem(*case)
        taken = cost.argsort(dim=1, stable=True).argsort(dim=1) < k[:, None]
        for j, owner in enumerate(SimOTA()(*case).matched_gt.tolist()):
            if owner >= 0 and not taken[owner, j]:
                assert taken[:, j].sum() > 1
                assert cost[owner, j] < cost[taken[:, j], j].min()
                found += 1
    assert found > 0


def test_the_deficit_counts_what_a_gt_wanted_and_did_not_get():
    case = make_case(1, num_gt=20, scene="crowd")
    _, k = SimOTA().problem(*case)
    assignment = SimOTA()(*case)
    got = assignment.counts.tolist()
    assert assignment.deficit.tolist() == [max(0, a - b) for a, b in zip(k.tolist(), got, strict=True)]
    assert assignment.deficit.sum() > 0


@pytest.mark.parametrize("conflicts", ["cost", "price"])
@pytest.mark.parametrize("options", [{}, MMDETECTION], ids=["yolox", "mmdetection"])
@pytest.mark.parametrize(
    ("box", "points_for_it"),
    [
        pytest.param([900.0, 900.0, 960.0, 960.0], 0, id="outside the image"),
        pytest.param([60.0, 60.0, 60.0, 60.0], 1, id="no area"),
        pytest.param([100.0, 100.0, 40.0, 40.0], 1, id="inverted"),
    ],
)
def test_a_strange_gt_alone_gets_one_point_if_its_centre_is_in_the_image(conflicts, options, box, points_for_it):
    points, predictions, _ = make_case(0, num_gt=0, stage="early")
    targets = Targets(torch.tensor([box], dtype=torch.float64), torch.tensor([0]))
    assignment = SimOTA(conflicts=conflicts, **options)(points, predictions, targets)
    assert assignment.counts.tolist() == [points_for_it]
    assert assignment.deficit.tolist() == [1 - points_for_it]


@pytest.mark.parametrize("conflicts", ["cost", "price"])
def test_of_equal_gts_the_first_takes_all(conflicts):
    case = make_case(1, num_gt=4, scene="duplicates", stage="late")
    counts = SimOTA(conflicts=conflicts)(*case).counts.tolist()
    assert counts[0] > 1
    assert counts[1] == 0


@pytest.mark.parametrize("conflicts", ["cost", "price"])
@pytest.mark.parametrize("stage", STAGES)
def test_sixty_gts_and_fewer_points_than_candidates_are_no_trouble(conflicts, stage):
    assigner = SimOTA(conflicts=conflicts)
    crowd = assigner(*make_case(1, num_gt=60, scene="crowd", stage=stage))
    assert 0 < crowd.positive.sum() < len(crowd.matched_gt) / 2
    few = assigner(*make_case(1, (16, 16), num_gt=2, stage=stage, strides=(8,)))
    assert few.counts.sum() >= 1


def test_huge_logits_cost_no_more_than_a_hundred_a_class():
    points, predictions, targets = make_case(0, num_gt=3, num_classes=2)
    wild = Predictions(predictions.logits * 1e4, predictions.boxes)
    cost, _ = SimOTA(iou_weight=0.0, off_region=0.0).problem(points, wild, targets)
    assert cost[cost.isfinite()].max() == 200
    assert cost.min() >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region": "box"}, "region 'box' is none of centre, box or centre"),
        ({"conflicts": "iou"}, "conflicts 'iou' is none of cost, price"),
        ({"q": 0}, "q must be a whole number of at least 1, not 0"),
        ({"center_radius": 0.0}, r"center_radius must be positive and finite, not 0\.0"),
        ({"iou_eps": 0.0}, r"iou_eps must be positive and finite, not 0\.0"),
        ({"cls_weight": -1.0}, r"cls_weight must be finite and not negative, not -1\.0"),
        ({"iou_weight": float("nan")}, "iou_weight must be finite and not negative, not nan"),
        ({"off_region": float("inf")}, "off_region must be finite and not negative, not inf"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SimOTA(**options)


def test_the_weights_weigh():
    case = make_case(2, scene="crowd")
    only_box, only_class = SimOTA(cls_weight=0.0), SimOTA(iou_weight=0.0)
    both = only_box.problem(*case)[0] + only_class.problem(*case)[0]
    own = inside(case.points, case.targets.boxes, radius=1.5, margin=-torch.inf)
    whole = SimOTA().problem(*case)[0]
    finite = whole.isfinite()
    assert torch.allclose((both - 1e6 * ~own)[finite], whole[finite])
