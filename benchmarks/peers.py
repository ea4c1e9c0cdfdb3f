"""Other libraries' solvers on the problems that ours get: on the arcs that the presolve leaves, or on the full matrix.

Each is called as its documentation has it, in one image; what it takes to put the problem into its terms counts. A
peer on arcs returns the owner of each column, -1 for none; a peer on the matrix returns labels. Those of packages that
otalab does not require are used where they are installed.
"""

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import numpy as np
import ot
import scipy.optimize
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor

from otalab.transport.arcs import ArcProblem

DEAR = 100.0  # off-prior cost for the solvers that scale or exponentiate the whole matrix


class Columns:
    """Arcs of one image as NumPy: the columns that any arc leads to, renumbered from 0."""

    def __init__(self, arcs: ArcProblem) -> None:
        self.row, place = arcs.cost.isfinite().numpy().nonzero()
        self.cost = arcs.cost.numpy()[self.row, place]
        self.number, self.column = np.unique(arcs.column.numpy()[self.row, place], return_inverse=True)
        self.k, self.total = arcs.k.numpy(), arcs.num_columns

    def owner(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Owner of each column of the image, from pairs of a row and a column."""
        owner = np.full(self.total, -1)
        owner[self.number[column]] = row
        return owner

    def dense(self, fill: float) -> np.ndarray:
        """The costs as a matrix, `fill` where there is no arc."""
        cost = np.full((len(self.k), len(self.number)), fill)
        cost[self.row, self.column] = self.cost
        return cost


def sparse_matching(arcs: ArcProblem) -> np.ndarray:
    """SciPy's sparse bipartite matching (LAPJVsp), each row repeated k times."""
    c = Columns(arcs)
    positive = c.cost - c.cost.min() + 1.0  # a constant for each label shipped; 0 would be no edge
    shape = len(c.k), len(c.number)
    graph = scipy.sparse.csr_array((positive, (c.row, c.column)), shape=shape)
    copies = np.repeat(np.arange(len(c.k)), c.k)
    rows, columns = scipy.sparse.csgraph.min_weight_full_bipartite_matching(graph[copies])
    return c.owner(copies[rows], columns)


def dense_matching(arcs: ArcProblem) -> np.ndarray:
    """SciPy's rectangular assignment (Jonker-Volgenant), each row repeated k times."""
    c = Columns(arcs)
    copies = np.repeat(np.arange(len(c.k)), c.k)
    rows, columns = scipy.optimize.linear_sum_assignment(c.dense(np.inf)[copies])
    return c.owner(copies[rows], columns)


def highs(arcs: ArcProblem) -> np.ndarray:
    """HiGHS on the linear program, by SciPy."""
    c = Columns(arcs)
    number = np.arange(len(c.row))
    ones = np.ones(len(c.row))
    wants = scipy.sparse.csr_array((ones, (c.row, number)), shape=(len(c.k), len(number)))
    once = scipy.sparse.csr_array((ones, (c.column, number)), shape=(len(c.number), len(number)))
    result = scipy.optimize.linprog(c.cost, once, np.ones(len(c.number)), wants, c.k, method="highs")
    taken = result.x > 0.5
    return c.owner(c.row[taken], c.column[taken])


def pot_emd(arcs: ArcProblem) -> np.ndarray:
    """POT's network simplex, a row for the slack and a dear cost where there is no arc."""
    c = Columns(arcs)
    dear = 2.0 * (len(c.k) + 1) * (np.abs(c.cost).max() + 1)
    cost = np.concatenate([c.dense(dear), np.zeros((1, len(c.number)))])
    supply = np.append(c.k, len(c.number) - c.k.sum()).astype(float)
    plan = ot.emd(supply, np.ones(len(c.number)), cost - cost.min(), numItermax=1_000_000)
    return c.owner(*(plan[:-1] > 0.5).nonzero())


def min_cost_flow(arcs: ArcProblem) -> np.ndarray:
    """OR-Tools' min-cost flow, costs in whole units of 2^-46 of the largest."""
    from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

    c = Columns(arcs)
    m, columns, arcs_of_rows = len(c.k), len(c.number), len(c.row)
    unit = np.abs(c.cost).max() / 2**46
    sink = m + columns
    tail = np.concatenate([c.row, m + np.arange(columns)])
    head = np.concatenate([m + c.column, np.full(columns, sink)])
    price = np.concatenate([np.rint(c.cost / unit).astype(np.int64), np.zeros(columns, dtype=np.int64)])
    flow = SimpleMinCostFlow()
    flow.add_arcs_with_capacity_and_unit_cost(tail, head, np.ones(len(tail), dtype=np.int64), price)
    flow.set_nodes_supplies(np.append(np.arange(m), sink), np.append(c.k, -c.k.sum()))
    if flow.solve() != flow.OPTIMAL:
        raise RuntimeError("OR-Tools found no flow")
    taken = flow.flows(np.arange(arcs_of_rows)) > 0
    return c.owner(c.row[taken], c.column[taken])


ARC_PEERS: dict[str, tuple[str, Callable[[ArcProblem], np.ndarray]]] = {
    "scipy min_weight_full_bipartite_matching": ("scipy", sparse_matching),
    "scipy linear_sum_assignment, repeated rows": ("scipy", dense_matching),
    "scipy linprog (HiGHS)": ("scipy", highs),
    "POT emd": ("ot", pot_emd),
    "OR-Tools min-cost flow": ("ortools", min_cost_flow),
}

Matrix, Supply, Labels = Float[Tensor, "m1 n"], Float[Tensor, " m1"], Int[Tensor, " n"]


def decode(plan: Tensor) -> Labels:
    """As the textbook decodes: rows rescaled to a maximum of 1, the largest share wins."""
    return (plan / plan.amax(dim=1, keepdim=True)).argmax(dim=0)


def emd_on_all(cost: Matrix, supply: Supply) -> Labels:
    """POT's network simplex on the full matrix."""
    cost = cost.double().numpy()
    plan = ot.emd(supply.double().numpy(), np.ones(cost.shape[1]), cost - cost.min(), numItermax=10_000_000)
    return torch.from_numpy(plan).argmax(dim=0)


def pot_sinkhorn(cost: Matrix, supply: Supply) -> Labels:
    """POT's log-domain Sinkhorn, 50 iterations at eps 0.1, float32 tensors."""
    plan = ot.bregman.sinkhorn_log(supply, torch.ones_like(cost[0]), cost, 0.1, numItermax=50, stopThr=0.0, warn=False)
    return decode(plan)


def pot_batch(cost: Float[Tensor, "B m1 n"], supply: Float[Tensor, "B m1"]) -> Int[Tensor, "B n"]:
    """POT's batched log-domain Sinkhorn, at most 50 iterations at eps 0.1."""
    ones = torch.ones_like(cost[:, 0])
    options = {"max_iter": 50, "tol": 0.0, "method": "log_sinkhorn", "grad": "detach"}
    return torch.stack([decode(plan) for plan in ot.batch.solve_batch(cost, 0.1, supply, ones, **options).plan])


def ott(cost: Matrix, supply: Supply) -> Labels:
    """OTT-JAX's Sinkhorn, 50 iterations at eps 0.1, compiled in the round that warms up."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    from jax.numpy import asarray

    return torch.from_numpy(np.array(compiled_ott()(asarray(cost.numpy()), asarray(supply.numpy())))).long()


@cache
def compiled_ott() -> Callable:
    """Labels from a matrix and supplies, in one compiled function."""
    import jax
    from ott.geometry.geometry import Geometry
    from ott.solvers.linear import solve

    def labels(cost, supply):
        ones = jax.numpy.ones(cost.shape[1])
        plan = solve(Geometry(cost, epsilon=0.1), supply, ones, threshold=0.0, max_iterations=50).matrix
        return (plan / plan.max(axis=1, keepdims=True)).argmax(axis=0)

    return jax.jit(labels)


def mdot_tnt(cost: Matrix, supply: Supply) -> Labels:
    """MDOT's truncated Newton to eps 0.1, float64, unit mass, costs scaled to at most 1; off-prior pairs at 100."""
    from mdot_tnt import solve_OT

    cost = cost.double().clamp(max=DEAR)
    scale, goods = cost.max(), supply.double().sum()
    ones = torch.ones_like(cost[0])
    plan = solve_OT(supply / goods, ones / goods, cost / scale, gamma_f=float(scale) / 0.1, return_plan=True)
    return decode(plan)


FULL_PEERS: dict[str, tuple[str, Callable[[Matrix, Supply], Labels]]] = {
    "POT emd, full matrix": ("ot", emd_on_all),
    "POT sinkhorn_log, 50 iterations": ("ot", pot_sinkhorn),
    "OTT-JAX Sinkhorn, 50 iterations": ("ott", ott),
    "mdot-tnt, eps 0.1": ("mdot_tnt", mdot_tnt),
}


def installed(peers: dict[str, tuple[str, Callable]]) -> dict[str, Callable]:
    """Those whose package is here."""
    return {name: run for name, (package, run) in peers.items() if find_spec(package)}
