"""The auction finds the optimum, proves it, and ends: in price wars, in deficits and among equals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from benchmarks.device import HostWaits
from otalab.assign import AnchorPoints, build_assigner
from otalab.errors import InputError
from otalab.lab.simulate import random_targets, simulate_predictions
from otalab.transport import TransportProblem, solve
from otalab.transport.arcs import ArcProblem
from otalab.transport.auction import _Market, auction

from .instances import EXACT, costs, quick

INF = math.inf


def arcs_of(dense, k) -> ArcProblem:
    """(B, m, c) costs, +inf where there is no arc, and (B, m) labels as arcs, the cheapest first."""
    dense, k = torch.as_tensor(dense, dtype=torch.float64), torch.as_tensor(k).flatten()
    blocks, m, width = dense.shape
    cost, column = dense.flatten(0, 1).sort(dim=1, stable=True)
    s = int(cost.isfinite().sum(dim=1).max())
    block = torch.arange(blocks).repeat_interleave(m)
    return ArcProblem(cost[:, :s], (column + width * block[:, None])[:, :s], k.long(), block, width, blocks)


def oracle(dense, k) -> tuple[int, float, np.ndarray]:
    """Most labels that one block can ship, their least total, and the owners: SciPy's, on k copies of each row."""
    dense, k, columns = np.asarray(dense), np.asarray(k), np.shape(dense)[1]
    rows = np.repeat(np.arange(len(k)), k)
    finite = dense[np.isfinite(dense)]
    nothing = 1 + 2 * (len(rows) + 1) * np.abs(finite).max(initial=0)  # dearer than any exchange
    copies, taken = linear_sum_assignment(np.concatenate((dense[rows], np.full((len(rows),) * 2, nothing)), axis=1))
    taken, takers, owner = taken[taken < columns], rows[copies[taken < columns]], np.full(columns, -1)
    owner[taken] = takers
    return len(taken), float(dense[takers, taken].sum()), owner


def slack(problem: ArcProblem, tol: float = 1e-9) -> float:
    """What `auction` promises of an objective: tol * range * labels; twice, for sums of float64."""
    finite = problem.cost[problem.cost.isfinite()]
    spread = float(finite.max() - finite.min()) or 1 + float(finite[0].abs())
    return 2 * tol * spread * max(1, int(problem.k.sum()))


def assert_optimal(dense, k, solution):
    """Every block ships as much as can be, at the least total, no row more than its k, over arcs; and it is proven."""
    problem, within = solution.problem, slack(solution.problem)
    assert (solution.deficit >= 0).all()
    shipped = problem.per_block(solution.shipped.double())
    for block, (costs_of_block, k_of_block) in enumerate(zip(dense, k, strict=True)):
        labels, total, _ = oracle(costs_of_block, k_of_block)
        assert shipped[block] == labels
        assert abs(solution.objective[block] - total) <= within
    over_arcs = (solution.owner[problem.column] == torch.arange(len(problem))[:, None]) & problem.cost.isfinite()
    assert (over_arcs.sum(dim=1) == solution.shipped).all()
    assert (solution.gap.abs() <= within).all()


def random_blocks(seed, blocks, m, width, *, values=3, k=3, arcs=0.7, twins=False):
    """Whole costs -1 .. values - 1, so nearly all optima are ties; with twins each second row is the one before it."""
    rng = np.random.default_rng(seed)
    dense = rng.integers(-1, values, (blocks, m, width)).astype(float)
    dense[rng.random(dense.shape) > arcs] = INF
    if twins:
        dense[:, 1::2] = dense[:, : 2 * (m // 2) : 2]
    return dense, rng.integers(0, k + 1, (blocks, m))


def crowd(noise: float, rows: int = 20, k: int = 5, seed: int = 0):
    """Near-equal rows after too few cheap columns, with dear ones to fall back on: what makes a price war."""
    rng = np.random.default_rng(seed)
    like = np.concatenate((rng.random(rows * k - 30), 10 + rng.random(60)))
    return (like + noise * rng.random((rows, len(like))))[None], np.full((1, rows), k)


@pytest.mark.parametrize("twins", [False, True])
@pytest.mark.parametrize("shape", [(1000, 2, 4), (1000, 3, 6), (800, 4, 9), (30, 12, 30)])
def test_thousands_of_blocks_full_of_ties_are_solved_at_once(shape, twins):
    dense, k = random_blocks(sum(shape) + twins, *shape, twins=twins)
    solution = auction(arcs_of(dense, k))
    assert_optimal(dense, k, solution)
    assert solution.deficit.any() or shape[0] < 100  # what cannot be shipped occurs too


@given(data=st.data(), ties=st.booleans())
@quick
def test_any_small_problem_is_solved(data, ties):
    m, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 7))
    dense = data.draw(costs((1, m, width), ties))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    dense, k = np.where(rng.random(dense.shape) < 0.3, INF, dense), rng.integers(0, 4, (1, m))
    if np.isfinite(dense).any():
        assert_optimal(dense, k, auction(arcs_of(dense, k)))


def test_a_bid_makes_a_column_as_dear_as_the_next_best():
    market = _Market(arcs_of([[[1.0, 2.0, 6.0, 9.0]]], [[2]]), tol=1e-9)
    assert market.bid().all() and not market.bid().any()
    assert torch.allclose(market.price[:4], torch.tensor([5.0, 4.0, 0.0, 0.0], dtype=torch.float64), atol=1e-7)
    assert market.owner[:4].tolist() == [0, 0, -1, -1]


def test_a_settlement_raises_what_is_fought_for_to_the_way_out_and_no_free_column():
    market = _Market(arcs_of([[[0.0, 0.0, 10.0]] * 3], [[1, 1, 1]]), tol=1e-9)  # three rows after two columns
    for _ in range(5):
        market.bid()
    assert (market.owner[:2] >= 0).all() and (market.price <= 1e-6).all()
    market.settle()
    assert torch.allclose(market.price[:3], torch.tensor([10.0, 10.0, 0.0], dtype=torch.float64), atol=1e-7)
    held_at_most = market.total.masked_fill(~market.held, -INF).amax(dim=1)
    next_best = market.total.masked_fill(market.held, INF).amin(dim=1)
    assert (held_at_most <= next_best + 2 * market.eps[:, 0]).all()  # eps-CS, and eps for rounding


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3, 0.1])
def test_a_price_war_of_near_equal_rows_ends_soon(noise):
    dense, k = crowd(noise)
    solution = auction(arcs_of(dense, k))
    assert_optimal(dense, k, solution)
    assert (solution.deficit == 0).all()
    assert solution.iterations <= 450  # by eps alone it would be 10 / (1e-9 * 11)


def test_duplicate_rows_each_get_their_k():
    solution = auction(arcs_of(np.zeros((1, 6, 30)), np.full((1, 6), 5)))
    assert solution.shipped.tolist() == [5] * 6 and solution.objective == 0


def test_real_images_get_the_optimal_labels_in_a_few_rounds():
    dense, k = [], []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        points, targets = AnchorPoints.for_image((400, 672)), random_targets((400, 672), 20, 80, generator)
        predictions = simulate_predictions(points, targets, 80, generator)
        assignment = build_assigner("ota")(points, predictions, targets)
        dense.append((assignment.cost[:-1].double() - assignment.cost[-1].double()).numpy())
        k.append(assignment.supply[:-1].long().numpy())
    solution = auction(arcs_of(np.stack(dense), np.stack(k)))
    owner = solution.owner.view(2, -1)
    for block in range(2):
        best = torch.as_tensor(oracle(dense[block], k[block])[2])
        assert (owner[block] == torch.where(best >= 0, best + 20 * block, -1)).all()
    assert (solution.gap <= 1e-8 * solution.objective.abs()).all() and solution.iterations <= 20


def test_a_batch_costs_what_each_block_costs_alone():
    dense, k = random_blocks(3, 60, 5, 12, twins=True)
    together = auction(arcs_of(dense, k))
    for block in range(len(dense)):
        alone = auction(arcs_of(dense[block : block + 1], k[block : block + 1]))
        assert abs(alone.objective - together.objective[block]) <= slack(together.problem)
        assert alone.shipped.sum() == together.shipped[5 * block : 5 * block + 5].sum()


@given(seed=st.integers(0, 10**6))
@quick
def test_the_labels_follow_permutations_of_rows_and_columns_shifts_of_rows_and_scales(seed):
    rng = np.random.default_rng(seed)
    dense, k = rng.random((1, 5, 25)), rng.integers(0, 5, (1, 5))  # no ties, and every row can get its k
    owner = auction(arcs_of(dense, k)).owner
    rows, columns = torch.as_tensor(rng.permutation(5)), torch.as_tensor(rng.permutation(25))
    moved = auction(arcs_of(dense[:, rows][:, :, columns], k[:, rows])).owner
    assert (torch.where(moved >= 0, rows[moved], -1) == owner[columns]).all()
    assert (auction(arcs_of(dense + rng.normal(size=(1, 5, 1)), k)).owner == owner).all()
    for scale in (1e-9, 1e9):
        assert (auction(arcs_of(dense * scale, k)).owner == owner).all()


def test_rows_that_cannot_get_their_k_share_what_there_is():
    dense = np.array([[[1.0, 2.0, INF, INF], [3.0, 1.0, INF, INF], [0.0, 9.0, 7.0, INF]]])
    solution = auction(arcs_of(dense, [[2, 2, 2]]))
    assert solution.owner.tolist() == [2, 1, 2, -1] and solution.deficit.tolist() == [2, 1, 0]
    assert solution.objective == 8 and abs(solution.gap) <= slack(solution.problem) and solution.iterations < 100


def test_a_row_that_wants_nothing_or_has_no_arc_takes_no_part():
    dense = np.array([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [INF, INF, INF]]])
    solution = auction(arcs_of(dense, [[2, 0, 3]]))
    assert solution.owner.tolist() == [0, 0, -1] and solution.deficit.tolist() == [0, 0, 3]
    assert solution.price.isfinite().all() and solution.gap.abs() <= slack(solution.problem)


@pytest.mark.parametrize("m, arcs", [(0, 0), (0, 5), (3, 0), (3, 5)])
def test_no_rows_or_no_arcs_leave_all_to_the_slack(m, arcs):
    cost, column = torch.full((m, arcs), INF, dtype=torch.float64), torch.zeros((m, arcs), dtype=torch.int64)
    k, block = torch.full((m,), 2), torch.zeros(m, dtype=torch.int64)
    solution = auction(ArcProblem(cost, column, k, block, width=4, blocks=2))
    assert solution.owner.tolist() == [-1] * 8 and solution.shipped.tolist() == [0] * m
    assert solution.objective.tolist() == solution.gap.tolist() == [0, 0]


def test_a_block_without_rows_stays_empty():
    full = arcs_of(np.ones((2, 2, 3)), [[1, 1], [1, 1]])
    apart = ArcProblem(full.cost, full.column + 3 * (full.block[:, None]), full.k, 2 * full.block, width=3, blocks=3)
    solution = auction(apart)
    assert (solution.owner.view(3, 3) >= 0).sum(dim=1).tolist() == [2, 0, 2]
    assert solution.objective.tolist() == [2, 0, 2] and (solution.gap.abs() <= slack(apart)).all()


@pytest.mark.parametrize("tol", [1e-1, 1e-3, 1e-6])
def test_the_gap_is_at_most_tol_times_range_times_labels(tol):
    dense, k = crowd(0.1)
    solution = auction(arcs_of(dense, k), tol=tol)
    best = oracle(dense[0], k[0])[1]
    assert solution.dual_objective * (1 - EXACT) <= best <= solution.objective * (1 + EXACT)
    assert solution.gap <= tol * (dense.max() - dense.min()) * k.sum() * (1 + EXACT)
    assert tol < 1e-2 or solution.gap > 0  # so coarse an eps does lose something


def test_tol_0_is_as_exact_as_float64_and_ends():
    dense, k = crowd(0.0)
    solution = auction(arcs_of(dense, k), tol=0.0)
    assert (solution.deficit == 0).all() and abs(solution.gap) <= EXACT * solution.objective


def test_rounds_that_run_out_warn_and_leave_a_valid_bound():
    dense, k = crowd(0.1)
    with pytest.warns(UserWarning, match="rows still bid after 10 rounds"):
        solution = auction(arcs_of(dense, k), max_rounds=10)
    assert solution.iterations == 10 and solution.deficit.sum() > 0
    assert_optimal(dense, solution.shipped[None], solution)  # what is held is the cheapest way to ship so much


@pytest.mark.parametrize("option", [{"tol": -1e-9}, {"tol": math.nan}, {"max_rounds": 0}, {"check_every": 0}])
def test_an_option_out_of_range_is_named(option):
    with pytest.raises(InputError, match=f"{next(iter(option))} must (not be negative|be a whole number)"):
        auction(arcs_of(np.ones((1, 1, 2)), [[1]]), **option)


@pytest.mark.parametrize("check_every", [1, 4, 16])
def test_the_host_reads_little(check_every):
    dense, k = random_blocks(0, 50, 6, 20, values=20, twins=True)
    problem = arcs_of(dense, k)
    with HostWaits() as reads:
        solution = auction(problem, check_every=check_every)
    checks = solution.iterations // check_every
    # a flag per check and settlement, one for the prices; the two numbers at the start come as a list, not counted here
    assert checks >= 2 and reads.waits.total() == checks + (checks - 1) + 1


def test_no_tensor_is_made_on_the_default_device():
    dense, k = crowd(0.1)
    problem = arcs_of(dense, k)
    with torch.device("meta"):
        solution = auction(problem)
    assert solution.owner.device.type == solution.price.device.type == "cpu"
    assert_optimal(dense, k, solution)


@pytest.mark.parametrize("bad", [float("nan"), -float("inf")])
def test_a_cost_that_means_nothing_is_an_error_that_names_its_row(bad):
    cost = torch.rand(4, 9, dtype=torch.float64)
    cost[2, 3] = bad
    column = torch.arange(9).expand(4, 9).contiguous()
    with pytest.raises(InputError, match="NaN or -inf in row 2"):
        auction(ArcProblem(cost, column, torch.full((4,), 2), torch.zeros(4, dtype=torch.int64), 9))


def test_an_auction_that_is_cut_short_says_so_and_not_that_there_is_no_plan():
    generator = torch.Generator().manual_seed(0)
    cost = torch.cat((torch.rand(6, 40, generator=generator), torch.full((1, 40), 9.0)))
    problem = TransportProblem(cost, [6.0] * 6 + [4.0], torch.ones(40))
    with pytest.warns(UserWarning, match="rows still bid after 1 rounds"):
        solution = solve(problem, "auction", max_rounds=1)
    assert not solution.converged
    assert solve(problem, "auction").converged
