"""The table of solvers checks what it times."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks is a folder of the repository, not of the package

from benchmarks.assign import count_ops
from benchmarks.cases import SMALL, make_case, pile
from benchmarks.peers import ARC_PEERS, emd_on_all, installed
from benchmarks.solvers import faults, owners_off, presolved
from benchmarks.ways import Answer, by_presolve, one_by_one, ours
from otalab.assign import build_assigner
from otalab.lab.simulate import make_scene
from otalab.transport import solve
from otalab.transport.augmenting_path import augmenting_path

EXACT = [
    "augmenting-path, numpy only",
    "augmenting-path, compiled",
    "solve, dense plan included",
]


@pytest.fixture(scope="module")
def case():
    return make_case("two images", [make_scene(6, seed=seed, **SMALL) for seed in (1, 2)])


@pytest.fixture(scope="module")
def one_image():
    return make_case("one image", [make_scene(12, crowd=1.0, **SMALL)])


@pytest.fixture(scope="module")
def exact(case):
    return solve(case.problem(), "assignment").labels


def test_a_matrix_made_a_few_gts_at_a_time_is_the_textbooks():
    from benchmarks.cases import matrix
    from otalab.lab.timing import textbook_cost

    scene = make_scene(7, **SMALL)
    for ours_, theirs in zip(matrix(scene, at_once=3), textbook_cost(*scene), strict=True):
        assert torch.equal(ours_, theirs)


@pytest.mark.parametrize("way", [*EXACT, "augmenting-path, compiled, off-prior +inf", "auction, off-prior +inf"])
def test_exact_ways_have_no_label_off_and_prove_it(way, case, exact):
    off, gap = faults(case, ours(case)[way](), exact)
    assert off == 0 and abs(gap) < (1e-6 if way.startswith("auction") else 1e-12)


def test_the_check_sees_a_wrong_label_and_poor_prices(case, exact):
    answer = by_presolve(case, augmenting_path)()
    free = int((exact[0] == 6).nonzero()[0])
    mine = int((exact[0] == 0).nonzero()[0])
    swapped = answer.labels.clone()
    swapped[0, free], swapped[0, mine] = 0, 6
    off, gap = faults(case, Answer(swapped, answer.price), exact)
    assert off == 2 and gap > 1e-6
    assert faults(case, Answer(answer.labels, answer.price + torch.rand(7)), exact)[1] > 1e-6
    swapped[0, mine] = 0  # one label too many: no plan that prices could prove
    assert faults(case, Answer(swapped, answer.price), exact) == (1, None)


@pytest.mark.parametrize("name", installed(ARC_PEERS))
def test_peers_on_the_same_arcs_find_the_same_owners(name, one_image):
    arcs = presolved(one_image)
    owner = torch.from_numpy(installed(ARC_PEERS)[name](arcs))
    assert torch.equal(owner, augmenting_path(arcs).owner)
    assert (owner >= 0).sum() == arcs.k.sum()


def test_another_owner_is_off_unless_it_is_a_tie(one_image):
    arcs = presolved(one_image)
    exact = augmenting_path(arcs).owner.numpy()
    swapped = exact.copy()
    mine, free = arcs.column[0, exact[arcs.column[0]] == 0][0], arcs.column[0, exact[arcs.column[0]] == -1][0]
    swapped[[mine, free]] = -1, 0
    assert owners_off(arcs, exact, exact) == 0 and owners_off(arcs, swapped, exact) == 2
    tied = replace(arcs, cost=arcs.cost.where(arcs.cost.isinf(), 1.0))
    assert owners_off(tied, swapped, exact) == 0


def test_a_peer_on_the_full_matrix_finds_the_same_labels(case, exact):
    assert faults(case, one_by_one(case, emd_on_all)(), exact) == (0, None)


def test_the_pile_wants_more_than_its_priors_hold():
    assert build_assigner("ota")(*pile(24, **SMALL)).deficit.sum() > 0


def test_operations_are_counted():
    x = torch.ones(3)
    assert count_ops(lambda: x + 1) == 1 and count_ops(lambda: (x + 1) * 2) == 2
