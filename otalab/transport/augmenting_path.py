"""Exact label assignment: prices first, then shortest augmenting paths.

1. Price. Row i offers u_i, the k_i-th smallest of its costs d_ij, so it wants exactly its k_i cheapest columns. A
   column that several rows want goes to the row that gains most, by u_i - d_ij; the first row wins a tie. This is
   SimOTA's top-k, but with conflicts settled by price instead of by cost. Prices and owners are then already feasible
   and complementary. Only the rows that lost a contest are short of columns.
2. Path. A row that is short takes a column from its owner, which takes another one, and so on until a free column is
   reached. Dijkstra's algorithm finds the cheapest such path, by reduced costs d_ij - u_i + p_j >= 0, and raises the
   offers of the rows that it scanned. After the last path every row has its k_i, and the prices prove the optimum.

If the rows cannot all get their k_i (a deficit), as few labels as possible are left out. Among these answers, the rows
share what is shipped as evenly as possible, and only then is the cost minimised. To this end, leaving out a copy of a
row costs a penalty above any exchange of costs, and the fewer columns the row then has, the higher the penalty.

The loops are plain Python. If numba is installed, the same functions run compiled, with equal results.
Sources: Kuhn 1955; Jonker and Volgenant, Computing 38, 1987; Kennington and Wang, EJOR 1992 (semi-assignment).
"""

from collections.abc import Callable
from functools import cache
from inspect import unwrap

import numpy as np
import torch

from otalab.errors import InputError
from otalab.transport.arcs import ArcProblem, ArcSolution, lowest_prices

FREE = -1


@torch.no_grad()
def augmenting_path(problem: ArcProblem, *, compiled: bool | None = None) -> ArcSolution:
    """Solve all blocks exactly, on the CPU in float64, and return columns and prices on the problem's device.

    `compiled` selects numba (True), plain Python (False), or numba if it is installed (None); the result is the same.
    `iterations` counts the augmenting paths. In a deficit (see above), `ArcSolution.deficit` says how many columns each
    row lacks, and the prices prove that what was shipped cannot cost less. From another device the arcs come in one
    transfer. Raises InputError for NaN or -inf in the cost, and if `compiled` is True but numba is not installed.
    """
    if compiled and not numba_is_there():
        raise InputError("compiled=True needs numba: pip install 'otalab[fast]'")
    compiled = numba_is_there() if compiled is None else compiled
    cost, order = problem.cost.sort(dim=1)
    cost, column, k = to_numpy(cost, problem.column.gather(1, order), problem.k)
    refuse_nonsense(cost)
    owner, price, paths = np.full(problem.num_columns, FREE), np.zeros(len(k)), 0
    arcs = np.isfinite(cost).sum(axis=1)
    hoped = np.minimum(k, arcs)  # how many columns each row may still get
    if arcs.any():
        cost, column, penalty = cost[:, : arcs.max()], column[:, : arcs.max()], penalties(cost, k)
        state = owner, np.zeros(problem.num_columns), price, np.zeros_like(k), hoped  # owner, paid, price, short, hoped
        if compiled:
            settle, ship = by_numba(settle_contests), by_numba(ship_the_rest)
        else:  # plain Python reads lists and memoryviews several times as fast as arrays
            settle, ship = settle_contests, ship_the_rest
            cost, column, state = cost.tolist(), column.tolist(), tuple(map(memoryview, state))
        settle(cost, column, k, *state, *penalty)
        paths = ship(cost, column, *state, *penalty)
    owner, price = (torch.from_numpy(x).to(problem.cost.device) for x in (owner, price))
    if (hoped < k).any():
        price = lowest_prices(problem, owner)  # a deficit leaves penalties in the old prices
    return ArcSolution(problem, owner, price, paths)


@cache
def numba_is_there() -> bool:
    """Whether numba is installed and works with the installed NumPy."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


@cache
def by_numba(function: Callable) -> Callable:
    """Compile the function once, with equal results; numba caches it on disk where it may write."""
    from numba import njit

    options = {"fastmath": {"nnan", "nsz"}}  # costs are never NaN, so a minimum need not test for it
    function = unwrap(function)  # tests wrap functions to check types
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no writable cache folder
        return njit(**options)(function)


def to_numpy(cost: torch.Tensor, column: torch.Tensor, k: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three as CPU arrays; from a device they come in one transfer, as float64, which holds indices exactly."""
    if cost.device.type == "cpu":
        return cost.numpy(), column.numpy(), k.numpy()
    packed = torch.cat((cost, column.to(cost), k[:, None].to(cost)), dim=1).cpu().numpy()
    cost, column, k = np.split(packed, [cost.shape[1], -1], axis=1)
    return np.ascontiguousarray(cost), column.astype(np.int64), k[:, 0].astype(np.int64)


def settle_contests(cost, column, k, owner, paid, price, short, hoped, most, step):
    """Price the rows, whose arcs are sorted by cost, and give each column to the row that gains most."""
    for i in range(len(k)):
        row, columns, wants = cost[i], column[i], hoped[i]
        if wants < k[i]:
            price[i] = most - step * (wants + 1)  # penalty of the last copy left out
        elif row[0] < np.inf:
            price[i] = row[max(wants - 1, 0)]
        for a in range(wants):
            j, rival = columns[a], owner[columns[a]]
            if rival != FREE:
                if price[i] - row[a] <= price[rival] - paid[j]:
                    short[i] += 1
                    continue
                short[rival] += 1
            owner[j] = i
            paid[j] = row[a]


def ship_the_rest(cost, column, owner, paid, price, short, hoped, most, step):
    """Find each missing column by a shortest augmenting path; return the number of paths."""
    m, paths = len(cost), 0
    distance = [np.inf] * m  # reduced cost of the cheapest known path from the short row to each row
    scanned = [False] * m
    # last step of the path to row r: from_row[r] takes the column by_column[r] from r, and pays the cost at_cost[r]
    from_row, by_column, at_cost = [0] * m, [0] * m, [0.0] * m
    for start in range(m):
        for _ in range(short[start]):
            distance[start] = 0.0
            reached = [start]
            best, last_row, last_column, last_cost = np.inf, start, FREE, 0.0
            while True:
                i = FREE
                for r in reached:
                    if not scanned[r] and (i == FREE or distance[r] < distance[i]):
                        i = r
                if i == FREE or distance[i] >= best:
                    break
                scanned[i] = True
                base = distance[i] - price[i]
                if base + (most - step * hoped[i]) < best:  # row i gives up a column
                    best, last_row, last_column = base + (most - step * hoped[i]), i, FREE
                row, columns = cost[i], column[i]
                for a in range(len(row)):
                    at = base + row[a]
                    if at >= best:
                        break  # later arcs are no cheaper, since rents are not negative
                    j = columns[a]
                    other = owner[j]
                    if other == FREE:
                        best, last_row, last_column, last_cost = at, i, j, row[a]
                        break
                    if scanned[other]:
                        continue
                    at += price[other] - paid[j]
                    if at < distance[other]:
                        if distance[other] == np.inf:
                            reached.append(other)
                        distance[other] = at
                        from_row[other], by_column[other], at_cost[other] = i, j, row[a]
            for r in reached:
                if scanned[r]:
                    price[r] += best - distance[r]
                distance[r] = np.inf
                scanned[r] = False
            i = last_row
            if last_column == FREE:
                hoped[i] -= 1
            else:
                owner[last_column] = i
                paid[last_column] = last_cost
            while i != start:
                j = by_column[i]
                owner[j] = from_row[i]
                paid[j] = at_cost[i]
                i = from_row[i]
            paths += 1
    return paths


def refuse_nonsense(cost: np.ndarray) -> None:
    """Raise InputError for NaN (sorted last) and -inf (sorted first)."""
    ends = cost[:, [0, -1]] if cost.size else cost
    bad = np.argwhere(~(ends > -np.inf))
    if len(bad):
        raise InputError(f"cost is {ends[tuple(bad[0])]} in row {bad[0, 0]}; it takes finite numbers or +inf")


def penalties(cost: np.ndarray, k: np.ndarray) -> tuple[float, float]:
    """(most, step): leaving a row without its t-th column costs most - step * t.

    A path visits each row at most once, so a chain of exchanges costs less than one step.
    """
    step = 2 * (len(k) + 1) * (1 + np.abs(cost).max(where=np.isfinite(cost), initial=0.0))
    return float((2 * k.max() + 3) * step), float(step)
