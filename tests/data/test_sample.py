"""Samples and manifests: the same ids and the same hash for everybody."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otalab.data.manifest import Manifest, read_manifest
from otalab.data.sample import by_lot, stratified
from otalab.errors import InputError

IDS = Path(__file__).parents[2] / "data" / "ids"
holders = st.dictionaries(st.integers(1, 9), st.sets(st.integers(1, 60)), max_size=6)


def test_lots_fall_as_they_always_have():
    """Written down once: another order would give everybody's seeds other photos."""
    assert by_lot(range(10), 0) == [6, 4, 2, 1, 7, 5, 0, 8, 9, 3]
    assert stratified({1: range(100), 2: range(0, 100, 10), 3: {7}}, 6, seed=0) == [7, 40, 50, 60, 61, 92]
    assert Manifest("val", [3, 20, 100]).sha256 == hashlib.sha256(b"3\n20\n100\n").hexdigest()


@given(holders, st.integers(0, 70), st.integers(0, 9))
def test_a_sample_is_part_of_a_larger_one_and_of_those_that_show_a_category(holders, most, seed):
    small, large = stratified(holders, most, seed), stratified(holders, most + 1, seed)
    every = set().union(*holders.values())
    assert small == sorted(set(small)) and set(small) <= set(large) <= every
    assert len(small) == min(most, len(every))
    assert stratified(holders, None, seed) == sorted(every)
    backwards = {key: sorted(ids, reverse=True) for key, ids in reversed(holders.items())}
    assert stratified(backwards, most, seed) == small


def test_every_category_has_its_share_as_far_as_it_goes():
    holders = {"person": range(1000), "car": range(1000, 1100), "owl": range(2000, 2002)}
    chosen = stratified(holders, 42, 0)
    assert [sum(i in ids for i in chosen) for ids in holders.values()] == [20, 20, 2]


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    manifest = Manifest("train", [3, 20], ["dog", "owl"], 7)
    manifest.write(tmp_path / "ids.json")
    assert read_manifest(tmp_path / "ids.json") == manifest


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ids": [3, 21]}, "but its 2 ids give sha256"),
        ({"count": 3}, "has count 3 and sha256"),
        ({"sha256": None}, "sha256 None"),
        ({"ids": [20, 3]}, "has ids twice or out of their order"),
        ({"ids": [3, 3]}, "has ids twice"),
        ({"ids": []}, "not a list of whole numbers"),
        ({"ids": [True]}, "not a list of whole numbers"),
        ({"ids": [10**400]}, "not a list of whole numbers"),
        ({"split": "test"}, "has split 'test', neither train nor val"),
        ({"source": "mine"}, "is no manifest of COCO 2017"),
        ({"categories": []}, "has categories [], not a list of names"),
        ({"seed": 0.5}, "has seed 0.5, not a whole number"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(change, says, tmp_path):
    path = tmp_path / "ids.json"
    Manifest("train", [3, 20], ["dog"], 7).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert says in str(caught.value) and "ids.json" in str(caught.value)


@pytest.mark.parametrize(("split", "count"), [("train", 337), ("val", 128)])
def test_the_photos_of_lesson_12_are_listed(split, count):
    manifest = read_manifest(IDS / f"lesson12_{split}.json")
    assert (manifest.split, len(manifest.ids), manifest.seed) == (split, count, None)
    there = Path(__file__).parents[2].parent / "shared" / "data" / "coco_mini" / split / "instances.json"
    if there.is_file():
        assert manifest.ids == [row["id"] for row in json.loads(there.read_text())["images"]]
