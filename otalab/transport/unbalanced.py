"""Unbalanced entropic transport in the log domain: row and column sums may be missed, at a cost."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from otalab.checks import require
from otalab.errors import InputError
from otalab.transport.problem import refuse_entries
from otalab.transport.sinkhorn import check_options


@torch.no_grad()
def unbalanced_sinkhorn(
    cost: Float[Tensor, "*batch m n"],
    supply: Float[Tensor, "*batch m"],
    demand: Float[Tensor, "*batch n"],
    *,
    eps: float,
    tau_rows: float = math.inf,
    tau_columns: float = math.inf,
    max_iter: int = 70,
) -> Float[Tensor, "*batch m n"]:
    """Minimise <P, cost> + eps KL(P | 1) + tau_rows KL(P 1 | supply) + tau_columns KL(P^T 1 | demand) over P >= 0.

    KL(p | q) = sum p ln(p / q) - p + q. A tau of inf makes the sums constraints, as in `sinkhorn`. A tau of 0 ignores
    them. P_ij = exp((f_i + g_j - cost_ij) / eps): starting from g = 0, each iteration sets f to the optimum for the
    current g, then g to the optimum for that f. After the last iteration f is set once more. Rows or columns of 0 units
    get nothing, and +inf in `cost` forbids a route. The input is checked first. Then all iterations are run, and
    nothing waits for the device.

    The scale of the goods matters, because eps KL compares the plan with a plan of ones: asking for k times as many
    units of everything shifts all costs by eps ln k. Raises InputError for an option out of range, for supply or demand
    whose shape does not fit the cost's, for goods that are negative or not finite, and for a cost of NaN or -inf.
    Source: Chizat et al., Mathematics of Computation 2018, Algorithm 1 (Sec. 4), with KL for both marginals.
    """
    check_options(eps=eps, max_iter=max_iter)
    require("not be negative", tau_rows=tau_rows, tau_columns=tau_columns)
    column_shape = cost.shape[:-2] + cost.shape[-1:]
    for name, goods, shape in (("supply", supply, cost.shape[:-1]), ("demand", demand, column_shape)):
        if goods.shape != shape:
            raise InputError(f"{name} must be {tuple(shape)} for a cost {tuple(cost.shape)}, not {tuple(goods.shape)}")
    refuse_entries(cost, supply, demand)
    pull_rows, pull_columns = (1.0 if math.isinf(tau) else tau / (tau + eps) for tau in (tau_rows, tau_columns))
    kernel = cost / -eps
    log_supply, log_demand = supply.log(), demand.log()

    def answer(log_goods: Tensor, other: Tensor, dim: int, pull: float) -> Tensor:
        """The potential of one side divided by eps, given that of the other."""
        reached = torch.logsumexp(kernel + other.unsqueeze(-3 - dim), dim)  # -inf where all routes are forbidden
        return (pull * (log_goods - reached)).masked_fill(log_goods.isinf() | reached.isinf(), -torch.inf)

    v = torch.zeros_like(demand).masked_fill(log_demand.isinf(), -torch.inf)
    for _ in range(max_iter):
        u = answer(log_supply, v, -1, pull_rows)
        v = answer(log_demand, u, -2, pull_columns)
    u = answer(log_supply, v, -1, pull_rows)
    return (kernel + u.unsqueeze(-1) + v.unsqueeze(-2)).exp()
