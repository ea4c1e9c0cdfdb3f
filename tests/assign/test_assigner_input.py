"""What every assigner promises about its input: dtype, device, batching and order do not matter."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.device import HostWaits
from otalab.assign import ASSIGNERS, Assigner, Predictions, Targets, build_assigner
from otalab.assign.base import all_background

from .cases import make_case

NAMES = sorted(ASSIGNERS)
BY_ORDER = ("max-iou", "paa")  # an anchor that is best for two gts goes to the last: see test_anchor_box_assigners
OTAS = ["ota", "ota-paper", "ota-official"]


@pytest.mark.parametrize("name", NAMES)
def test_low_precision_input_gets_the_labels_of_the_same_numbers_in_float64(name):
    for seed, dtype in enumerate((torch.float16, torch.bfloat16, torch.float32)):
        case = make_case(seed, num_gt=6, scene="crowd").to(dtype)
        low, high = build_assigner(name)(*case), build_assigner(name)(*case.to(torch.float64))
        assert low.matched_gt.tolist() == high.matched_gt.tolist()
        assert low.supply.tolist() == high.supply.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_any_integer_type_will_do(name):
    points, predictions, targets = make_case(0)
    short = Targets(targets.boxes, targets.labels.to(torch.int16))
    a, b = build_assigner(name)(points, predictions, targets), build_assigner(name)(points, predictions, short)
    assert a.matched_gt.tolist() == b.matched_gt.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name):
    case = make_case(1, scene="crowd", dtype=torch.float32)
    expected = build_assigner(name)(*case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assignment = build_assigner(name)(*case)
        assert assignment.matched_gt.tolist() == expected.matched_gt.tolist()
        if expected.cost is not None:
            assert torch.equal(assignment.cost, expected.cost)


class Probe(Assigner):
    """Looks at what a subclass is given, and under which conditions."""

    def assign(self, points, predictions, targets):
        self.autocast = torch.is_autocast_enabled("cpu")
        self.gradients = torch.is_grad_enabled()
        self.dtypes = {points.xy.dtype, points.stride.dtype, predictions.boxes.dtype, targets.boxes.dtype}
        self.logits, self.labels = predictions.logits, targets.labels
        return all_background(points)


def test_a_subclass_is_given_float64_geometry_outside_autocast_and_gradients():
    points, predictions, targets = make_case(0).to(torch.bfloat16)
    probe = Probe()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        probe(points, Predictions(predictions.logits.requires_grad_(), predictions.boxes), targets)
    assert not probe.autocast
    assert not probe.gradients
    assert probe.dtypes == {torch.float64}
    assert probe.logits.dtype == torch.bfloat16  # an assigner upcasts the few that it reads
    assert not probe.logits.requires_grad
    assert probe.labels.dtype == torch.int64


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_an_assignment_hangs_on_the_graph(name):
    points, predictions, targets = make_case(0, dtype=torch.float32)
    live = Predictions(predictions.logits.requires_grad_(), predictions.boxes.requires_grad_())
    assignment = build_assigner(name)(points, live, Targets(targets.boxes.requires_grad_(), targets.labels))
    for tensor in (assignment.matched_gt, assignment.supply, assignment.cost, assignment.plan):
        assert tensor is None or not tensor.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_no_tensor_is_made_without_a_device(name):
    case = make_case(0, scene="crowd")
    ignore = torch.tensor([[0.0, 0.0, 40.0, 40.0]], dtype=torch.float64)
    targets = Targets(case.targets.boxes, case.targets.labels, ignore)
    expected = build_assigner(name)(case.points, case.predictions, targets)
    with torch.device("meta"):  # a tensor made on the default device now breaks the computation
        assignment = build_assigner(name)(case.points, case.predictions, targets)
        empty = build_assigner(name)(case.points, case.predictions, Targets(targets.boxes[:0], targets.labels[:0]))
        made = [assignment.matched_gt, assignment.supply, assignment.deficit, assignment.counts, empty.supply]
        made += [tensor for tensor in (assignment.cost, assignment.plan) if tensor is not None]
    assert {tensor.device.type for tensor in made} == {"cpu"}
    assert assignment.matched_gt.tolist() == expected.matched_gt.tolist()


def synchronisations(name, case, **options):
    with HostWaits() as seen:
        build_assigner(name, **options)(*case)
    return seen.waits.total()


@pytest.mark.parametrize("name", OTAS)
def test_the_host_waits_a_fixed_number_of_times(name):
    few, many = make_case(0, num_gt=2), make_case(0, num_gt=12, size=(200, 304))
    assert 0 < synchronisations(name, few) <= 12
    assert synchronisations(name, few) == synchronisations(name, many)
    if name != "ota":
        assert synchronisations(name, few, max_iter=3) == synchronisations(name, few)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_a_loop(name):
    cases = [make_case(seed, num_gt=seed, num_classes=4) for seed in range(4)]
    points, assigner = cases[0].points, build_assigner(name)
    batch = assigner.assign_batch(points, [c.predictions for c in cases], [c.targets for c in cases])
    for case, assignment in zip(cases, batch, strict=True):
        single = assigner(*case)
        assert assignment.matched_gt.tolist() == single.matched_gt.tolist()
        assert assignment.supply.tolist() == single.supply.tolist()
    with pytest.raises(ValueError):
        assigner.assign_batch(points, [c.predictions for c in cases], [cases[0].targets])


@pytest.mark.parametrize("name", NAMES)
def test_points_in_an_ignore_region_are_ignored_unless_they_are_positive(name):
    points, predictions, targets = make_case(0, num_gt=4, scene="huge")
    region = torch.tensor([[10.0, 10.0, 90.0, 70.0], [20.0, 20.0, 40.0, 120.0]], dtype=torch.float64)
    plain = build_assigner(name)(points, predictions, targets)
    assignment = build_assigner(name)(points, predictions, Targets(targets.boxes, targets.labels, region))
    inside = [any(l < x < r and t < y < b for l, t, r, b in region.tolist()) for x, y in points.xy.tolist()]
    assert any(inside)
    expected = [-2 if label == -1 and i else label for label, i in zip(plain.matched_gt.tolist(), inside, strict=True)]
    assert assignment.matched_gt.tolist() == expected
    assert assignment.counts.tolist() == plain.counts.tolist()
    assert torch.equal(assignment.positive, plain.positive)


def test_an_ignore_region_without_gts_leaves_the_rest_background():
    points, predictions, _ = make_case(0, num_gt=0)
    region = torch.tensor([[-10.0, -10.0, 13.0, 5.0]])
    targets = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), region)
    assignment = build_assigner("ota")(points, predictions, targets)
    assert (assignment.matched_gt == -2).nonzero().flatten().tolist() == [0, 1]  # (4, 4) and (12, 4)
    assert (assignment.matched_gt[2:] == -1).all()
    assert assignment.counts.tolist() == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BY_ORDER])
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(6)), seed=st.integers(0, 1000))
@example(order=[1, 2, 3, 4, 0, 5], seed=10)  # two gts whose shares of a point tie: there the first gt gets it
def test_a_permutation_of_the_gts_permutes_the_labels(name, order, seed):
    points, predictions, targets = make_case(seed, (96, 128), num_gt=6, scene="crowd")
    order = torch.tensor(order)
    plain = build_assigner(name)(points, predictions, targets)
    permuted = build_assigner(name)(points, predictions, Targets(targets.boxes[order], targets.labels[order]))
    if name in ("ota-paper", "ota-official"):  # which give ties to the first gt, so that it is the plan that permutes
        rows = torch.cat((order, torch.tensor([6])))
        assert torch.allclose(permuted.plan, plain.plan[rows], rtol=1e-6, atol=1e-9)
        return
    back = torch.cat((order, torch.tensor([-2, -1])))  # where background's -1 and ignored points' -2 point to
    assert back[permuted.matched_gt].tolist() == plain.matched_gt.tolist()
    assert permuted.counts.tolist() == plain.counts[order].tolist()


def test_a_quality_branch_is_carried_but_not_needed():
    points, predictions, targets = make_case(0)
    quality = torch.zeros(len(points), dtype=torch.float64, requires_grad=True)
    with_quality = Predictions(predictions.logits, predictions.boxes, quality)
    assert not with_quality.detach().quality.requires_grad
    assert predictions.detach().quality is None
    a, b = (build_assigner("ota")(points, p, targets) for p in (predictions, with_quality))
    assert a.matched_gt.tolist() == b.matched_gt.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_an_assigner_says_whether_its_assignments_bring_losses(name):
    assigner = build_assigner(name)
    assert (assigner(*make_case(0)).make_losses is not None) == assigner.own_losses
