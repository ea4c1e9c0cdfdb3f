"""What a solver found, and a certificate of it that trusts no solver."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab.errors import InputError
from otalab.transport.problem import TransportProblem, as_tensor


@dataclass(frozen=True, eq=False)
class Certificate:
    """Proof of how good a plan is, by weak duality. Float64; a scalar tensor for one problem, (B,) for a batch.

    objective       <plan, cost>; +inf if the plan uses a forbidden route
    dual_objective  <f, supply> + <g, demand>, at most the optimum since f_i + g_j <= cost_ij
    row_error       max_i |sum_j plan_ij - supply_i|, in units of goods; col_error likewise
    least_entry     the smallest entry of the plan; none may be negative
    f, g            the feasible potentials of rows (m,) and columns (n,) that prove the bound

    A plan that meets its marginals costs at least the optimum, so `gap` bounds its excess. A plan that does not may
    cost less than the optimum, even less than the bound: that proves nothing, and `is_optimal` says no.
    """

    problem: TransportProblem = field(repr=False)
    objective: Float[Tensor, "*batch"]
    dual_objective: Float[Tensor, "*batch"]
    row_error: Float[Tensor, "*batch"]
    col_error: Float[Tensor, "*batch"]
    least_entry: Float[Tensor, "*batch"]
    f: Float[Tensor, "*batch m"] = field(repr=False)
    g: Float[Tensor, "*batch n"] = field(repr=False)

    @property
    def gap(self) -> Float[Tensor, "*batch"]:
        """objective - dual_objective, in units of cost times goods."""
        return self.objective - self.dual_objective

    @property
    def relative_gap(self) -> Float[Tensor, "*batch"]:
        """gap / max(|objective|, |dual_objective|); 0 where the gap is 0, 1 where the objective is infinite."""
        size = torch.maximum(self.objective.abs(), self.dual_objective.abs())
        ratio = torch.where(size.isinf(), 1.0, self.gap / size)
        return torch.where(self.gap == 0, 0.0, ratio)

    def is_optimal(self, tol: float = 1e-9) -> Bool[Tensor, "*batch"]:
        """Whether the plan is proven feasible and optimal, each within `tol`.

        At most `tol` may be: the relative gap, of either sign; each marginal error over the largest supply or
        demand; a negative entry over the smaller of these. The gap may have, besides, what float64 sums cannot
        resolve: 64 * 2^-52 * goods * largest finite |cost|.
        """
        cost, supply, demand = self.problem.cost.double(), self.problem.supply.double(), self.problem.demand.double()
        if cost.numel() == 0:
            return torch.ones_like(self.gap, dtype=torch.bool)
        largest_cost = cost.masked_fill(cost.isinf(), 0.0).abs().amax((-2, -1))
        rounding = 64 * torch.finfo(torch.float64).eps * supply.sum(-1) * largest_cost
        size = torch.maximum(self.objective.abs(), self.dual_objective.abs())
        most_offered, most_wanted = supply.amax(-1), demand.amax(-1)
        return (
            self.objective.isfinite()
            & (self.gap.abs() <= tol * size + rounding)
            & (self.row_error <= tol * most_offered)
            & (self.col_error <= tol * most_wanted)
            & (self.least_entry >= -tol * torch.minimum(most_offered, most_wanted))
        )


@dataclass(frozen=True, eq=False)
class TransportSolution:
    """A solver's answer. The certified figures are worked out, in float64, when first asked for.

    plan        (m, n) or (B, m, n), rows suppliers, columns demanders
    f, g        potentials of rows (m,) and columns (n,); -inf where an entropic plan ships nothing
    converged   bool, one for each problem: the solver met its own stopping test. An entropic solver that was told
                only a number of iterations has no such test, and says False
    iterations  of the slowest problem of the batch; None if the solver does not count
    seconds     wall time of the solver, set by `solve`
    trace       the marginal error in the course of an iterative solver (its docstring says which), else None
    """

    problem: TransportProblem = field(repr=False)
    plan: Float[Tensor, "*batch m n"]
    f: Float[Tensor, "*batch m"]
    g: Float[Tensor, "*batch n"]
    converged: Bool[Tensor, "*batch"]
    iterations: int | None = None
    seconds: float | None = None
    trace: Float[Tensor, "*batch checks"] | None = None

    @property
    def labels(self) -> Int[Tensor, "*batch n"]:
        """For each column the row that ships it most (OTA, Sec. 3.2); the first such row if several do."""
        return self.plan.max(-2).indices  # argmax, but quick where a column's entries lie apart

    @cached_property
    def certificate(self) -> Certificate:
        """`certify` of this plan with this f."""
        return certificate_of(self.problem, self.plan, self.f)

    @property
    def objective(self) -> Float[Tensor, "*batch"]:
        """<plan, cost>."""
        return self.certificate.objective

    @property
    def dual_objective(self) -> Float[Tensor, "*batch"]:
        """The lower bound on the optimum that f proves."""
        return self.certificate.dual_objective

    @property
    def gap(self) -> Float[Tensor, "*batch"]:
        """objective - dual_objective."""
        return self.certificate.gap

    @property
    def relative_gap(self) -> Float[Tensor, "*batch"]:
        """gap / max(|objective|, |dual_objective|)."""
        return self.certificate.relative_gap

    @property
    def row_error(self) -> Float[Tensor, "*batch"]:
        """Largest deviation of a row sum from its supply."""
        return self.certificate.row_error

    @property
    def col_error(self) -> Float[Tensor, "*batch"]:
        """Largest deviation of a column sum from its demand."""
        return self.certificate.col_error


@torch.no_grad()
def certificate_of(problem: TransportProblem, plan, f=None, g=None) -> Certificate:
    """`certify`, for a caller that has potentials of rows or of columns."""
    cost, supply, demand = problem.cost.double(), problem.supply.double(), problem.demand.double()
    plan = _like(cost, plan, "plan")
    if plan.isnan().any():
        raise InputError(f"plan is NaN at {plan.isnan().nonzero()[0].tolist()}")
    if f is not None:
        f = _potential(f, "f", supply)
        g = c_transform(cost, f)
    else:
        g = _potential(g, "g", demand)
        f = c_transform(cost.mT, g)

    forbidden = cost.isinf()
    astray = (forbidden & (plan != 0)).flatten(-2).any(-1)
    paid = (plan * cost.masked_fill(forbidden, 0.0)).sum((-2, -1))  # 0 * inf = 0
    return Certificate(
        problem=problem,
        objective=paid.masked_fill(astray, torch.inf),
        dual_objective=_worth(f, supply) + _worth(g, demand),
        row_error=_largest((plan.sum(-1) - supply).abs()),
        col_error=_largest((plan.sum(-2) - demand).abs()),
        least_entry=-_largest(-plan.flatten(-2)),
        f=f,
        g=g,
    )


def c_transform(cost: Float[Tensor, "*batch m n"], f: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch n"]:
    """g_j = min_i (cost_ij - f_i): the largest g with f_i + g_j <= cost_ij; +inf if no route leads to column j."""
    if cost.shape[-2] == 0:
        return cost.new_full(cost.shape[:-2] + cost.shape[-1:], torch.inf)
    return (cost - f.unsqueeze(-1)).amin(-2)


def _like(other: Tensor, values, name: str) -> Tensor:
    values = as_tensor(values).to(other)
    if values.shape != other.shape:
        raise InputError(f"{name} must be {tuple(other.shape)}, not {tuple(values.shape)}")
    return values


def _potential(values, name: str, units: Tensor) -> Tensor:
    values = _like(units, values, name)
    bad = values.isnan() | (values == torch.inf) | (values.isinf() & (units > 0))
    if bad.any():
        at = tuple(bad.nonzero()[0].tolist())
        raise InputError(f"{name}{list(at)} is {values[at].item():g}, which proves no bound")
    return values


def _worth(potential: Tensor, units: Tensor) -> Tensor:
    return torch.where(units > 0, potential * units, 0.0).sum(-1)  # 0 * inf = 0


def _largest(values: Tensor) -> Tensor:
    return values.amax(-1) if values.shape[-1] else values.sum(-1)
