"""augmenting-path is exact, fair in a deficit, and proves it; compiled or not it gives the same bits."""

import itertools
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import coo_array

from otalab.errors import InputError
from otalab.transport.arcs import ArcProblem
from otalab.transport.augmenting_path import augmenting_path, numba_is_there

from .instances import EXACT


def arcs(cost, k) -> ArcProblem:
    """One block; every pair is an arc, forbidden where the cost is inf."""
    cost = torch.as_tensor(cost, dtype=torch.float64)
    m, n = cost.shape
    column = torch.arange(n).expand(m, n).contiguous()
    return ArcProblem(cost, column, torch.as_tensor(k), torch.zeros(m, dtype=torch.int64), n)


def blocks(problems) -> ArcProblem:
    """Many problems, padded, as blocks of one."""
    width = max(cost.shape[1] for cost, _ in problems)
    rows = [np.pad(cost, ((0, 0), (0, width - cost.shape[1])), constant_values=np.inf) for cost, _ in problems]
    block = np.repeat(np.arange(len(problems)), [len(cost) for cost, _ in problems])
    column = np.arange(width) + width * block[:, None]
    k = np.concatenate([k for _, k in problems])
    parts = map(torch.from_numpy, (np.concatenate(rows), column, k, block))
    return ArcProblem(*parts, width, len(problems))


def tied_problems(count: int, seed: int) -> list:
    """Few rows and columns, costs of few values, a third of the pairs forbidden: ties and deficits are common."""
    generator = np.random.default_rng(seed)
    problems = []
    for _ in range(count):
        shape = generator.integers(1, 6), generator.integers(1, 10)
        cost = generator.choice([-2.0, -1.0, 0.0, 1.0, 3.0], shape)
        cost[generator.random(shape) < generator.choice([0, 0.3])] = np.inf
        problems.append((cost, generator.integers(0, 4, shape[0])))
    return problems


def matched(cost, k) -> tuple[int, float]:
    """(labels, their cost) of SciPy's cheapest matching of as many copies of rows as possible."""
    copies = cost[np.repeat(np.arange(len(k)), k)]
    dear = 1e3  # beyond any exchange of the costs above: to leave a copy out, in a column of its own
    padded = np.concatenate((copies, np.full((len(copies), len(copies)), dear)), axis=1)
    rows, columns = linear_sum_assignment(padded)
    real = columns < cost.shape[1]
    return int(real.sum()), float(copies[rows[real], columns[real]].sum())


def test_thousands_of_tied_problems_are_solved_in_one_call_and_proven_optimal():
    problems = tied_problems(3000, seed=0)
    solution = augmenting_path(blocks(problems))
    assert solution.gap.abs().max() < EXACT
    owner = solution.owner.view(len(problems), -1)
    first, deficits = 0, 0
    for number, (cost, k) in enumerate(problems):
        m, n = cost.shape
        mine = owner[number, :n].numpy()
        assert (owner[number, n:] == -1).all()
        mine = np.where(mine >= 0, mine - first, -1)
        shipped = np.bincount(mine[mine >= 0], minlength=m)
        most, least = matched(cost, k)
        assert shipped.sum() == most
        assert shipped.tolist() == solution.shipped[first : first + m].tolist()
        if shipped.sum() == k.sum():
            assert solution.objective[number] == pytest.approx(least, abs=1e-12)
        deficits += shipped.sum() < k.sum()
        first += m
    assert 100 < deficits < 2900


def test_the_linear_program_of_thousands_of_tied_problems_costs_the_same():
    """All that are feasible in one program of HiGHS: none can cost less than its optimum, so equal sums prove each."""
    problems = tied_problems(4000, seed=1)
    problems = [(cost, k) for cost, k in problems if matched(cost, k)[0] == k.sum()]
    assert len(problems) > 2000
    problem = blocks(problems)
    row, arc = problem.cost.isfinite().numpy().nonzero()
    column, variable = problem.column.numpy()[row, arc], np.arange(len(row))
    ships = coo_array((np.ones(len(row)), (row, variable)), shape=(len(problem), len(row)))
    takes = coo_array((np.ones(len(row)), (column, variable)), shape=(problem.num_columns, len(row)))
    cost = problem.cost.numpy()[row, arc]
    best = linprog(
        cost, A_eq=ships.tocsr(), b_eq=problem.k.numpy(), A_ub=takes.tocsr(), b_ub=np.ones(problem.num_columns)
    )
    solution = augmenting_path(problem)
    assert solution.deficit.sum() == 0
    assert solution.objective.sum().item() == pytest.approx(best.fun, rel=EXACT)
    assert solution.gap.abs().max() < EXACT


@pytest.mark.parametrize("seed", range(5))
def test_compiled_and_plain_python_give_the_same_bits(seed):
    problem = blocks(tied_problems(300, seed))
    noise = torch.rand(problem.cost.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for cost in (problem.cost, problem.cost + noise):
        again = ArcProblem(cost, problem.column, problem.k, problem.block, problem.width, problem.blocks)
        plain, compiled = augmenting_path(again, compiled=False), augmenting_path(again, compiled=True)
        assert torch.equal(plain.owner, compiled.owner)
        assert torch.equal(plain.price, compiled.price)
        assert plain.iterations == compiled.iterations > 0


def fairest(cost, k):
    """By brute force: (labels shipped, as evenly as possible, at the least cost) of all answers."""
    rows, columns = cost.shape
    best = None
    for owners in itertools.product(range(-1, rows), repeat=columns):
        owner = np.array(owners)
        taken = owner >= 0
        shipped = np.bincount(owner[taken], minlength=rows)
        paid = cost[owner[taken], np.flatnonzero(taken)]
        if np.isfinite(paid).all() and (shipped <= k).all():
            # of two splits the more even one has the smaller number of rows that got little
            rank = (-shipped.sum(), sorted(-shipped, reverse=True), paid.sum())
            best = rank if best is None else min(best, rank)
    return best


@pytest.mark.parametrize("seed", range(30))
def test_in_a_deficit_labels_are_shared_as_evenly_as_possible_and_then_at_the_least_cost(seed):
    generator = np.random.default_rng(seed)
    cost = generator.choice([-2.0, 0.0, 1.0, 5.0, np.inf], (3, 5))
    k = generator.integers(1, 5, 3)
    solution = augmenting_path(arcs(cost, k))
    most, shares, paid = fairest(cost, k)
    assert solution.shipped.sum() == -most
    assert sorted((-solution.shipped).tolist(), reverse=True) == shares
    assert solution.objective.item() == pytest.approx(paid)
    assert abs(solution.gap.item()) < EXACT


def test_no_row_starves_beside_a_greedy_neighbour():
    cost = np.array([[0.0, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]])
    assert augmenting_path(arcs(cost, [4, 1])).shipped.tolist() == [3, 1]
    assert augmenting_path(arcs(cost, [4, 4])).shipped.tolist() == [2, 2]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(-50, 50), st.sampled_from([2.0**-40, 1e-3, 1.0, 1e6]))
def test_permutations_shifts_and_scales_do_to_the_answer_what_they_should(seed, shift, scale):
    generator = np.random.default_rng(seed)
    cost = generator.normal(size=(4, 12))
    k = generator.integers(0, 4, 4)
    plain = augmenting_path(arcs(cost, k))
    rows, columns = generator.permutation(4), generator.permutation(12)
    permuted = augmenting_path(arcs(cost[rows][:, columns], k[rows]))
    owner = plain.owner[torch.from_numpy(columns)]
    back = torch.from_numpy(np.append(np.argsort(rows), -1))
    assert permuted.owner.tolist() == back[owner].tolist()
    moved = augmenting_path(arcs(scale * (cost + np.array([[shift], [0], [0], [0]])), k))
    assert moved.owner.tolist() == plain.owner.tolist()  # each row ships its k, so a constant on a row is paid anyhow


@pytest.mark.parametrize("copies", [2, 5])
def test_equal_rows_of_equal_k_get_their_k_each(copies):
    cost = np.tile(np.random.default_rng(0).random(30), (copies, 1))
    solution = augmenting_path(arcs(cost, [4] * copies))
    assert solution.shipped.tolist() == [4] * copies
    assert set(solution.owner.nonzero().flatten().tolist()) <= set(range(30))
    assert abs(solution.gap.item()) < EXACT
    cheapest = np.sort(cost[0])[: 4 * copies].sum()
    assert solution.objective.item() == pytest.approx(cheapest)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0)])
def test_nothing_to_assign(shape):
    solution = augmenting_path(arcs(np.zeros(shape), np.ones(shape[0], dtype=np.int64)))
    assert solution.owner.tolist() == [-1] * shape[1]
    assert solution.price.tolist() == [0.0] * shape[0]
    assert solution.deficit.tolist() == [1] * shape[0]
    assert solution.gap.tolist() == [0.0]


def test_rows_that_want_nothing_or_may_get_nothing_disturb_nobody():
    cost = np.array([[-5.0, -5.0, -5.0], [np.inf, np.inf, np.inf], [1.0, 2.0, 3.0]])
    solution = augmenting_path(arcs(cost, [0, 2, 2]))
    assert solution.owner.tolist() == [2, 2, -1]
    assert solution.deficit.tolist() == [0, 2, 0]
    assert solution.price.isfinite().all()
    assert solution.gap.tolist() == [0.0]


@pytest.mark.parametrize("value", [0.0, 7.5, -1e6, 1e6])
def test_costs_that_are_all_equal_are_answered(value):
    solution = augmenting_path(arcs(np.full((3, 8), value), [2, 3, 1]))
    assert solution.shipped.tolist() == [2, 3, 1]
    assert solution.objective.item() == 6 * value
    assert solution.gap.tolist() == [0.0]


def test_all_columns_contested_by_all_rows():
    generator = np.random.default_rng(3)
    cost = generator.random((6, 18))  # six rows want three each of eighteen columns: nothing is left over
    solution = augmenting_path(arcs(cost, [3] * 6))
    assert (solution.owner >= 0).all()
    assert abs(solution.gap.item()) < EXACT
    assert solution.iterations > 0


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_cost_that_means_nothing_is_an_error_that_names_its_row(bad):
    cost = np.zeros((3, 4))
    cost[1, 2] = bad
    with pytest.raises(InputError, match=r"cost is -?(nan|inf) in row 1"):
        augmenting_path(arcs(cost, [1, 1, 1]))


def test_any_prices_prove_a_bound():
    problem = arcs(np.random.default_rng(0).normal(size=(4, 20)), [3, 2, 4, 1])
    solution = augmenting_path(problem)
    for seed in range(20):
        price = torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        guess = type(solution)(problem, solution.owner, price)
        assert guess.dual_objective <= solution.objective + EXACT
        assert guess.gap > 1e-3  # and poor ones a loose bound


def test_the_arcs_are_left_as_they_were():
    problem = arcs(np.array([[3.0, 1.0, 2.0]]), [2])
    augmenting_path(problem)
    assert problem.cost.tolist() == [[3.0, 1.0, 2.0]]
    assert problem.column.tolist() == [[0, 1, 2]]


def test_without_numba_plain_python_does_and_asking_for_it_is_an_error(monkeypatch):
    monkeypatch.setattr("otalab.transport.augmenting_path.numba_is_there", lambda: False)
    assert augmenting_path(arcs(np.zeros((1, 2)), [1])).shipped.tolist() == [1]
    with pytest.raises(InputError, match=r"pip install 'otalab\[fast\]'"):
        augmenting_path(arcs(np.zeros((1, 2)), [1]), compiled=True)


def test_a_numba_that_does_not_load_counts_as_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)  # `import numba` now raises ImportError
    assert not numba_is_there.__wrapped__()  # past its cache
