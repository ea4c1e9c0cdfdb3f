"""A solver that goes wrong fails the check that is there for it."""

import pytest
import torch

from otalab.lab.cases import random_case, simulated_case
from otalab.lab.verify import verify
from otalab.transport import METHODS, solve
from otalab.transport.methods import EXACT
from otalab.transport.newton import newton

from .solvers_spoilt import NAN, claimed, failed, moved, spoil, swapped


@pytest.fixture(scope="module")
def small():
    return random_case(5, 30)


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize(
    ("change", "caught"),
    [
        (moved, {"agree", "prove", "sums"}),
        (swapped, {"agree", "prove"}),
        (lambda solution: {"f": solution.f + torch.arange(5.0)}, {"prove"}),
        (lambda solution: {"plan": solution.plan * (1 + 1e-7)}, {"agree", "sums"}),  # optimal for its own sums
    ],
    ids=["a unit moved", "columns swapped", "wrong potentials", "a little too much"],
)
def test_a_wrong_exact_solver_is_caught(method, change, caught, small, monkeypatch):
    spoil(method, change, monkeypatch)
    verification = verify(small, repeats=1, methods=EXACT)
    assert failed(verification) == caught and not verification.passed
    assert "\nFAIL  " in str(verification)
    wrong = [
        check
        for check in verification.checks
        if not check.passed and (method != "linprog" or "agree" not in check.claim)
    ]
    assert all(check.note == method and str(check).endswith(f"; {method}") for check in wrong)  # "agree": with linprog


def test_a_plan_of_right_sums_with_an_entry_below_zero_is_caught(small, monkeypatch):
    def below_zero(solution):
        """Rows 0 and 1 exchange a millionth of two columns that row 2 supplies, or any other row that is not they."""
        plan = solution.plan.clone()
        columns = (plan[:2].sum(0) == 0).nonzero().flatten()[:2]
        plan[0, columns] += plan.new_tensor([1e-6, -1e-6])
        plan[1, columns] -= plan.new_tensor([1e-6, -1e-6])
        return {"plan": plan}

    spoil("emd", below_zero, monkeypatch)
    assert "sums" in failed(verify(small, repeats=1, methods=["linprog", "emd"]))
    with pytest.warns(UserWarning, match="emd: its certificate refutes the plan"):
        solution = solve(small.problem, "emd")
    assert solution.col_error < 1e-12 > solution.row_error and not solution.converged


@pytest.mark.parametrize("method", ["sinkhorn", "pot-sinkhorn"])
def test_a_wrong_sinkhorn_is_caught(method, small, monkeypatch):
    spoil(method, lambda solution: {"plan": solution.plan + 1e-5}, monkeypatch)
    assert failed(verify(small, repeats=1)) == {"pot"}


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        (lambda s: {"plan": s.plan + 1e-6}, {"newton sums", "newton form"}),
        (lambda s: {"plan": solve(s.problem, "emd").plan}, {"newton form"}),
        (
            lambda s: {"plan": s.problem.supply[:, None] / s.plan.sum() * s.problem.demand},
            {"newton form", "newton cost"},
        ),
        (lambda s: answer(solve(s.problem, "sinkhorn", eps=0.1, max_iter=20)), {"newton sums", "newton cost"}),
        (lambda s: {"g": s.g + 1e-6}, {"newton form"}),
    ],
    ids=["a little everywhere", "the exact plan", "the independent plan", "Sinkhorn's", "other prices"],
)
def test_a_wrong_newton_is_caught(change, caught, small, monkeypatch):
    spoil("newton", change, monkeypatch)
    assert failed(verify(small, repeats=1)) == caught


def answer(solution) -> dict:
    return {name: getattr(solution, name) for name in ("plan", "f", "g")}


@pytest.mark.parametrize("eps", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_newton_of_another_eps_is_caught(eps, factor, monkeypatch):
    case = simulated_case()
    chosen = {"methods": ["emd", "newton"], "eps": eps, "repeats": 1}
    assert verify(case, **chosen).passed
    monkeypatch.setitem(METHODS, "newton", lambda problem, eps: newton(problem, eps=factor * eps))
    assert failed(verify(case, **chosen)) >= {"newton form"}


@pytest.mark.parametrize("part", ["plan", "f"])
@pytest.mark.parametrize("method", METHODS)
def test_an_answer_that_is_nan_fails_a_check_that_names_the_method(method, part, small, monkeypatch):
    spoil(method, lambda solution: {part: getattr(solution, part) * NAN}, monkeypatch)
    verification = verify(small, repeats=1)
    assert failed(verification) == {f"{method} gives a plan and its prices"}
    said = next(line for line in str(verification).splitlines() if line.startswith("FAIL"))
    assert method in said and ("plan is NaN at [0, 0]" if part == "plan" else "f[0] is nan") in said
    assert [name.split()[0] for name in verification.comparison.unanswered] == [method]
    assert {"agree", "prove", "sums"} <= claimed(verification)  # the others are checked as ever


def test_a_solver_that_breaks_down_fails_a_check(small, monkeypatch):
    def broken(problem):
        raise RuntimeError("HiGHS: out\nof ideas")

    monkeypatch.setitem(METHODS, "linprog", broken)
    verification = verify(small, repeats=1)
    assert failed(verification) == {"linprog gives a plan and its prices"}
    assert verification.comparison.unanswered == {"linprog": "HiGHS: out of ideas"}
    assert verification.comparison.reference == verification.comparison.rows[0].method == "emd"
    assert failed(verify(small, repeats=1, methods=["linprog"])) == {"linprog gives a plan and its prices"}
