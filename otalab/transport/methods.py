"""`solve` a problem by a named method, and `certify` any plan."""

import difflib
import inspect
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from otalab.errors import InputError, current
from otalab.transport.auction import auction
from otalab.transport.augmenting_path import augmenting_path
from otalab.transport.exact import assignment, emd, linprog, prices
from otalab.transport.newton import newton
from otalab.transport.pot import pot_sinkhorn
from otalab.transport.presolve import by_arcs
from otalab.transport.problem import TransportProblem, largest_cost
from otalab.transport.rational import ExactCertificate, exact_certificate, optimal_plan
from otalab.transport.sinkhorn import sinkhorn
from otalab.transport.solution import Certificate, TransportSolution, certificate_of, plan_of

METHODS: dict[str, Callable[..., TransportSolution]] = {
    "linprog": linprog,
    "emd": emd,
    "assignment": assignment,
    "augmenting-path": by_arcs(augmenting_path),
    "auction": by_arcs(auction),
    "newton": newton,
    "sinkhorn": sinkhorn,
    "pot-sinkhorn": pot_sinkhorn,
}
RENAMED = {"price-path": "augmenting-path"}  # since version 0.1
EXACT = ("linprog", "emd", "assignment", "augmenting-path", "auction")  # methods that promise the optimum
MENDED = ("assignment", "augmenting-path", "auction")  # finished in fractions where float64 does not suffice


def solve(problem: TransportProblem, method: str = "emd", **options) -> TransportSolution:
    """Solve by one of METHODS; `options` are the keyword arguments of its function, which documents them.

    If there are no rows, columns or problems in a batch, every method returns the empty plan. `seconds` is the solver's
    wall time, including the work of the device.

    The answer of an exact method is then certified. If costs differ widely in scale, like 1 and 1e18, a solver's prices
    lose the digits of the small costs. If the certificate refutes an answer by no more than such rounding, "linprog"
    and "emd" get new prices, computed from their plans. "assignment", "augmenting-path" and "auction" get plan and
    prices finished in exact arithmetic. If the certificate still refutes the answer, `converged` is False, and a
    warning gives the figures.

    Raises InputError for an unknown method or option, and whatever the method raises.
    """
    method = current(method, RENAMED)
    if method not in METHODS:
        raise InputError(f"no method {method!r}; {_hint(method, METHODS)}")
    function = METHODS[method]
    known = list(inspect.signature(function).parameters)[1:]  # after the problem
    for name in options:
        if name not in known:
            raise InputError(f"{method} has no option {name!r}; {_hint(name, known)}")
    start = _now(problem)
    empty = problem.cost.numel() == 0
    solution = _nothing(problem) if empty else function(problem, **options)
    solution = replace(solution, seconds=_now(problem) - start)
    return _admitted(method, solution) if method in EXACT and not empty else solution


def certify(
    problem: TransportProblem, plan, f=None, g=None, *, exact: bool = False
) -> Certificate | ExactCertificate | list[ExactCertificate]:
    """Certify any plan (tensor or array, shape of the cost): objective, dual bound, gap and marginal errors.

    The bound does not rely on f being right. For any f, the c-transform g_j = min_i (cost_ij - f_i) is the largest g
    with f_i + g_j <= cost_ij, so <f, supply> + <g, demand> is at most the optimum (weak duality). A poor f only makes
    the bound loose. If f is None, `g` is used in the same way, with rows and columns exchanged. If both are None, f is
    computed from the plan. If that f does not prove the plan optimal, an exact solver ("emd", on the CPU) finds
    another one, and the f with the larger bound is used. The bound then equals the optimum.

    Works in float64 on the problem's device. With `exact`, works in fractions on the CPU without any rounding, finds
    its own potentials, and returns an ExactCertificate, or a list of them for a batch.

    Raises InputError for a wrong shape, for a plan that is not finite, for a potential that is NaN or +inf, or -inf
    where there are units to ship, and for potentials given together with `exact`.
    """
    if exact:
        if f is not None or g is not None:
            raise InputError("an exact certificate finds its own potentials; give it the plan alone")
        return _certify_exactly(problem, plan)
    if f is None and g is None:
        return _by_best_prices(problem, plan)
    return certificate_of(problem, plan, f, g)


def _admitted(method: str, solution: TransportSolution) -> TransportSolution:
    """Return the solution, mended if possible. If its certificate refutes it, unset `converged` and warn."""
    try:
        certificate = solution.certificate
    except InputError as error:  # a plan or potential is not finite: the solver's fault, not the caller's
        raise RuntimeError(f"{method} broke down: {error}") from error
    wrong = solution.converged & ~certificate.is_optimal()
    if bool(wrong.any()):
        solution = _mended(solution, wrong & _lost_in_scale(certificate), fractions=method in MENDED)
        certificate = solution.certificate
        wrong = solution.converged & ~certificate.is_optimal()
    if not bool(wrong.any()):
        return solution
    at = int(wrong.flatten().nonzero()[0])
    figures = {
        "gap": certificate.gap,
        "objective": certificate.objective,
        "row error": certificate.row_error,
        "column error": certificate.col_error,
    }
    told = ", ".join(f"{name} {value.flatten()[at]:.6g}" for name, value in figures.items())
    where = f" of problem {at}" if solution.problem.batched else ""
    warnings.warn(f"{method}: its certificate refutes the plan{where} ({told})", stacklevel=3)
    return replace(solution, converged=solution.converged & ~wrong)


def _lost_in_scale(certificate: Certificate, tol: float = 1e-9) -> torch.Tensor:
    """Whether a plan is feasible and near the optimum on the scale of the largest costs, used or not.

    Float64 sums of the largest and the smallest costs come that near, and so do auctions, whose bids rise in steps of
    a billionth of the cost range. A plan that is farther off has another fault, which must not be hidden.
    """
    problem = certificate.problem
    near = certificate.excess <= tol * largest_cost(problem.cost) * problem.supply.double().sum(-1)
    return near & certificate.meets_sums(tol)


def _mended(solution: TransportSolution, which: torch.Tensor, fractions: bool) -> TransportSolution:
    """Mend the problems of `which`: find the cheapest plan with equal sums (`fractions`), or prices from the plan.

    New prices help because the solver's own are only as precise as the rounding of its largest cost.
    """
    parts = {name: getattr(solution, name).double().clone() for name in ("plan", "f", "g")}
    costs = solution.problem.as_batch()[0].double().cpu().numpy()
    batch = [part if solution.problem.batched else part[None] for part in parts.values()]  # views, to write into
    for at in which.flatten().nonzero().flatten().tolist():
        cost, plan = costs[at], batch[0][at].cpu().numpy()
        mended = optimal_plan(cost, plan) if fractions else (plan, *prices(cost, plan))
        for part, values in zip(batch, mended, strict=True):
            part[at] = torch.from_numpy(values)
    return replace(solution, **parts)


def _by_best_prices(problem: TransportProblem, plan) -> Certificate:
    """The certificate by potentials from the plan itself, or by an exact solver's if these prove a larger bound."""
    plan = plan_of(problem, plan)
    if problem.cost.numel() == 0:
        return certificate_of(problem, plan, torch.zeros_like(problem.supply))
    costs, plans = (x.double().view(-1, *problem.shape[-2:]).cpu().numpy() for x in (problem.cost, plan))
    f = [torch.from_numpy(prices(*pair)[0]) for pair in zip(costs, plans, strict=True)]
    own = certificate_of(problem, plan, torch.stack(f).view(problem.supply.shape))
    if bool(own.is_optimal().all()):
        return own
    other = certificate_of(problem, plan, emd(problem).f)
    f = torch.where((other.dual_objective > own.dual_objective).unsqueeze(-1), other.f, own.f)
    return certificate_of(problem, plan, f)


def _certify_exactly(problem: TransportProblem, plan) -> ExactCertificate | list[ExactCertificate]:
    plan = plan_of(problem, plan)
    if problem.batched:
        return [_certify_exactly(one, its_plan) for one, its_plan in zip(problem, plan, strict=True)]
    parts = (problem.cost, problem.supply, problem.demand, plan)
    return exact_certificate(*(x.double().cpu().numpy() for x in parts), lambda: emd(problem).plan.cpu().numpy())


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"it has {', '.join(known) or 'none'}"


def _now(problem: TransportProblem) -> float:
    if problem.cost.is_cuda:
        torch.cuda.synchronize(problem.cost.device)
    return time.perf_counter()


def _nothing(problem: TransportProblem) -> TransportSolution:
    return TransportSolution(
        problem=problem,
        plan=torch.zeros_like(problem.cost),
        f=torch.zeros_like(problem.supply),
        g=torch.zeros_like(problem.demand),
        converged=torch.ones(problem.shape[:-2], dtype=torch.bool, device=problem.cost.device),
    )
