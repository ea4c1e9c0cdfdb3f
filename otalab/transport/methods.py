"""`solve`: a method's name and its options in, a solution out; `certify`: any plan in, a proof out."""

import difflib
import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from otalab.errors import InputError
from otalab.transport.auction import auction
from otalab.transport.exact import assignment, emd, linprog
from otalab.transport.newton import newton
from otalab.transport.pot import pot_sinkhorn
from otalab.transport.presolve import by_arcs
from otalab.transport.price_path import price_path
from otalab.transport.problem import TransportProblem
from otalab.transport.sinkhorn import sinkhorn
from otalab.transport.solution import Certificate, TransportSolution, certificate_of

METHODS: dict[str, Callable[..., TransportSolution]] = {
    "linprog": linprog,
    "emd": emd,
    "assignment": assignment,
    "price-path": by_arcs(price_path),
    "auction": by_arcs(auction),
    "newton": newton,
    "sinkhorn": sinkhorn,
    "pot-sinkhorn": pot_sinkhorn,
}


def solve(problem: TransportProblem, method: str = "emd", **options) -> TransportSolution:
    """Solve by one of METHODS; `options` are the keyword arguments of its function, which documents them.

    A problem without rows, columns or members of a batch has the empty plan, by every method. `seconds` is the
    solver's wall time, the device's work included. Raises InputError for an unknown method or option, and what the
    method raises.
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r}; {_hint(method, METHODS)}")
    function = METHODS[method]
    known = list(inspect.signature(function).parameters)[1:]  # after the problem
    for name in options:
        if name not in known:
            raise InputError(f"{method} has no option {name!r}; {_hint(name, known)}")
    start = _now(problem)
    solution = function(problem, **options) if problem.cost.numel() else _nothing(problem)
    return replace(solution, seconds=_now(problem) - start)


def certify(problem: TransportProblem, plan, f=None, g=None) -> Certificate:
    """Primal, dual, gap and marginal errors of a plan of any origin (tensor or array, shape of the cost).

    The bound takes no f on trust: whatever f is, its c-transform g_j = min_i (cost_ij - f_i) is the largest g with
    f_i + g_j <= cost_ij, so <f, supply> + <g, demand> is at most the optimum (weak duality). A poor f can only make
    it loose. `g` is used when f is None, with rows and columns exchanged. With neither, f comes from an exact
    solver ("emd", on the CPU), which makes the bound the optimum itself.

    Works in float64 on the problem's device. Raises InputError for a wrong shape, for NaN in the plan, and for a
    potential that is NaN or +inf, or -inf where there are units to ship.
    """
    if f is None and g is None:
        f = solve(problem, "emd").f
    return certificate_of(problem, plan, f, g)


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
