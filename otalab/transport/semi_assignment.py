"""The problem that label assignment is once the background is eliminated: the semi-assignment problem.

Every column (anchor point) demands one label and the last supplier (the background) can serve any of them. Subtract
its cost, d_ij = c_ij - c_bg,j: then choose x in {0, 1} with sum_j x_ij = k_i and sum_i x_ij <= 1 that minimises
sum d_ij x_ij; the columns left over are the background's. The matrix of constraints is totally unimodular, so this is
the optimum of the linear program too.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from otalab.errors import InputError


def semi_assign(cost: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Give row i exactly k_i columns, each column to at most one row, at the least total cost.

    cost: (m, c) float64, +inf where row i must not get column j; k: (m,) int, not negative.
    Returns the owner of each column, (c,) int64, -1 for none. When the rows cannot all get their k from the finite
    entries, as many labels as possible are shipped, and those at the least cost. Raises InputError for NaN or -inf.
    """
    if np.isnan(cost).any() or np.isneginf(cost).any():
        first = tuple(int(i) for i in np.argwhere(np.isnan(cost) | np.isneginf(cost))[0])
        raise InputError(f"cost is {cost[first]} at {first}")
    columns = cost.shape[1]
    owner = np.full(columns, -1, dtype=np.int64)
    rows = np.repeat(np.arange(len(k)), k)  # one copy of a row for each label it ships
    if len(rows) == 0 or columns == 0:
        return owner
    copies, taken = _match(cost[rows])
    owner[taken] = rows[copies]
    return owner


def _match(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the cheapest matching of as many rows as possible."""
    rows, columns = cost.shape
    if rows <= columns:
        try:
            return linear_sum_assignment(cost)
        except ValueError:  # SciPy's word for: the finite entries hold no matching of all rows
            pass
    finite = cost[np.isfinite(cost)]
    # dearer than any exchange of finite entries, so that a row is left out only where it must be
    unmatched = 1 + 2 * (rows + 1) * (np.abs(finite).max() if len(finite) else 0)
    padded = np.concatenate((cost, np.full((rows, rows), unmatched)), axis=1)
    copies, taken = linear_sum_assignment(padded)
    real = taken < columns
    return copies[real], taken[real]
