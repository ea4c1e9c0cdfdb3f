"""Sinkhorn on arcs takes the steps of the dense one, for all images at once and without waiting for the device."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.device import HostWaits
from otalab.errors import InputError
from otalab.transport import TransportProblem
from otalab.transport.arc_sinkhorn import ArcSinkhornSolution, arc_sinkhorn
from otalab.transport.arcs import ArcProblem
from otalab.transport.sinkhorn import sinkhorn

from .instances import EXACT, costs, quick

INF = float("inf")


@st.composite
def arc_problems(draw, ties: bool = False):
    """Blocks of few rows and columns with a feasible plan; blocks without rows and rows without arcs occur."""
    width = draw(st.integers(1, 6))
    dense, k, block = [], [], []
    for number in range(draw(st.integers(1, 3))):
        m = draw(st.integers(0, 3))
        owner = draw(hnp.arrays(np.int64, width, elements=st.integers(-1, m - 1)))
        is_open = draw(hnp.arrays(np.bool_, (m, width))) | (owner == np.arange(m)[:, None])
        dense.append(np.where(is_open, draw(costs((m, width), ties)), INF))
        k += [int((owner == i).sum()) for i in range(m)]
        block += [number] * m
    return from_dense(dense, k, block, width, draw(st.randoms(use_true_random=False)))


def from_dense(dense, k, block, width, random=None) -> ArcProblem:
    """Arcs of each block's (m, width) costs, padded to the longest row; in random order if one is given."""
    rows = [(row, number * width) for number, costs in enumerate(dense) for row in costs]
    arcs = [np.flatnonzero(np.isfinite(row)).tolist() for row, _ in rows]
    s = max((len(of_row) for of_row in arcs), default=0) + 1
    cost, column = np.full((len(rows), s), INF), np.zeros((len(rows), s), dtype=np.int64)
    for i, ((row, start), of_row) in enumerate(zip(rows, arcs, strict=True)):
        if random:
            random.shuffle(of_row)
        cost[i, : len(of_row)] = row[of_row]
        column[i, : len(of_row)] = np.array(of_row, dtype=np.int64) + start
    parts = (torch.from_numpy(cost), torch.from_numpy(column), torch.tensor(k).long(), torch.tensor(block).long())
    return ArcProblem(*parts, width=width, blocks=len(dense))


def dense_blocks(problem: ArcProblem) -> list[TransportProblem]:
    """Each block with its slack as a last row of cost 0."""
    cost = torch.full((len(problem), problem.num_columns), INF, dtype=torch.float64)
    cost = cost.scatter_reduce(1, problem.column, problem.cost, "amin")
    found = []
    for number in range(problem.blocks):
        rows, start = problem.block == number, number * problem.width
        own = torch.cat([cost[rows, start : start + problem.width], torch.zeros(1, problem.width).double()])
        k = problem.k[rows]
        left = problem.width - k.sum(0, keepdim=True)
        found.append(TransportProblem(own, torch.cat([k, left]), torch.ones(problem.width)))
    return found


def dense_plans(solution: ArcSinkhornSolution) -> list[torch.Tensor]:
    problem = solution.problem
    share = torch.zeros(len(problem), problem.num_columns).double().scatter_add(1, problem.column, solution.share)
    spans = [slice(b * problem.width, (b + 1) * problem.width) for b in range(problem.blocks)]
    return [
        torch.cat([share[problem.block == b][:, span], solution.background[None, span]]) for b, span in enumerate(spans)
    ]


def two_images() -> ArcProblem:
    generator = np.random.default_rng(0)
    dense = [np.where(generator.random((3, 40)) < 0.4, generator.uniform(-3, 3, (3, 40)), INF) for _ in range(2)]
    return from_dense(dense, [3, 2, 4, 1, 0, 5], [0, 0, 0, 1, 1, 1], 40)


@given(
    problem=arc_problems(),
    eps=st.sampled_from([10.0, 1.0, 0.1, 0.05]),
    max_iter=st.sampled_from([1, 2, 50]),
)
@quick
def test_the_steps_are_those_of_sinkhorn_on_the_dense_problem(problem, eps, max_iter):
    arcs = arc_sinkhorn(problem, eps=eps, max_iter=max_iter)
    options = {"eps": eps, "max_iter": max_iter, "check_every": 1000}
    for number, (plan, dense) in enumerate(zip(dense_plans(arcs), dense_blocks(problem), strict=True)):
        wanted = sinkhorn(dense, **options)
        assert torch.allclose(plan, wanted.plan, rtol=0, atol=EXACT)
        if wanted.f[-1].isfinite():  # else the slack has nothing to supply
            ships = wanted.f[:-1].isfinite()
            f, price = wanted.f[:-1][ships] - wanted.f[-1], arcs.price[problem.block == number]
            assert torch.allclose(price[ships], f, rtol=1e-7, atol=1e-7)
            assert (price[~ships] == 0).all()


def test_costs_over_the_slacks_are_as_good_as_the_costs():
    problem = two_images()
    for plan, dense in zip(dense_plans(arc_sinkhorn(problem)), dense_blocks(problem), strict=True):
        shift = torch.linspace(-20, 20, dense.shape[1]).double()
        shifted = sinkhorn(TransportProblem(dense.cost + shift, dense.supply, dense.demand))
        assert torch.allclose(plan, shifted.plan, rtol=0, atol=EXACT)


@given(problem=arc_problems(ties=True), max_iter=st.sampled_from([1, 50]))
@quick
def test_labels_are_the_argmax_of_the_dense_plan(problem, max_iter):
    solution = arc_sinkhorn(problem, eps=0.5, max_iter=max_iter)
    labels = solution.labels().view(problem.blocks, problem.width)
    first = 0
    for own, plan in zip(labels, dense_plans(solution), strict=True):
        m = len(plan) - 1
        wanted = plan.argmax(0)
        assert torch.equal(own, torch.where(wanted == m, -1, wanted + first))
        first += m


def test_the_lowest_row_wins_a_tie_and_the_slack_none():
    problem = from_dense([np.zeros((2, 3))], [1, 1], [0, 0], 3)
    solution = ArcSinkhornSolution(
        problem=problem,
        share=torch.tensor([[0.5, 0.25, 0.0, 0.0], [0.5, 0.25, 0.0, 0.0]]).double(),
        background=torch.tensor([0.5, 0.5, 0.0]).double(),
        price=torch.zeros(2).double(),
    )
    assert solution.labels().tolist() == [0, -1, -1]
    assert solution.share.device == solution.labels().device


def test_blocks_do_not_touch_each_other():
    both = two_images()
    together = arc_sinkhorn(both)
    for number in range(2):
        rows = both.block == number
        alone = ArcProblem(both.cost[rows], both.column[rows] % 40, both.k[rows], both.block[rows] * 0, 40)
        assert torch.allclose(arc_sinkhorn(alone).share, together.share[rows], rtol=1e-12, atol=0)


def test_rows_are_exact_and_rows_that_are_out_ship_nothing():
    problem = from_dense([np.array([[1.0, INF, 2.0], [INF, INF, INF], [0.0, 1.0, INF]])], [1, 0, 0], [0, 0, 0], 3)
    solution = arc_sinkhorn(problem)
    assert torch.allclose(solution.share.sum(1), torch.tensor([1.0, 0, 0]).double(), rtol=0, atol=1e-12)
    assert solution.price[1] == solution.price[2] == 0 and solution.labels().tolist() == [0, -1, -1]
    assert abs(solution.background.sum() - 2) <= 1e-12


@pytest.mark.parametrize("k", [[3, 3], [2, 2]])
def test_infeasible_problems_give_finite_figures(k):
    problem = from_dense([np.array([[1.0, INF, INF], [0.0, INF, INF]])], k, [0, 0], 3)
    solution = arc_sinkhorn(problem)
    assert solution.share.isfinite().all() and solution.background.isfinite().all()
    assert solution.labels().shape == (3,)


def test_no_rows_leave_every_column_to_the_slack():
    solution = arc_sinkhorn(from_dense([np.zeros((0, 3))] * 2, [], [], 3))
    assert torch.equal(solution.background, torch.ones(6).double()) and (solution.labels() == -1).all()


def test_nothing_is_read_from_the_device_and_the_operations_do_not_depend_on_the_sizes():
    counts = []
    for problem in (two_images(), from_dense([np.zeros((2, 4))] * 3, [1] * 6, [0, 0, 1, 1, 2, 2], 4)):
        with HostWaits() as seen:
            arc_sinkhorn(problem, max_iter=5).labels()
        counts.append(seen.operations)
        assert seen.waits.total() == 0
    assert counts[0] == counts[1]
    with HostWaits() as more:
        arc_sinkhorn(two_images(), max_iter=6).labels()
    assert more.operations - counts[0] <= 19  # of an iteration, views and the copies inside index_add included


def test_no_tensor_is_made_on_the_default_device():
    problem = two_images()
    with torch.device("meta"):
        solution = arc_sinkhorn(problem, max_iter=2)
        assert solution.share.device.type == solution.background.device.type == "cpu"
        assert solution.labels().device.type == "cpu"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, "eps must be positive and finite, not 0.0"),
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1, not 0"),
    ],
)
def test_options_that_make_no_sense_raise(options, message):
    with pytest.raises(InputError, match=message):
        arc_sinkhorn(two_images(), **options)
