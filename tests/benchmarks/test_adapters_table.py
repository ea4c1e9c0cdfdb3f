"""The table of adapters compares steps with the framework's own rule and steps with `ota`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks is a folder of the repository, not of the package

from benchmarks.adapters import AdapterTiming, adapter_table, torchvision_steps
from otalab.lab.timing import Timer


@pytest.mark.slow
def test_torchvisions_steps_are_timed_and_train_the_same_model():
    table = adapter_table("torchvision", "one small image", Timer(1), torchvision_steps(64))
    assert [row.way for row in table.rows] == ["its own matching", "ota"]
    assert all(row.seconds > 0 for row in table.rows) and table.rows[0].percent_longer == 0


def test_a_row_says_how_much_longer_it_takes():
    said = str(AdapterTiming("ota", 1.1, 1.05, 10.0, 7.5))
    assert "10.0 %" in said and "7.5 %" in said and len(said) == len(AdapterTiming.head())
