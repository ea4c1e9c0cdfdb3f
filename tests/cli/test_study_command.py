"""`otalab study`: trains what a plan asks for, then says what it shows."""

import pytest
from command_line import otalab

PLAN = """
title = "Which?"
seeds = 2
[settings]
epochs = 1
batch_size = 4
warmup = 1
device = "cpu"
[data.drawn]
train = 4
val = 2
[data.drawn.shapes]
image_size = 64
max_size = 40
[methods]
ota = {}
fcos = {}
[[contrasts]]
a = "ota"
b = "fcos"
question = "Does it matter?"
"""


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path / "plan.toml"


def test_a_study_is_trained_and_reported(plan, tmp_path, capsys):
    assert otalab("study", plan, "--out", tmp_path / "out", "--cards", tmp_path / "cards") == 0
    said = capsys.readouterr().out
    assert "4 of 4 runs have a card" in said and "cannot be told" in said
    assert sorted(path.name for path in (tmp_path / "cards" / "drawn").iterdir()) == [
        "fcos-0.json", "fcos-1.json", "ota-0.json", "ota-1.json",
    ]  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Does it matter?" in page
    assert otalab("study", plan, "--out", tmp_path / "two", "--cards", tmp_path / "cards", "--report") == 0
    again = capsys.readouterr().out
    assert again.splitlines()[:-1] == said.splitlines()[:-1]  # the same from the cards alone
    assert not (tmp_path / "two" / "runs").exists()


def test_a_study_without_a_card_and_a_faulty_plan_are_told(plan, refused, tmp_path):
    assert "'Which?' has no card yet" in refused("study", plan, "--out", tmp_path / "out", "--report")
    assert "none.toml: No such file" in refused("study", tmp_path / "none.toml")
    plan.write_text(PLAN.replace("epochs = 1", "epochs = -1"))
    assert "plan.toml: epochs is -1" in refused("study", plan)
