import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from otalab.lab.simulate import make_scene
from otalab.lab.timing import (
    Timer,
    assign_table,
    paired,
    textbook,
    textbook_cost,
    textbook_sinkhorn,
)
from otalab.transport.sinkhorn import log_sum_exp

ROOT = Path(__file__).parents[2]


class FakeTime:
    """A clock that advances only when a way runs."""

    def __init__(self) -> None:
        self.now, self.ran = 0.0, []

    def __call__(self) -> float:
        return self.now

    def way(self, name: str, seconds: float):
        def run() -> None:
            self.ran.append(name)
            self.now += seconds

        return run


@pytest.fixture
def scene():
    return make_scene(8, (128, 160), 4)


def test_clamped_exponents_leave_the_textbook_labels_as_they_are(scene):
    labels = textbook(*scene)
    assert torch.equal(labels, textbook(*scene, log_sum_exp=log_sum_exp))
    assert 0 < (labels < len(scene.targets)).sum() < len(scene.points)  # gts and background, not all the same


def test_the_textbook_is_its_matrix_and_then_sinkhorn(scene):
    cost, supply = textbook_cost(*scene)
    assert cost.shape == (9, len(scene.points)) and supply.sum() == len(scene.points)
    assert torch.equal(textbook_sinkhorn(cost, supply), textbook(*scene))


def test_ways_take_turns_and_the_warm_up_is_not_counted():
    clock = FakeTime()
    seconds = Timer(rounds=3, clock=clock)({"a": clock.way("a", 1.0), "b": clock.way("b", 2.0)})
    assert "".join(clock.ran) == "ab" + "ab" + "ba" + "ab"
    assert seconds == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_a_quick_way_runs_several_times_and_a_slow_one_within_its_budget():
    clock = FakeTime()
    seconds = Timer(rounds=5, budget=20.0, clock=clock)({"quick": clock.way("q", 1e-3), "slow": clock.way("s", 15.0)})
    assert clock.ran.count("q") == 1 + 5 * 9 and clock.ran.count("s") == 1 + 2
    assert seconds["quick"] == pytest.approx([1e-3] * 5) and seconds["slow"] == pytest.approx([15.0] * 2)


def test_one_thread_while_the_clock_runs():
    torch.set_num_threads(2)
    try:
        seen = []
        Timer(rounds=1)({"a": lambda: seen.append(torch.get_num_threads())})
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_ratios_are_paired_round_by_round():
    assert paired([1.0, 10.0, 6.0], [1.0, 5.0, 2.0]) == 2.0  # not 6 / 2
    assert paired([4.0, 9.0, 9.0], [2.0]) == 2.0  # a slow way sat the others out


def test_the_last_row_of_the_table_is_ota(scene):
    table = assign_table("small", scene, Timer(rounds=1))
    assert table.rows[0].speed_up == 1 and table.rows[1].clamped_speed_up == 1
    assert table.rows[-1].way == "ota (exact)" and table.rows[-1].way in str(table)


def check_tables(path: Path, said: str, module: str, count: int) -> None:
    written = json.loads(path.read_text())
    assert written["command"] == f"python -m benchmarks.{module} --rounds 1 --clock wall --quick" and written["machine"]
    assert len(written["tables"]) == count
    for table in written["tables"]:
        assert table["name"] in said and all(row["way"] in said for row in table["rows"])


def test_a_command_prints_its_tables_and_writes_them_with_command_and_machine(tmp_path, capsys, scene, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)  # benchmarks is a folder of the repository, not of the package
    from benchmarks.common import run, shown

    path = tmp_path / "tables.json"
    run(
        "some",
        "",
        lambda timer, _: [shown(assign_table("small", scene, timer))],
        ["--quick", "--rounds", "1", "--json", str(path)],
    )
    check_tables(path, capsys.readouterr().out, "some", 1)


@pytest.mark.slow
@pytest.mark.parametrize("module, tables", [("solvers", 11), ("assign", 5), ("step", 2)])
def test_the_commands_run(module, tables, tmp_path, monkeypatch, capsys):
    path = tmp_path / "tables.json"
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.delitem(sys.modules, f"benchmarks.{module}", raising=False)  # runs anew, as `python -m` has it
    monkeypatch.setattr("sys.argv", [module, "--quick", "--rounds", "1", "--json", str(path)])
    monkeypatch.setattr(Timer, "seconds_of", lambda timer, way: 1.0)  # every way runs once, to warm up
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{module}", run_name="__main__")
    assert ended.value.code == 0
    check_tables(path, capsys.readouterr().out, module, tables)
