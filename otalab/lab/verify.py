"""Check the claim that the solvers are right, on toy, random, real and your own assignment problems."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import torch

from otalab.errors import InputError, current
from otalab.lab.cases import Case
from otalab.transport import METHODS, Comparison, ExactCertificate, TransportProblem, TransportSolution, certify, solve
from otalab.transport.compare import tabulate, title
from otalab.transport.methods import EXACT, RENAMED
from otalab.transport.sinkhorn import check_options

TIGHT = 1e-9  # relative error that float64 solvers reach
# Entropic methods, and which options they take from the command line. Newton itself decides when it is done.
ENTROPIC = {"sinkhorn": ("eps", "max_iter"), "pot-sinkhorn": ("eps", "max_iter"), "newton": ("eps",)}
SINKHORN_TOLERANCE = 1e-6  # entries of two implementations' plans, in units of the largest demand
NEWTON_SUMS = 1e-8  # errors of sums and entries, relative to the supply or demand of their row or column
NEWTON_COST = 1e-7  # relative; a little more than what the errors of the sums can change the cost by


@dataclass(frozen=True)
class Check:
    """One claim about one problem: the measured figure and the largest figure allowed."""

    claim: str
    figure: float
    allowed: float
    note: str = ""  # which methods break the claim, or why there is no figure

    @property
    def passed(self) -> bool:
        return self.figure <= self.allowed  # NaN fails

    def __str__(self) -> str:
        seen = f"{self.figure:.1e} (allowed {self.allowed:.0e})" + f"; {self.note}" * bool(self.note)
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.claim}: {seen}"


@dataclass(frozen=True)
class Verification:
    """The table of all solvers on one problem, the checks, and certificates in exact fractions if asked for."""

    title: str
    comparison: Comparison
    checks: list[Check]
    exact: dict[str, ExactCertificate] = field(default_factory=dict)  # of the exact methods' plans

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        fractions = [f"\nwithout rounding, {method}'s plan is {proof}" for method, proof in self.exact.items()]
        return "\n".join([self.title, "", str(self.comparison), "", *map(str, self.checks), *fractions])

    def as_dict(self) -> dict:
        """The figures as a dict for JSON, with fractions as text."""
        exact = {method: certificate.as_dict() for method, certificate in self.exact.items()}
        return asdict(self) | {"exact": exact}


def verify(
    case: Case,
    *,
    methods: Sequence[str] | None = None,
    eps: float = 0.1,
    max_iter: int = 50,
    repeats: int = 3,
    exact: bool = False,
) -> Verification:
    """Solve a case by each method (names in METHODS; all by default) and check what each promises.

    Exact methods must agree with each other, prove their optimum and meet supplies and demands. Sinkhorn's plan must
    equal POT's. Newton's plan must meet supplies and demands, have the form exp((f + g - cost) / eps), and have a cost
    within the entropic bound. If the case has labels, their cost must be the optimum.

    The first exact method is the reference; linprog is added if there is none. A method that refuses the problem is
    listed with its reason. One that breaks down or gives NaN fails a check. With `exact`, the plans of exact methods
    are also certified in fractions, without rounding or tolerance. This result is not a check, because a plan may be
    right to 1e-9 but not to the last bit.

    Raises InputError for an unknown method, for faulty options, for a method that was asked for by name and refuses
    the problem, and for a problem that no exact method can solve, e.g. an infeasible one.
    """
    check_options(eps=eps, max_iter=max_iter, tol=0.0)
    given = {"eps": eps, "max_iter": max_iter}
    asked = [current(method, RENAMED) for method in methods or ()]
    runs, unanswered, failures = {}, {}, []
    for method in in_order(asked or METHODS):
        options = {name: given[name] for name in ENTROPIC.get(method, ())}
        name = title(method, options)
        try:
            runs[method] = name, answers(case.problem, method, options, repeats)
        except NoAnswer as error:
            unanswered[name] = str(error)
            failures.append(Check(f"{method} gives a plan and its prices", math.nan, 0.0, str(error)))
        except InputError as error:
            if method in asked:
                raise InputError(f"{method} does not solve {case.title!r}: {error}") from error
            unanswered[name] = str(error)
    found = {method: repeated[0] for method, (_, repeated) in runs.items()}
    proven = [method for method in found if method in EXACT]
    if not proven and not failures:
        raise InputError(f"no exact method solves {case.title!r}: {next(iter(unanswered.values()))}")
    reference = found[proven[0]] if proven else None
    checks = failures + (exact_checks(found, reference) if proven else []) + entropic_checks(found, reference, eps)
    if case.labels is not None and proven:
        figure = excess(case, reference.objective.item())
        checks.append(Check("labels of `ota` cost the optimum (relative)", figure, TIGHT))
    fractions = {method: certify(case.problem, found[method].plan, exact=True) for method in proven if exact}
    table = tabulate(proven[0] if proven else "", list(runs.values()), unanswered)
    return Verification(case.title, table, checks, fractions)


class NoAnswer(Exception):
    """Raised when a solver breaks down, or returns NaN."""


def in_order(methods: Iterable[str]) -> list[str]:
    """The methods without repetitions, with the exact reference first. Raises InputError for an unknown name."""
    chosen = list(dict.fromkeys(methods))
    for method in chosen:
        if method not in METHODS:
            raise InputError(f"no method {method!r}; there are {', '.join(METHODS)}")
    reference = next((method for method in chosen if method in EXACT), "linprog")
    return [reference, *(method for method in chosen if method != reference)]


def answers(problem: TransportProblem, method: str, options: dict, repeats: int) -> list[TransportSolution]:
    """Solve the problem `repeats` times.

    Raises NoAnswer if the solver breaks down or its solution cannot be judged, and InputError if it refuses the
    problem.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # a missed tolerance fails a check below
            repeated = [solve(problem, method, **options) for _ in range(repeats)]
    except RuntimeError as error:  # e.g. HiGHS gave up
        raise NoAnswer(" ".join(str(error).split())) from error
    try:
        repeated[0].certificate  # noqa: B018  computed here, where a fault can still be blamed on the method
    except InputError as error:
        raise NoAnswer(str(error)) from error
    return repeated


def exact_checks(found: dict[str, TransportSolution], reference: TransportSolution) -> list[Check]:
    """Check that exact methods agree with the reference, prove their optimum, and meet supplies and demands."""
    optimum, paid = reference.objective, reference.certificate.paid
    claims = {
        "exact solvers agree (relative)": lambda s: over((s.objective - optimum).abs(), paid),
        "exact solvers prove it (relative excess)": lambda s: s.certificate.relative_excess(TIGHT).item(),
        "exact plans meet their sums (relative)": sums_missed,
    }
    checks = []
    for claim, figure_of in claims.items():
        figures = {method: figure_of(solution) for method, solution in found.items() if method in EXACT}
        broken = [method for method, figure in figures.items() if not abs(figure) <= TIGHT]
        checks.append(Check(claim, worst(figures.values()), TIGHT, ", ".join(broken)))
    return checks


def entropic_checks(
    found: dict[str, TransportSolution], reference: TransportSolution | None, eps: float
) -> list[Check]:
    """Check that both Sinkhorns reach the same plan in equal steps, and that Newton's plan solves the entropic problem.

    Of all plans with the right sums, exactly one has the form exp((f + g - cost) / eps): the entropic optimum.
    """
    checks = []
    if {"sinkhorn", "pot-sinkhorn"} <= found.keys():
        ours, pots = found["sinkhorn"], found["pot-sinkhorn"]
        apart = (ours.plan - pots.plan).abs().max().item() / (ours.problem.demand.max().item() or 1.0)
        checks.append(Check("Sinkhorn equals POT's (largest plan entry)", apart, SINKHORN_TOLERANCE))
    if "newton" in found:
        newton = found["newton"]
        checks.append(Check("Newton's plan meets its sums", sums_missed(newton), NEWTON_SUMS))
        form = "Newton's plan is exp((f + g - cost) / eps) (largest entry)"
        checks.append(Check(form, off_prices(newton, eps), NEWTON_SUMS))
        if reference is not None:
            beyond = beyond_entropic_bound(newton, reference, eps)
            checks.append(Check("Newton's cost is within its entropic bound (relative)", beyond, NEWTON_COST))
    return checks


def sums_missed(solution: TransportSolution) -> float:
    """The largest relative error of a plan's row and column sums, or of a negative entry.

    An error of a sum is relative to the supply of its row or the demand of its column, and a negative entry to the
    lesser of the two. Where that is 0, the error is relative to all goods. An error of a sum counts only beyond the
    rounding of the sum and beyond the difference between total supply and total demand, which no plan can avoid.
    """
    problem, plan = solution.problem, solution.certificate.plan
    supply, demand = problem.supply.double(), problem.demand.double()
    goods = torch.maximum(supply.sum(), demand.sum())

    def missed(plan: torch.Tensor, units: torch.Tensor) -> float:
        rounding = (supply.sum() - demand.sum()).abs() + 2.0**-52 * plan.abs().sum(-1)
        error = ((plan.sum(-1) - units).abs() - rounding).clamp(min=0)
        return over(error, torch.where(units > 0, units, goods))

    lesser = torch.minimum(supply[:, None], demand)
    below = over((-plan).clamp(min=0), torch.where(lesser > 0, lesser, goods))
    return worst((missed(plan, supply), missed(plan.mT, demand), below))


def off_prices(solution: TransportSolution, eps: float) -> float:
    """The largest |P - exp((f + g - cost) / eps)|, relative to the demand of its column.

    Rows and columns without units are left out. A difference counts only beyond what the rounding of f + g - cost does
    to the exponential.
    """
    problem = solution.problem
    cost, demand = problem.cost.double(), problem.demand.double()
    live = (problem.supply > 0)[:, None] & (demand > 0)
    f, g = (torch.where(x.isinf(), 0.0, x.double()) for x in (solution.f[:, None], solution.g))
    form = ((f + g - cost) / eps).exp()
    rounding = torch.where(form > 0, 2.0**-51 * (f.abs() + g.abs() + cost.abs()) / eps * form, 0.0)
    apart = ((solution.plan.double() - form).abs() - rounding).clamp(min=0)
    return over(apart.where(live, 0.0), demand.clamp(min=torch.finfo(demand.dtype).tiny))


def beyond_entropic_bound(solution: TransportSolution, exact: TransportSolution, eps: float) -> float:
    """By how much 0 <= <P, C> - <P*, C> <= eps (H(P) - H(P*)) is violated, relative to the cost; 0 if it holds.

    P minimises <P, C> - eps H(P), with H(P) = -sum P (log P - 1), over all plans with the right sums. The exact plan P*
    is one of these.
    """
    more = (solution.objective - exact.objective).item()
    ours, theirs = ((plan - torch.xlogy(plan, plan)).sum().item() for plan in (solution.plan.double(), exact.plan))
    bound = eps * (ours - theirs)
    broken_by = max(0.0, more - bound, -more) if math.isfinite(more - bound) else math.nan
    return over(torch.tensor(broken_by), exact.certificate.paid)


def over(figures: torch.Tensor, scale: torch.Tensor) -> float:
    """The largest |figures / scale|, where 0 / 0 is 0."""
    return worst(torch.where(figures == 0, 0.0, figures / scale).flatten().tolist() or [0.0])


def worst(figures: Iterable[float]) -> float:
    """The largest absolute value, or NaN if any figure is NaN (which Python's max may miss)."""
    return torch.tensor(list(figures), dtype=torch.float64).abs().max().item()


def excess(case: Case, optimum: float) -> float:
    """How far the cost of a case's labels is from the optimum, relative to the sum of their absolute costs.

    Costs are compared because different labels may both be optimal.
    """
    cost = case.problem.cost
    owner = torch.where(case.labels >= 0, case.labels, len(cost) - 1)
    each = cost.gather(0, owner[None]).double()
    return over((each.sum() - optimum).abs(), each.abs().sum())
