"""The tables about all assigners name each, compare with `ota`, and count what they say they count."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks is a folder of the repository, not of the package

from benchmarks.cases import SMALL
from benchmarks.family import family_table
from benchmarks.starved import by_class, crowds, simulated, starved
from otalab.assign import ASSIGNERS, build_assigner
from otalab.data import CLASS_NAMES
from otalab.lab.simulate import make_scene
from otalab.lab.timing import Timer


@pytest.mark.slow
def test_every_assigner_is_timed_beside_ota():
    table = family_table("few", make_scene(4, **SMALL), Timer(1))
    assert [row.way for row in table.rows] == list(ASSIGNERS)
    assert table.rows[0].way == "ota" and table.rows[0].times_ota == 1
    assert all(row.seconds > 0 for row in table.rows)


def test_gts_without_a_positive_are_counted_and_none_can_leave_fewer_than_the_fewest_possible():
    scenes = crowds(3)
    table = starved("three", simulated(scenes, len(CLASS_NAMES)), len(scenes))
    rows = {row.assigner: row for row in table.rows}
    assert rows.keys() == {*ASSIGNERS, "fewest possible"}
    assert table.gts == sum(len(targets) for _, targets in scenes)
    assert rows["ota"].empty == rows["fewest possible"].empty
    empty = [int((build_assigner("paa")(*seen).counts == 0).sum()) for seen in simulated(scenes, len(CLASS_NAMES))]
    assert rows["paa"].empty == sum(empty) > 0
    assert rows["paa"].images == sum(count > 0 for count in empty)


def test_positives_per_gt_of_a_class_are_the_mean_over_its_gts():
    scenes, classes = crowds(3), len(CLASS_NAMES)
    found = by_class(simulated(scenes, classes), CLASS_NAMES)
    labels = torch.cat([targets.labels for _, targets in scenes])
    counts = torch.cat([build_assigner("ota")(*seen).counts for seen in simulated(scenes, classes)])
    for label in labels.unique().tolist():
        assert found["ota"][label] == pytest.approx(counts[labels == label].double().mean().item())
        assert found["gts"][label] == (labels == label).sum()
