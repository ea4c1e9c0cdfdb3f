"""Each assignment that moves mass proves itself; a wrong one does not."""

from dataclasses import replace

import pytest
import torch

from otalab.assign import build_assigner

from .cases import KINDS, make_case


@pytest.mark.parametrize(("stage", "scene"), KINDS)
def test_ota_proves_every_image_optimal(scene, stage):
    for seed in range(2):
        certificate = build_assigner("ota")(*make_case(seed, num_gt=10, stage=stage, scene=scene)).certificate
        assert certificate.is_optimal()
        assert abs(certificate.relative_gap) < 1e-12


def test_labels_that_cost_more_show_a_gap():
    assignment = build_assigner("ota")(*make_case(0, num_gt=5))
    owner = assignment.matched_gt.clone()
    mine = (owner == 0).nonzero().flatten()[0]
    other = (assignment.cost[0].isfinite() & (owner == -1)).nonzero().flatten()[0]
    owner[mine], owner[other] = -1, 0  # as many labels, one of them at another point
    worse = replace(assignment, matched_gt=owner, make_plan=lambda: plan)
    plan = torch.nn.functional.one_hot(torch.where(owner >= 0, owner, 5), 6).T.double()
    paid = ((plan - assignment.plan) * assignment.cost.nan_to_num(posinf=0)).sum()
    assert worse.certificate.gap == pytest.approx(float(paid))
    assert worse.certificate.gap > 0
    assert not worse.certificate.is_optimal()


def test_poor_prices_prove_a_loose_bound_and_never_too_much():
    assignment = build_assigner("ota")(*make_case(0, num_gt=5))
    loose = replace(assignment, price=assignment.price + torch.linspace(-1, 1, 5, dtype=torch.float64))
    assert loose.certificate.dual_objective < assignment.certificate.objective
    assert loose.certificate.objective == assignment.certificate.objective


@pytest.mark.parametrize("name", ["ota-official", "ota-paper"])
def test_the_sinkhorn_assigners_are_bounded_by_their_own_potentials(name):
    assignment = build_assigner(name)(*make_case(0, num_gt=5))
    certificate = assignment.certificate
    assert not certificate.is_optimal()
    assert certificate.row_error < 1e-6
    assert certificate.col_error > 1e-6  # columns are not exact after 50 iterations


def test_an_assigner_that_moves_no_mass_has_nothing_to_prove():
    assert build_assigner("fcos")(*make_case(0)).certificate is None


def test_an_image_without_gts_is_proven_too():
    case, empty = make_case(0), make_case(0, num_gt=0)
    alone = build_assigner("ota")(*empty)
    assert alone.certificate.is_optimal()
    assert alone.price.tolist() == []
    both = build_assigner("ota").assign_batch(
        case.points, [empty.predictions, case.predictions], [empty.targets, case.targets]
    )
    assert torch.equal(both[0].cost, alone.cost)
    assert all(assignment.certificate.is_optimal() for assignment in both)
