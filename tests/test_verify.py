import inspect
import json
from dataclasses import asdict, replace

import pytest
import torch

from otalab.assign import AnchorPoints, build_assigner
from otalab.cases import Case, image_case, random_case, simulated_case, toy_case
from otalab.errors import InputError
from otalab.simulate import random_targets, simulate_predictions
from otalab.transport import METHODS, TransportProblem, solve
from otalab.transport.newton import newton
from otalab.verify import ENTROPIC, EXACT, TIGHT, Check, excess, verify, worst, worth

NAN = float("nan")
TIGHTLY = [method for method in METHODS if EXACT.get(method) == TIGHT]
CLAIMS = {
    "agree": "exact solvers agree (relative)",
    "prove": "exact solvers prove it (relative gap)",
    "auction": "auction comes near the optimum (relative)",
    "auction proves": "auction proves it (relative gap)",
    "sums": "exact plans meet their sums",
    "pot": "Sinkhorn equals POT's (largest plan entry)",
    "newton sums": "Newton's plan meets its sums",
    "newton form": "Newton's plan is exp((f + g - cost) / eps) (largest entry)",
    "newton cost": "Newton's cost is within its entropic bound (relative)",
    "labels": "labels of `ota` cost the optimum (relative)",
}
FRACTIONAL = Case("halves", TransportProblem([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]], [1.5, 1.5], [1.0, 1.0, 1.0]))


@pytest.fixture(scope="module")
def small():
    return random_case(5, 30)


def failed(verification) -> set[str]:
    keys = {claim: key for key, claim in CLAIMS.items()}
    return {keys.get(check.claim, check.claim) for check in verification.checks if not check.passed}


def claimed(verification) -> set[str]:
    return {key for key, claim in CLAIMS.items() if claim in {check.claim for check in verification.checks}}


def spoil(method: str, change, monkeypatch) -> None:
    """Let a solver return another solution than its own."""
    solver = METHODS[method]

    def spoiled(problem, **options):
        solution = solver(problem, **options)
        return replace(solution, **change(solution))

    spoiled.__signature__ = inspect.signature(solver)
    monkeypatch.setitem(METHODS, method, spoiled)


def moved(solution) -> dict:
    """The plan with a unit shipped by another row, columns as before."""
    plan = solution.plan.clone()
    giver = int(plan[:, 0].argmax())
    plan[giver, 0] -= 1
    plan[(giver + 1) % len(plan), 0] += 1
    return {"plan": plan}


def swapped(solution) -> dict:
    """The plan with two columns of different rows exchanged: sums as before, cost higher."""
    plan = solution.plan.clone()
    first, second = (int(plan[row].argmax()) for row in (0, 1))
    plan[:, [first, second]] = plan[:, [second, first]]
    return {"plan": plan}


def test_right_solvers_pass_every_check():
    for case in (toy_case(), random_case(), simulated_case(), FRACTIONAL):
        verification = verify(case, repeats=1)
        assert verification.passed and failed(verification) == set()
        assert {"agree", "prove", "sums", "pot", "newton sums", "newton form", "newton cost"} <= claimed(verification)
        assert ("labels" in claimed(verification)) == (case.labels is not None)
        assert verification.title in str(verification)
        assert str(verification).count("\nok    ") == len(verification.checks)


def test_every_method_is_in_the_table_linprog_first_and_the_entropic_ones_get_eps(small):
    rows = [row.method for row in verify(small, repeats=1, eps=0.2, max_iter=7).comparison.rows]
    assert [row.split()[0] for row in rows] == list(METHODS)
    assert rows[0] == "linprog" and {"sinkhorn eps=0.2 max_iter=7", "newton eps=0.2"} <= set(rows)


def test_every_method_there_is_has_its_checks():
    assert set(METHODS) <= EXACT.keys() | ENTROPIC.keys()


@pytest.mark.parametrize("method", TIGHTLY)
@pytest.mark.parametrize(
    ("change", "caught"),
    [
        (moved, {"agree", "prove", "sums"}),
        (swapped, {"agree", "prove"}),
        (lambda solution: {"f": solution.f + torch.arange(5.0)}, {"prove"}),
        (lambda solution: {"plan": solution.plan * (1 + 1e-7)}, {"agree", "prove", "sums"}),
    ],
    ids=["a unit moved", "columns swapped", "wrong potentials", "a little too much"],
)
def test_a_wrong_exact_solver_is_caught(method, change, caught, small, monkeypatch):
    spoil(method, change, monkeypatch)
    verification = verify(small, repeats=1, methods=TIGHTLY)
    assert failed(verification) == caught and not verification.passed
    assert "\nFAIL  " in str(verification)
    prove = next(check for check in verification.checks if check.claim == CLAIMS["prove"])
    assert prove.note == method and str(prove).endswith(f"; {method}")


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
    assert solve(small.problem, "emd").col_error < 1e-12 > solve(small.problem, "emd").row_error


@pytest.mark.parametrize("change", [swapped, lambda solution: {"f": solution.f + torch.arange(5.0)}])
def test_a_wrong_auction_is_caught_and_one_right_to_a_millionth_is_not(change, small, monkeypatch):
    chosen = {"repeats": 1, "methods": ["linprog", "emd", "auction"]}
    assert {"auction", "auction proves", "agree"} <= claimed(verify(small, **chosen))
    spoil("auction", lambda solution: {"f": solution.f + 1e-10 * torch.arange(5.0)}, monkeypatch)
    assert verify(small, **chosen).passed
    spoil("auction", lambda solution: {"f": solution.f + 2e-7 * torch.arange(5.0)}, monkeypatch)
    assert verify(small, **chosen).passed  # more than an exact solver may, and less than the auction
    spoil("auction", change, monkeypatch)
    assert "auction proves" in (wrong := failed(verify(small, **chosen))) and wrong <= {"auction", "auction proves"}


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


def test_a_method_that_does_not_suit_is_listed_with_its_reason_and_the_others_are_checked():
    verification = verify(FRACTIONAL, repeats=1)
    assert verification.passed and claimed(verification) >= {"agree", "prove", "sums", "pot"}
    reason = verification.comparison.unanswered["assignment"]
    assert "whole units are needed, but supply[0] is 1.5" in reason
    assert any(line.startswith("assignment ") and reason in line for line in str(verification).splitlines())
    assert "assignment" not in [row.method for row in verification.comparison.rows]


def test_a_method_asked_for_by_name_must_suit():
    with pytest.raises(InputError, match="assignment does not solve 'halves': whole units are needed"):
        verify(FRACTIONAL, methods=["emd", "assignment"], repeats=1)
    with pytest.raises(InputError, match="no method 'end'; there are linprog, emd, "):
        verify(FRACTIONAL, methods=["end"])


def test_a_problem_without_a_feasible_plan_is_told():
    """Two rows have one open column, and offer more than it wants."""
    inf = float("inf")
    problem = TransportProblem([[1.0, inf], [1.0, inf], [1.0, 1.0]], [1.0, 1.0, 1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="no exact method solves 'tight': no plan avoids the forbidden routes"):
        verify(Case("tight", problem), repeats=1)


def test_a_choice_of_methods_is_compared_with_its_first_exact_one_or_with_linprog(small):
    def first_column(*methods):
        return [row.method.split()[0] for row in verify(small, methods=methods, repeats=1).comparison.rows]

    assert first_column("sinkhorn", "emd", "assignment", "emd") == ["emd", "sinkhorn", "assignment"]
    assert first_column("sinkhorn") == ["linprog", "sinkhorn"]


def test_a_method_without_promises_is_in_the_table(small, monkeypatch):
    monkeypatch.setitem(METHODS, "next", lambda problem: METHODS["emd"](problem))
    assert verify(small, repeats=1).comparison.rows[-1].method == "next"


@pytest.mark.parametrize("options", [{"eps": 0.0}, {"eps": NAN}, {"max_iter": 0}])
def test_faulty_options_are_told_and_not_listed(options, small):
    with pytest.raises(InputError, match="must be"):
        verify(small, **options)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_figures_do_not_depend_on_the_units_of_cost_and_goods(size, small, monkeypatch):
    plain = small.problem
    problem = TransportProblem(plain.cost * size, plain.supply / size, plain.demand / size)

    def moved_in_units(solution):
        return {"plan": moved(replace(solution, plan=solution.plan * size))["plan"] / size}

    chosen = {"methods": ["linprog", "emd"], "repeats": 1}
    assert verify(Case("", problem), **chosen).passed
    spoil("emd", moved_in_units, monkeypatch)
    assert failed(verify(Case("", problem), **chosen)) == {"agree", "prove", "sums"}


def test_costs_of_both_signs_do_not_cancel_in_what_errors_are_relative_to():
    problem = TransportProblem([[1.0, -1.0]], [2.0], [1.0, 1.0])
    assert worth(solve(problem, "emd")) == 2.0
    assert worth(solve(TransportProblem([[0.0, 0.0]], [2.0], [1.0, 1.0]), "emd")) == 1.0
    free = TransportProblem([[0.0, 100.0], [100.0, 0.0]], [1.0, 1.0], [1.0, 1.0])
    assert worth(solve(free, "emd")) == pytest.approx(2e-3)


def test_labels_that_cost_more_are_caught():
    case = simulated_case()
    labels = case.labels.clone()
    labels[int((labels >= 0).nonzero()[0])] = -1
    assert failed(verify(replace(case, labels=labels), repeats=1)) == {"labels"}


def test_labels_may_tie():
    problem = replace(toy_case().problem, cost=torch.ones(3, 6, dtype=torch.float64))
    labels = torch.tensor([0, 0, 1, 1, -1, -1])
    assert excess(Case("", problem, labels), 6.0) == 0 == excess(Case("", problem, labels.flip(0)), 6.0)


def test_a_check_passes_up_to_what_is_allowed_and_never_on_nan():
    assert Check("", 1.0, 1.0).passed and Check("", 0.0, 1.0).passed
    assert not Check("", 1.1, 1.0).passed and not Check("", NAN, 1.0).passed


@pytest.mark.parametrize("figures", [[NAN, 1.0], [1.0, NAN], [1.0, NAN, 2.0]])
def test_the_worst_of_figures_is_nan_if_one_is(figures):
    assert worst(figures) != worst(figures)


def test_the_worst_of_figures_is_the_largest_by_size():
    assert worst([0.5, -3.0, 2.0]) == 3.0


def test_the_labels_of_an_image_whose_gts_lack_points_are_checked_too():
    """What `ota` ships there, it ships at the least cost."""
    generator = torch.Generator().manual_seed(0)
    points = AnchorPoints.for_image((64, 64))
    targets = random_targets((64, 64), 10, 3, generator)
    predictions = simulate_predictions(points, targets, 3, generator)
    assert build_assigner("ota")(points, predictions, targets).deficit.any()
    verification = verify(image_case("", points, predictions, targets), repeats=1)
    assert verification.passed
    assert "labels of `ota`" in verification.checks[-1].claim


def test_figures_are_plain_json(small):
    json.dumps(asdict(verify(small, repeats=1)), allow_nan=False)
