"""Other libraries' solvers on otalab's problems: on the arcs that the presolve leaves, or on the full matrix.

Each is called as its documentation describes, with one image per call (`pot_batch` takes a batch). The time to convert
the problem into its terms counts. A solver of arcs returns the owner of each column, or -1. A solver of the full matrix
returns labels. Packages that otalab does not require are used if they are installed.
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

from otalab.lab.timing import decode
from otalab.transport.arcs import ArcProblem

DEAR = 100.0  # off-prior cost for solvers that scale or exponentiate the whole matrix


class Columns:
    """The arcs of one image as NumPy arrays, with the columns that have an arc renumbered from 0."""

    def __init__(self, arcs: ArcProblem) -> None:
        self.row, place = arcs.cost.isfinite().numpy().nonzero()
        self.cost = arcs.cost.numpy()[self.row, place]
        self.number, self.column = np.unique(arcs.column.numpy()[self.row, place], return_inverse=True)
        self.k, self.total = arcs.k.numpy(), arcs.num_columns

    def owner(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The owner of each column of the image (-1 for none), from pairs of a row and a renumbered column."""
        owner = np.full(self.total, -1)
        owner[self.number[column]] = row
        return owner

    def dense(self, fill: float) -> np.ndarray:
        """The costs as a matrix of rows and renumbered columns, with `fill` where there is no arc."""
        cost = np.full((len(self.k), len(self.number)), fill)
        cost[self.row, self.column] = self.cost
        return cost


def sparse_matching(arcs: ArcProblem) -> np.ndarray:
    """SciPy's sparse bipartite matching (LAPJVsp), with each row repeated k times."""
    c = Columns(arcs)
    positive = c.cost - c.cost.min() + 1.0  # adds the same to every label shipped; a cost of 0 would mean no edge
    shape = len(c.k), len(c.number)
    graph = scipy.sparse.csr_array((positive, (c.row, c.column)), shape=shape)
    copies = np.repeat(np.arange(len(c.k)), c.k)
    rows, columns = scipy.sparse.csgraph.min_weight_full_bipartite_matching(graph[copies])
    return c.owner(copies[rows], columns)


def dense_matching(arcs: ArcProblem) -> np.ndarray:
    """SciPy's rectangular assignment (Jonker-Volgenant), with each row repeated k times."""
    c = Columns(arcs)
    copies = np.repeat(np.arange(len(c.k)), c.k)
    rows, columns = scipy.optimize.linear_sum_assignment(c.dense(np.inf)[copies])
    return c.owner(copies[rows], columns)


def highs(arcs: ArcProblem) -> np.ndarray:
    """HiGHS on the linear program, called through SciPy."""
    c = Columns(arcs)
    number = np.arange(len(c.row))
    ones = np.ones(len(c.row))
    wants = scipy.sparse.csr_array((ones, (c.row, number)), shape=(len(c.k), len(number)))
    once = scipy.sparse.csr_array((ones, (c.column, number)), shape=(len(c.number), len(number)))
    result = scipy.optimize.linprog(c.cost, once, np.ones(len(c.number)), wants, c.k, method="highs")
    taken = result.x > 0.5
    return c.owner(c.row[taken], c.column[taken])


def pot_emd(arcs: ArcProblem) -> np.ndarray:
    """POT's network simplex, with a row for the slack and a prohibitive cost where there is no arc."""
    c = Columns(arcs)
    dear = 2.0 * (len(c.k) + 1) * (np.abs(c.cost).max() + 1)
    cost = np.concatenate([c.dense(dear), np.zeros((1, len(c.number)))])
    supply = np.append(c.k, len(c.number) - c.k.sum()).astype(float)
    plan = ot.emd(supply, np.ones(len(c.number)), cost - cost.min(), numItermax=1_000_000)
    return c.owner(*(plan[:-1] > 0.5).nonzero())


def min_cost_flow(arcs: ArcProblem) -> np.ndarray:
    """OR-Tools' min-cost flow, with costs rounded to whole multiples of 2^-46 of the largest."""
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


def emd_on_all(cost: Matrix, supply: Supply) -> Labels:
    """POT's network simplex on the full matrix."""
    cost = cost.double().numpy()
    plan = ot.emd(supply.double().numpy(), np.ones(cost.shape[1]), cost - cost.min(), numItermax=10_000_000)
    return torch.from_numpy(plan).argmax(dim=0)


def pot_sinkhorn(cost: Matrix, supply: Supply) -> Labels:
    """POT's log-domain Sinkhorn on float32 tensors, 50 iterations at eps 0.1."""
    plan = ot.bregman.sinkhorn_log(supply, torch.ones_like(cost[0]), cost, 0.1, numItermax=50, stopThr=0.0, warn=False)
    return decode(plan)


def pot_batch(cost: Float[Tensor, "B m1 n"], supply: Float[Tensor, "B m1"]) -> Int[Tensor, "B n"]:
    """POT's batched log-domain Sinkhorn, at most 50 iterations at eps 0.1."""
    ones = torch.ones_like(cost[:, 0])
    options = {"max_iter": 50, "tol": 0.0, "method": "log_sinkhorn", "grad": "detach"}
    return torch.stack([decode(plan) for plan in ot.batch.solve_batch(cost, 0.1, supply, ones, **options).plan])


def ott(cost: Matrix, supply: Supply) -> Labels:
    """OTT-JAX's Sinkhorn, 50 iterations at eps 0.1; it is compiled in the warm-up round."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    from jax.numpy import asarray

    return torch.from_numpy(np.array(compiled_ott()(asarray(cost.numpy()), asarray(supply.numpy())))).long()


@cache
def compiled_ott() -> Callable:
    """One compiled function from a cost matrix and supplies to labels."""
    import jax
    from ott.geometry.geometry import Geometry
    from ott.solvers.linear import solve

    def labels(cost, supply):
        ones = jax.numpy.ones(cost.shape[1])
        plan = solve(Geometry(cost, epsilon=0.1), supply, ones, threshold=0.0, max_iterations=50).matrix
        return (plan / plan.max(axis=1, keepdims=True)).argmax(axis=0)

    return jax.jit(labels)


def mdot_tnt(cost: Matrix, supply: Supply) -> Labels:
    """MDOT's truncated Newton to eps 0.1 in float64, with unit mass; costs are cut off at 100, then scaled to <= 1."""
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
    """The solvers whose package is installed."""
    return {name: run for name, (package, run) in peers.items() if find_spec(package)}
