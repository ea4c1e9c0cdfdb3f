import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from otalab.errors import InputError
from otalab.files import to_json
from otalab.lab.cases import random_case, simulated_case
from otalab.lab.convergence import FACTORS, LONGER, checkpoints, converge
from otalab.transport import METHODS, TransportProblem, solve
from otalab.transport.newton import newton


@pytest.fixture(scope="module")
def problem():
    return random_case(5, 40, seed=1).problem


def test_each_figure_is_that_of_a_run_of_its_own(problem):
    exact = solve(problem, "emd").labels
    found = converge(problem, eps=0.2, max_iter=7)
    assert [course.eps for course in found.courses] == pytest.approx([0.2 * factor for factor in FACTORS])
    for course in found.courses:
        assert course.checkpoints.tolist() == [1, 2, 5, 7, 10, 20, 50, 70]
        assert course.errors.shape == (70,)
        for count, wrong in zip(course.checkpoints.tolist(), course.wrong.tolist(), strict=True):
            solution = solve(problem, "sinkhorn", eps=course.eps, max_iter=count)
            assert wrong == course.wrong_after(count) == (solution.labels != exact).sum()
            assert course.errors[count - 1] == pytest.approx(solution.col_error.item(), rel=1e-6, abs=1e-12)
        settled = solve(problem, "newton", eps=course.eps)
        assert course.settled == (settled.labels != exact).sum()
        assert course.newton.tolist() == settled.trace.tolist() and course.newton[-1] <= 1e-9
    assert found.positives == (exact < 4).sum()
    assert (found.eps, found.max_iter) == (0.2, 7)


def test_too_small_an_eps_spoils_labels_that_fifty_iterations_give_and_convergence_mends_them():
    found = converge(simulated_case().problem)
    early = [course.wrong_after(50) for course in found.courses]
    settled = [course.settled for course in found.courses]
    assert 0 < min(early) < early[-1] and min(early) < early[0]  # a U
    assert settled[-1] == 0 < settled[0] and settled == sorted(settled, reverse=True)


def test_newton_that_does_not_converge_settles_nothing(problem, monkeypatch):
    monkeypatch.setitem(METHODS, "newton", lambda problem, eps: newton(problem, eps=eps, max_iter=1))
    found = converge(problem, max_iter=2)
    assert {course.settled for course in found.courses} == {None}
    assert {len(course.newton) for course in found.courses} == {1}


def test_errors_are_relative_to_the_largest_demand(problem):
    tenfold = TransportProblem(problem.cost, 10 * problem.supply, 10 * problem.demand)
    for one, ten in zip(converge(problem, max_iter=5).courses, converge(tenfold, max_iter=5).courses, strict=True):
        assert np.allclose(one.errors, ten.errors, atol=1e-12) and one.wrong.tolist() == ten.wrong.tolist()


def test_float32_is_followed_in_float64(problem):
    single = TransportProblem(*(values.float() for values in (problem.cost, problem.supply, problem.demand)))
    double = TransportProblem(single.cost.double(), problem.supply, problem.demand)
    small, large = (converge(one, max_iter=5).courses[-1] for one in (single, double))
    assert small.errors.tolist() == large.errors.tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 50, 64, 1000])
def test_checkpoints_rise_by_about_half_an_order_and_hold_what_is_asked_for(count):
    points = checkpoints(count)
    assert points == sorted(set(points)) and points[0] == 1 and points[-1] == LONGER * count and count in points
    assert all(after <= 2.5 * before for before, after in pairwise(points))


def test_faulty_options_and_batches_are_told(problem):
    with pytest.raises(InputError, match="eps must be positive"):
        converge(problem, eps=0.0)
    with pytest.raises(InputError, match="max_iter must be a whole number of at least 1"):
        converge(problem, max_iter=0)
    with pytest.raises(InputError, match=r"not of a batch \(2, 5, 40\)"):
        converge(TransportProblem(problem.cost.expand(2, 5, 40), problem.supply, problem.demand))


def test_a_problem_of_background_alone_has_no_positives_and_no_wrong_labels():
    found = converge(TransportProblem(torch.ones(1, 4), [4.0], torch.ones(4)), max_iter=2)
    assert found.positives == 0 and {course.settled for course in found.courses} == {0}


def test_figures_become_json(problem):
    found = converge(problem, max_iter=2)
    found = replace(found, courses=[replace(found.courses[0], settled=None)])
    content = json.loads(to_json(found.as_dict()), parse_constant=pytest.fail)
    assert content["courses"][0]["wrong"] == found.courses[0].wrong.tolist()
    assert content["courses"][0]["settled"] is None
    assert content.keys() == asdict(found).keys()
