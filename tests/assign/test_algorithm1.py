"""`ota` is Algorithm 1: its labels are those of algorithm1.py, or, where optima tie, as good by every measure."""

import random
import re
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from otalab.assign import OTA, Cost, Predictions, RadiusPrior, Targets, algorithm1, build_assigner
from otalab.errors import InputError

from .cases import SCENES, STAGES, Case, make_case
from .strange_gts import STRANGE, few_points, strange_case

ROOT = Path(__file__).parents[2]
GRIDS = (
    ((64, 96), (8, 16, 32)),
    ((72, 72), (8, 16, 32, 64, 128)),
    ((96, 128), (16, 32)),
    ((24, 40), (8,)),
    ((16, 16), (16,)),  # one point
)
BATCHES, IMAGES = 10, 5  # of each scene and stage; of each batch


def drawn_batches(scene, stage):
    """Options of algorithm1 and images that share their points, again and again."""
    chance = random.Random(f"{scene}, {stage}")
    for batch in range(BATCHES):
        size, strides = GRIDS[batch % len(GRIDS)]
        alpha, q, radius = (chance.choice(known) for known in ((0.5, 1.5, 3.0), (1, 5, 20), (1.0, 2.5, 4.0)))
        classes, offset = chance.choice((1, 4, 80)), chance.choice((0.0, 0.5))
        dtype = chance.choice((torch.float32, torch.float64))
        images = [
            make_case(chance.randrange(10**6), size, num_gt, classes, stage, scene, offset, dtype, strides)
            for num_gt in chance.choices((0, 1, 2, 4, 8, 16), k=IMAGES)
        ]
        yield {"alpha": alpha, "q": q, "radius": radius}, images


def ota(alpha=1.5, q=20, radius=2.5):
    return OTA(cost=Cost(alpha=alpha), prior=RadiusPrior(radius=radius), q=q)


def merit(assignment, labels):
    """How many labels, how evenly they are shared, and what they cost by the assignment's own price list."""
    m = len(assignment.deficit)
    shares = labels[labels >= 0].bincount(minlength=m).sort().values
    paid = assignment.cost[labels.where(labels >= 0, m), torch.arange(len(labels))]
    return int(shares.sum()), shares.tolist(), float(paid.sum())


def assert_equal_or_tied(assignment, labels):
    """Two best answers can differ only if the best is not unique."""
    if not torch.equal(assignment.matched_gt, labels):
        *shares, cost = merit(assignment, assignment.matched_gt)
        assert merit(assignment, labels) == (*shares, pytest.approx(cost, rel=1e-10, abs=1e-10))


@pytest.mark.parametrize("scene", SCENES)
def test_ota_is_algorithm_1(scene):
    seen = Counter()
    for options, images in (drawn for stage in STAGES for drawn in drawn_batches(scene, stage)):
        predictions, targets = zip(*((c.predictions, c.targets) for c in images), strict=True)
        points = replace(images[0].points, grid=None) if options["q"] == 5 else images[0].points
        found = ota(**options).assign_batch(points, predictions, targets)
        for image, assignment in zip(images, found, strict=True):
            labels = algorithm1(*image, **options)
            assert_equal_or_tied(assignment, labels)
            seen["equal"] += torch.equal(assignment.matched_gt, labels)
            seen["no gt"] += len(image.targets) == 0
            seen["one point"] += len(image.points) == 1
            seen["deficit"] += bool(assignment.deficit.any())
    assert seen["equal"] > (100 if scene == "duplicates" else 200), "of 250; more ties than such scenes have"
    assert min(seen["no gt"], seen["one point"], seen["deficit"]) >= 25, f"too few to prove anything: {seen}"


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("name", STRANGE)
def test_strange_gts_are_treated_alike(name, num_classes):
    case = strange_case(name, num_classes)
    assert_equal_or_tied(ota()(*case), algorithm1(*case))


def test_nine_gts_share_four_points_alike():
    case = few_points()
    labels = algorithm1(*case)
    assert_equal_or_tied(ota()(*case), labels)
    assert sorted(labels.tolist()) == sorted(set(labels.tolist())), "a label each to four gts"


def test_inverted_and_empty_predicted_boxes_are_priced_alike():
    points, predictions, targets = make_case(3, (64, 96), num_gt=5)
    boxes = predictions.boxes.clone()
    boxes[::3] = boxes[::3].flip(1)
    boxes[1::3, 2:] = boxes[1::3, :2]
    case = Case(points, Predictions(predictions.logits, boxes), targets)
    assert_equal_or_tied(ota()(*case), algorithm1(*case))


def test_ignore_regions_only_mask_what_algorithm_1_leaves_to_the_background():
    points, predictions, targets = make_case(5, (64, 96), num_gt=3)
    ignored = Targets(targets.boxes, targets.labels, torch.tensor([[0.0, 0.0, 48.0, 64.0]], dtype=torch.float64))
    labels, masked = algorithm1(points, predictions, ignored), ota()(points, predictions, ignored).matched_gt
    assert torch.equal(labels, masked.where(masked != -2, -1))
    assert torch.equal(masked == -2, (points.xy[:, 0] < 48) & (labels == -1))


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene != "tiny"])
def test_sinkhorn_is_the_papers_where_no_share_ties(scene):
    """Of `ota-paper` with the prior of `ota`; but for images with a gt to which `ota` grants the nearest point."""
    compared = 0
    for options, images in (drawn for stage in STAGES for drawn in islice(drawn_batches(scene, stage), 2)):
        prior, cost = RadiusPrior(radius=options["radius"]), Cost(alpha=options["alpha"])
        paper = build_assigner("ota-paper", prior=prior, prior_k=True, cost=cost, q=options["q"], max_iter=20)
        for image in images:
            if len(image.targets) == 0 or grants_nearest(prior, image):
                continue
            try:
                assignment = paper(*image)
            except InputError:
                with pytest.raises(InputError, match=r"^\d+ labels for \d+ anchor points"):
                    algorithm1(*image, **options, gamma=0.1, T=20)
                continue
            second, first = assignment.plan.sort(dim=0).values[-2:]
            untied = first - second > 1e-8 * first
            labels = algorithm1(*image, **options, gamma=0.1, T=20)
            assert torch.equal(labels[untied], assignment.matched_gt[untied])
            compared += int((labels[untied] >= 0).sum())
    assert compared >= 20


def grants_nearest(prior, image):
    boxes = image.targets.boxes.double()
    listed = prior.candidates(image.points, boxes)
    return len(listed.or_nearest(image.points, boxes).valid.nonzero()) > len(listed.valid.nonzero())


def test_sinkhorn_refuses_more_labels_than_points():
    with pytest.raises(InputError, match=r"^9 labels for 4 anchor points; gamma = 0 leaves some out"):
        algorithm1(*few_points(), gamma=0.1)


def lines_cited(page):
    """The paper's lines, each once, in the order of the text, which has "line 6", "lines 4 and 5", "lines 12 to 15"."""
    found = []
    for cited in re.findall(r"\blines? (\d+(?:(?:, | and | to )\d+)*)", (ROOT / page).read_text()):
        numbers = [int(number) for number in re.findall(r"\d+", cited)]
        found += range(numbers[0], numbers[1] + 1) if " to " in cited else numbers
    return list(dict.fromkeys(found))


def test_it_fits_on_a_screen_and_names_all_lines_of_the_paper():
    page = "otalab/assign/algorithm1.py"
    assert len((ROOT / page).read_text().splitlines()) <= 60
    assert sorted(lines_cited(page)) == list(range(1, 17))


def test_the_fast_twin_cites_its_lines_in_its_order():
    assert lines_cited("otalab/assign/ota.py") == lines_cited("otalab/assign/algorithm1.py")


def test_the_ledger_cites_its_lines():
    assert set(range(3, 17)) <= set(lines_cited("docs/ledger.md")) <= set(range(1, 17))
