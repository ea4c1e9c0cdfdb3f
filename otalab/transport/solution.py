"""A solver's answer, and a certificate that checks it without trusting the solver."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab.errors import InputError
from otalab.transport.problem import TransportProblem, as_tensor, first_index, largest_of
from otalab.transport.rational import exact_excess

UNIT = 2.0**-53  # u: a float64 operation errs by at most u times its result


FIGURES = ("objective", "dual_objective", "gap", "row_error", "col_error")


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """Proof of how good a plan is, by weak duality. Figures are float64: a scalar tensor, or (B,) for a batch.

    plan  (m, n), and f (m,), g (n,): potentials with f_i + g_j <= cost_ij, which bound the cost of every plan

    A plan that meets its sums costs at least the optimum, so `gap` bounds how far above the optimum it is. A plan that
    misses its sums may cost less than the optimum, or even less than the bound. That proves nothing, and `is_optimal`
    is False.
    """

    problem: TransportProblem
    plan: Float[Tensor, "*batch m n"]
    f: Float[Tensor, "*batch m"]
    g: Float[Tensor, "*batch n"]

    def __repr__(self) -> str:
        return f"Certificate({', '.join(f'{name}={getattr(self, name).tolist()}' for name in FIGURES)})"

    @cached_property
    def objective(self) -> Float[Tensor, "*batch"]:
        """<plan, cost>; +inf if the plan uses a forbidden route."""
        return _over_used(self.plan, self.problem.cost.double())

    @cached_property
    def dual_objective(self) -> Float[Tensor, "*batch"]:
        """<f, supply> + <g, demand>, a lower bound on the optimum."""
        return _worth(self.f, self.problem.supply) + _worth(self.g, self.problem.demand)

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

    @cached_property
    def row_error(self) -> Float[Tensor, "*batch"]:
        """max_i |sum_j plan_ij - supply_i|, in units of goods."""
        return largest_of((self.plan.sum(-1) - self.problem.supply).abs())

    @cached_property
    def col_error(self) -> Float[Tensor, "*batch"]:
        """max_j |sum_i plan_ij - demand_j|, in units of goods."""
        return largest_of((self.plan.sum(-2) - self.problem.demand).abs())

    @cached_property
    def excess(self) -> Float[Tensor, "*batch"]:
        """sum_ij plan_ij (cost_ij - f_i - g_j): what the plan pays beyond its prices.

        No plan with the same row and column sums is cheaper by more than this. If the plan meets supply and demand,
        this equals the gap. Unlike in the gap, no large figures cancel: where plan_ij >= 0, no term is negative.
        """
        return _over_used(self.plan, _reduced(self.problem.cost.double(), self.f, self.g))

    @cached_property
    def paid(self) -> Float[Tensor, "*batch"]:
        """<|plan|, |cost|>: the scale of the objective, even if costs of both signs cancel in the objective."""
        return _over_used(self.plan.abs(), self.problem.cost.double().abs())

    @cached_property
    def rounding(self) -> Float[Tensor, "*batch"]:
        """Bound on the float64 rounding in `excess`, including the rounding that makes potentials infeasible.

        Let u = 2^-53. A reduced cost cost_ij - f_i - g_j takes two subtractions, g_j itself came from one, and the
        product with plan_ij is one more operation. Together they err by at most 5u (|cost_ij| + |f_i| + |g_j|)
        plan_ij, to first order. The N terms are added in pairs, then the pairs in pairs, h = ceil(log2 N) times. This
        errs by at most h u times the sum of their sizes. One more u covers all products of u with u. Finally, g_j
        inherits an error from the f_k it came from: float64 rounds g_j = cost_kj - f_k by u |f_k|. Hence

            rounding = (h + 6) u sum_ij |plan_ij| (|cost_ij| + |f_i| + |g_j| + |f_k(j)|).

        Routes that carry nothing add exactly 0, whatever they cost.
        Source: Higham, Accuracy and Stability of Numerical Algorithms, 2002, Sec. 4.2 (pairwise summation).
        """
        cost = self.problem.cost.double()
        if self.plan.numel() == 0:
            return torch.zeros_like(self.excess)
        behind = self.f.gather(-1, (cost - self.f.unsqueeze(-1)).min(-2).indices)
        sizes = _reduced(cost.abs(), -self.f.abs(), -self.g.abs() - behind.abs())
        m, n = self.plan.shape[-2:]
        return (_halvings(m * n) + 6) * UNIT * _over_used(self.plan.abs(), sizes)

    def is_optimal(self, tol: float = 1e-9) -> Bool[Tensor, "*batch"]:
        """Whether the plan is proven feasible and optimal: `meets_sums(tol)`, and `relative_excess(tol)` <= tol."""
        feasible = self.meets_sums(tol) & self.objective.isfinite()
        return feasible & (self.relative_excess(tol) <= tol)

    def relative_excess(self, tol: float = 1e-9) -> Float[Tensor, "*batch"]:
        """How much the plan costs above the cheapest plan with equal row and column sums, divided by `paid`.

        This is the upper bound (excess + rounding) / paid if that decides whether the plan is within `tol`. If
        rounding leaves a doubt, exact arithmetic on the CPU decides (see `otalab.transport.rational`). It uses the
        plan alone, not f and g, and stops as soon as it finds more than `tol`, so that the true figure may be higher.
        """
        most, least = self.excess + self.rounding, self.excess - self.rounding
        allowed = tol * self.paid
        ratio = torch.where(most <= 0, 0.0, most / self.paid)
        unsure = ~(most <= allowed) & ~(least > allowed) & self.objective.isfinite()  # NaN, an overflow, is unsure too
        if bool(unsure.any()):
            m, n = self.plan.shape[-2:]
            cost, plan = (x.double().reshape(-1, m, n).cpu().numpy() for x in (self.problem.cost, self.plan))
            for at in unsure.flatten().nonzero().flatten().tolist():
                ratio.view(-1)[at] = exact_excess(cost[at], plan[at], tol)
        return ratio

    def meets_sums(self, tol: float = 1e-9) -> Bool[Tensor, "*batch"]:
        """Whether the plan is feasible, to within `tol` relative to the units compared.

        A row may miss its supply by tol * supply_i, and a column its demand by tol * demand_j, plus the rounding of
        its own sum. An entry may be as low as -tol * min(supply_i, demand_j). If supply and demand have unequal sums
        (for example masses from float32), no plan can meet both. Then the rows and columns may miss more, in total by
        up to 1 + tol times the difference of the sums. (`TransportProblem` limits that difference.)
        """
        supply, demand = self.problem.supply.double(), self.problem.demand.double()
        missed = _missed(self.plan, supply, tol).sum(-1) + _missed(self.plan.mT, demand, tol).sum(-1)
        uneven = (supply.sum(-1) - demand.sum(-1)).abs()
        least = -tol * torch.minimum(supply.unsqueeze(-1), demand.unsqueeze(-2))
        return (missed <= (1 + tol) * uneven) & (self.plan >= least).flatten(-2).all(-1)


def _certified(name: str, meaning: str) -> property:
    """A property that reads one figure from a solution's certificate."""
    return property(lambda solution: getattr(solution.certificate, name), doc=meaning)


@dataclass(frozen=True, eq=False)
class TransportSolution:
    """A solver's answer. The certified figures are computed in float64 when first accessed.

    plan        (m, n) or (B, m, n); rows are suppliers, columns demanders
    f, g        potentials of rows (m,) and columns (n,); -inf where an entropic plan ships nothing
    converged   bool, one for each problem: whether the solver met its own stopping test. An entropic solver with
                tol = 0 runs a fixed number of iterations; it has no such test and reports False
    iterations  of the slowest problem of the batch; None if the solver does not count
    seconds     wall time of the solver, set by `solve`
    trace       marginal errors during an iterative solve (the solver's docstring says which), else None
    """

    problem: TransportProblem = field(repr=False)
    plan: Float[Tensor, "*batch m n"]
    f: Float[Tensor, "*batch m"]
    g: Float[Tensor, "*batch n"]
    converged: Bool[Tensor, "*batch"]
    iterations: int | None = None
    seconds: float | None = None
    trace: Float[Tensor, "*batch checks"] | None = None

    @classmethod
    def of_batch(cls, problem: TransportProblem, **parts) -> "TransportSolution":
        """Build a solution from parts with a batch axis, which is dropped if the problem has none."""
        if not problem.batched:
            parts = {name: part[0] if isinstance(part, Tensor) else part for name, part in parts.items()}
        return cls(problem, **parts)

    @property
    def labels(self) -> Int[Tensor, "*batch n"]:
        """The row that ships each column most (OTA, Sec. 3.2); the first row wins a tie; -1 if there are no rows."""
        if self.plan.shape[-2] == 0:
            return torch.full_like(self.g, -1, dtype=torch.int64)
        return self.plan.max(-2).indices  # like argmax, but faster when a column's entries are not adjacent in memory

    @cached_property
    def certificate(self) -> Certificate:
        """The certificate that `certify` gives for this plan and this f."""
        return certificate_of(self.problem, self.plan, self.f)

    objective = _certified("objective", "<plan, cost>.")
    dual_objective = _certified("dual_objective", "The lower bound on the optimum that f proves.")
    gap = _certified("gap", "objective - dual_objective.")
    relative_gap = _certified("relative_gap", "gap / max(|objective|, |dual_objective|).")
    row_error = _certified("row_error", "Largest deviation of a row sum from its supply.")
    col_error = _certified("col_error", "Largest deviation of a column sum from its demand.")


@torch.no_grad()
def certificate_of(problem: TransportProblem, plan, f=None, g=None) -> Certificate:
    """Build the certificate of a plan from row potentials f or, if f is None, from column potentials g."""
    plan, cost = plan_of(problem, plan), problem.cost.double()
    if f is not None:
        f = _potential(f, "f", problem.supply)
        g = c_transform(cost, f)
    else:
        g = _potential(g, "g", problem.demand)
        f = c_transform(cost.mT, g)
    return Certificate(problem, plan, f, g)


def plan_of(problem: TransportProblem, values) -> Float[Tensor, "*batch m n"]:
    """Any plan of a problem in float64. Raises InputError for a wrong shape, and for a plan that is not finite."""
    plan = _like(problem.cost, values, "plan")
    bad = ~plan.isfinite()
    if bad.any():
        at = first_index(bad)
        raise InputError(f"plan is {plan[at].item()} at {list(at)}".replace("nan", "NaN"))
    return plan


def c_transform(cost: Float[Tensor, "*batch m n"], f: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch n"]:
    """g_j = min_i (cost_ij - f_i): the largest g with f_i + g_j <= cost_ij; +inf if no route leads to column j."""
    if cost.shape[-2] == 0:
        return cost.new_full(cost.shape[:-2] + cost.shape[-1:], torch.inf)
    return (cost - f.unsqueeze(-1)).amin(-2)


def _like(other: Tensor, values, name: str) -> Tensor:
    values = as_tensor(values, name).to(other.device, torch.float64)
    if values.shape != other.shape:
        raise InputError(f"{name} must be {tuple(other.shape)}, not {tuple(values.shape)}")
    return values


def _potential(values, name: str, units: Tensor) -> Tensor:
    values = _like(units, values, name)
    bad = values.isnan() | (values == torch.inf) | (values.isinf() & (units > 0))
    if bad.any():
        at = first_index(bad)
        raise InputError(f"{name}{list(at)} is {values[at].item():g}, which proves no bound")
    return values


def _worth(potential: Float[Tensor, "*batch k"], units: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    return _in_pairs(torch.where(units > 0, potential * units, 0.0))  # 0 * inf = 0


def _over_used(plan: Float[Tensor, "*batch m n"], price: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch"]:
    """<plan, price>, where a route that carries nothing counts 0 even if its price is inf."""
    return _in_pairs(torch.where(plan != 0, plan * price, 0.0).flatten(-2))


def _reduced(cost: Tensor, f: Tensor, g: Tensor) -> Float[Tensor, "*batch m n"]:
    return cost - f.unsqueeze(-1) - g.unsqueeze(-2)


def _in_pairs(terms: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """Sum k terms in pairs, then the pairs in pairs, and so on, so that rounding errors grow as log k."""
    while terms.shape[-1] > 1:
        half = terms.shape[-1] // 2
        rest = terms[..., 2 * half :]
        terms = torch.cat((terms[..., :half] + terms[..., half : 2 * half], rest), dim=-1)
    return terms.sum(-1)


def _missed(plan: Float[Tensor, "*batch k l"], units: Float[Tensor, "*batch k"], tol: float) -> Tensor:
    """How far each row sum misses its units beyond tol * units and the rounding of the sum itself."""
    rounding = (_halvings(plan.shape[-1]) + 1) * UNIT * plan.abs().sum(-1)
    return ((_in_pairs(plan) - units).abs() - tol * units - rounding).clamp(min=0)


def _halvings(count: int) -> int:
    """Rounds of pairwise addition that reduce `count` numbers to one: ceil(log2 count)."""
    return max(0, count - 1).bit_length()
