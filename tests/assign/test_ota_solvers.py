"""The solvers behind `ota`: exact ones agree, Sinkhorn decodes the dense plan, batches are loops, hosts wait little."""

import pytest
import torch

from benchmarks.device import HostWaits
from otalab.assign import build_assigner
from otalab.errors import InputError
from otalab.transport import TransportProblem, solve

from .cases import KINDS, make_case

SOLVERS = ("augmenting-path", "auction", "sinkhorn", "independent")


def total(assignment) -> float:
    """What the labels cost."""
    return float((assignment.cost.nan_to_num(posinf=0) * assignment.plan).sum())


@pytest.mark.parametrize(("stage", "scene"), KINDS)
def test_the_auction_finds_the_optimum_too(scene, stage):
    for seed in range(2):
        case = make_case(seed, num_gt=10, scene=scene, stage=stage)
        path, auction = build_assigner("ota")(*case), build_assigner("ota", solver="auction")(*case)
        assert auction.supply.tolist() == path.supply.tolist()  # the shares in a deficit, too
        assert total(auction) == pytest.approx(total(path), rel=1e-7)
        assert auction.certificate.is_optimal(1e-6)


def test_without_ties_the_auction_gives_the_same_labels():
    different = 0
    for seed in range(10):
        case = make_case(seed, num_gt=10, stage="middle", scene="crowd")
        path, auction = build_assigner("ota")(*case), build_assigner("ota", solver="auction")(*case)
        different += int((path.matched_gt != auction.matched_gt).sum())
    assert different == 0


@pytest.mark.parametrize("seed", range(5))
def test_sinkhorn_gives_the_labels_of_the_dense_plan(seed):
    case = make_case(seed, num_gt=6)
    exact = build_assigner("ota", deficits="drop")(*case)
    assert exact.deficit.sum() == 0
    problem = TransportProblem(exact.cost, exact.supply, torch.ones(len(case.points)))
    dense = solve(problem, "sinkhorn", eps=0.1, max_iter=50)
    wanted = torch.where(dense.labels == 6, -1, dense.labels)
    soft = build_assigner("ota", solver="sinkhorn")(*case)
    assert torch.equal(soft.matched_gt, wanted)
    assert soft.certificate.gap > -1e-9  # its labels, judged by what they ship and its own prices


def test_sinkhorns_own_settings_reach_it():
    case = make_case(1, num_gt=8, scene="crowd")
    rough = build_assigner("ota", solver="sinkhorn", eps=5.0, max_iter=1)(*case)
    fine = build_assigner("ota", solver="sinkhorn", eps=0.05, max_iter=500)(*case)
    exact = build_assigner("ota")(*case)
    off = [int((a.matched_gt != exact.matched_gt).sum()) for a in (rough, fine)]
    assert off[0] > 2 * off[1]


@pytest.mark.parametrize("solver", ["sinkhorn", "independent"])
def test_a_solver_that_is_not_exact_cannot_relax_or_refuse(solver):
    with pytest.raises(InputError, match="deficits 'relax' needs an exact solver: augmenting-path or auction"):
        build_assigner("ota", solver=solver, deficits="relax")


def test_without_a_plan_each_gt_takes_its_k_cheapest_points_and_the_least_cost_keeps_those_that_several_take():
    fewer = 0
    for seed in range(20):
        case = make_case(seed, num_gt=10, scene="crowd")
        alone, planned = build_assigner("ota", solver="independent")(*case), build_assigner("ota")(*case)
        k = (planned.supply[:-1] + planned.deficit).tolist()
        assert (alone.supply[:-1] + alone.deficit).tolist() == k  # the same demand, from the same candidates
        over = (alone.cost[:-1] - alone.cost[-1]).double()
        taken = {}
        for gt, row in enumerate(over):
            for point in row.argsort(stable=True)[: k[gt]].tolist():
                if row[point] < taken.get(point, (torch.inf, -1))[0]:
                    taken[point] = (float(row[point]), gt)
        wanted = [taken.get(point, (0, -1))[1] for point in range(over.shape[1])]
        assert alone.matched_gt.tolist() == wanted
        assert alone.certificate.gap > -1e-9
        fewer += int(planned.positive.sum() - alone.positive.sum())
    assert fewer > 20  # a gt that loses a point gets no other


@pytest.mark.parametrize("name", ["ota", "ota-paper"])
def test_a_k_or_q_that_cannot_be_is_refused_when_the_assigner_is_built(name):
    with pytest.raises(InputError, match="q must be a whole number of at least 1, not 0"):
        build_assigner(name, q=0)
    with pytest.raises(InputError, match="not -1"):
        build_assigner(name, k=-1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("deficits", ["drop", "relax"])
def test_a_batch_is_a_loop(solver, deficits):
    if solver in ("sinkhorn", "independent"):
        deficits = "drop"
    scenes = [("normal", 5), ("crowd", 12), ("normal", 0), ("tiny", 8), ("huge", 3), ("outside", 6)]
    cases = [make_case(i, (96, 128), num_gt=m, scene=scene) for i, (scene, m) in enumerate(scenes)]
    assigner = build_assigner("ota", solver=solver, deficits=deficits)
    together = assigner.assign_batch(cases[0].points, [c.predictions for c in cases], [c.targets for c in cases])
    for case, one in zip(cases, together, strict=True):
        alone = assigner(*case)
        assert torch.equal(one.matched_gt, alone.matched_gt)
        assert torch.equal(one.deficit, alone.deficit)
        assert torch.equal(one.supply, alone.supply)
        if one.certificate is not None:
            assert one.certificate.objective == alone.certificate.objective


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_tensor_is_made_without_a_device(solver):
    case = make_case(0, scene="crowd", num_gt=12)
    assigner = build_assigner("ota", solver=solver)
    expected = assigner(*case).matched_gt.tolist()
    with torch.device("meta"):  # a tensor made on the default device now breaks the computation
        assert assigner(*case).matched_gt.tolist() == expected


def batch(count: int):
    cases = [make_case(seed, num_gt=6, scene="normal", num_classes=4, dtype=torch.float32) for seed in range(count)]
    return cases[0].points, [c.predictions for c in cases], [c.targets for c in cases]


def test_on_a_device_sinkhorn_takes_a_twentieth_of_the_operations_of_a_loop_over_images_and_waits_twice_at_most():
    points, predictions, targets = batch(16)
    with HostWaits() as loop:
        official = build_assigner("ota-official")
        for p, t in zip(predictions, targets, strict=True):
            official(points, p, t)
    with HostWaits() as together:
        build_assigner("ota", solver="sinkhorn").assign_batch(points, predictions, targets)
    assert together.operations <= loop.operations / 20
    assert together.waits.total() <= 2


@pytest.mark.parametrize(
    ("solver", "at_most"), [("augmenting-path", 2), ("sinkhorn", 2), ("independent", 2), ("auction", 12)]
)
def test_the_number_of_waits_does_not_grow_with_the_batch(solver, at_most):
    counts = []
    for size in (2, 12):
        with HostWaits() as seen:
            build_assigner("ota", solver=solver).assign_batch(*batch(size))
        counts.append(seen.waits.total())
    assert max(counts) <= at_most
