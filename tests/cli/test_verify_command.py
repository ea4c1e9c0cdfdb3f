"""`otalab verify`: what it prints, writes and draws, and its exit status."""

import re
from dataclasses import replace

import pytest
from command_line import otalab, read
from PIL import Image

from otalab.transport import METHODS


def test_verify_prints_tables_and_checks_and_writes_json(detector_folder, shapes, tmp_path, capsys):
    path = tmp_path / "verify.json"
    extra = ["--checkpoint", detector_folder, "--data", shapes, "--images", 1]
    assert otalab("verify", "--json", path, *extra) == 0
    said, err = capsys.readouterr()
    assert err == ""
    problems = read(path)["problems"]
    assert len(problems) == 4 and problems[3]["title"].startswith("image 1, detector:")
    for problem in problems:
        assert problem["title"] in said
        for method in ("linprog", "emd", "assignment", "sinkhorn", "pot-sinkhorn"):
            assert any(row["method"].split()[0] == method for row in problem["comparison"]["rows"])
            assert len(re.findall(rf"^{method} ", said, re.MULTILINE)) == 4
        assert all(check["figure"] <= check["allowed"] for check in problem["checks"])
    total = sum(len(problem["checks"]) for problem in problems)
    assert said.count("\nok    ") == total and said.endswith(f"{total} of {total} checks passed\n")


def test_verify_ends_with_status_1_when_a_check_fails(monkeypatch, capsys, tmp_path):
    emd = METHODS["emd"]

    def lazy(problem):
        solution = emd(problem)
        return replace(solution, plan=solution.plan.roll(1, dims=-1))

    monkeypatch.setitem(METHODS, "emd", lazy)
    assert otalab("verify", "--problem", "toy", "--json", tmp_path / "verify.json") == 1
    said = capsys.readouterr().out
    assert "\nFAIL  exact solvers agree" in said and re.search(r"^\d+ of \d+ checks passed$", said, re.MULTILINE)
    assert read(tmp_path / "verify.json")["problems"]


def test_verify_ends_with_status_1_when_a_plan_is_nan(monkeypatch, capsys, tmp_path):
    sinkhorn = METHODS["sinkhorn"]

    def broken(problem, *, eps, max_iter):
        solution = sinkhorn(problem, eps=eps, max_iter=max_iter)
        return replace(solution, plan=solution.plan * float("nan"))

    monkeypatch.setitem(METHODS, "sinkhorn", broken)
    assert otalab("verify", "--problem", "toy", "--json", tmp_path / "verify.json") == 1
    said, err = capsys.readouterr()
    assert err == "" and "\nFAIL  sinkhorn gives a plan and its prices: " in said and "plan is NaN at [0, 0]" in said
    (problem,) = read(tmp_path / "verify.json")["problems"]
    assert problem["checks"][0]["figure"] is None and "sinkhorn eps=0.1" in next(
        iter(problem["comparison"]["unanswered"])
    )


def test_verify_takes_problems_sizes_methods_and_a_seed(capsys, tmp_path):
    chosen = [
        "--problem",
        "toy",
        "--problem",
        "random",
        "--sizes",
        "4x30",
        5,
        "--seed",
        7,
        "--methods",
        "emd",
        "linprog",
    ]
    assert otalab("verify", *chosen, "--json", tmp_path / "verify.json") == 0
    content = read(tmp_path / "verify.json")
    assert [problem["title"] for problem in content["problems"]] == [
        "toy: 3 suppliers, 6 demanders",
        "random: 13 suppliers, 400 demanders, seed 7",
        "random: 4 suppliers, 30 demanders, seed 7",
        "image 256x320 px, mid-training (simulated): 5 gts, 1706 anchor points, seed 7",
    ]
    for problem in content["problems"]:
        assert [row["method"] for row in problem["comparison"]["rows"]] == ["emd", "linprog"]
    assert content["seed"] == 7 and "sinkhorn" not in capsys.readouterr().out


def test_verify_saves_a_problem_that_it_verifies_again(capsys, tmp_path):
    for name in ("mine.npz", "mine.json"):
        path = tmp_path / name
        first, second = tmp_path / "first.json", tmp_path / "second.json"
        assert otalab("verify", "--problem", "random", "--save", path, "--json", first) == 0
        assert otalab("verify", "--problem", path, "--json", second) == 0
        before, after = (read(one)["problems"][0]["comparison"]["rows"] for one in (first, second))
        assert [row["objective"] for row in before] == [row["objective"] for row in after]
        assert f"\n{path}: 13 suppliers, 400 demanders\n" in capsys.readouterr().out


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_verify_draws_how_the_last_problem_converges(ending, capsys, tmp_path):
    picture, figures = tmp_path / f"picture{ending}", tmp_path / "verify.json"
    chosen = ["--problem", "toy", "--sizes", "4x30", "--iterations", 5, "--picture", picture, "--json", figures]
    assert otalab("verify", *chosen) == 0
    said, err = capsys.readouterr()
    assert err == "" and said.endswith(f"picture  {picture}\n")
    courses = read(figures)["convergence"]["courses"]
    assert len(courses) == 8 and all(len(course["errors"]) == 50 for course in courses)
    assert {path.name for path in tmp_path.iterdir()} == {picture.name, figures.name}
    if ending == ".png":
        with Image.open(picture) as drawn:
            assert drawn.size == (1605, 600)
    else:
        assert "<svg" in (first := picture.read_text())
        assert otalab("verify", *chosen) == 0 and picture.read_text() == first
