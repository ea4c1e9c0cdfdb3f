"""Damaged files: a clear error or the right answer; never another exception, NaN, ten seconds or a gigabyte."""

import os
import resource
import time
from collections import Counter

import pytest
from subjects import SUBJECTS

from otalab.errors import InputError

COUNT = int(os.environ.get("OTALAB_MUTATIONS", "120"))
SHARE = {"state": 11, "npz": 4}  # of slow kinds the suite takes every so many-th seed, and still every sort of damage


@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_damaged_file_is_told_in_one_line_or_does_what_it_should(kind, tmp_path):
    name, whole, damage, use = SUBJECTS[kind](tmp_path)
    path = tmp_path / "damaged" / name
    path.parent.mkdir()
    path.write_bytes(whole)
    assert use(path) == "right"

    memory, outcomes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, Counter()
    for seed in range(0, COUNT, 1 if "OTALAB_MUTATIONS" in os.environ else SHARE.get(kind, 1)):
        path.write_bytes(damage(seed))
        began = time.perf_counter()
        try:
            outcomes[use(path)] += 1
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, seed
            outcomes["error"] += 1
        assert time.perf_counter() - began < 10, seed
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 1e6  # kB
    assert outcomes["error"] > 0
    print(kind, dict(outcomes))
