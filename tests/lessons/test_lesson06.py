"""The checker of lesson 06 counts what is asked for, and wants the finest grid that is too small."""

import numpy as np
import pytest
import torch

from otalab.assign import build_assigner
from otalab.errors import InputError
from otalab.lessons import lesson06


def fails(stride: int) -> bool:
    """Whether the authors' code would have a negative supply, as `ota-official` tells."""
    try:
        build_assigner("ota-official", max_iter=1)(*lesson06.crowd(stride))
    except InputError as error:
        assert "supply sums to" in str(error)
        return True
    return False


RIGHT = next(stride for stride in range(lesson06.LEAST, lesson06.MOST + 1) if fails(stride))


@pytest.mark.parametrize("stride", [RIGHT, float(RIGHT), np.int64(RIGHT), torch.tensor(RIGHT), [RIGHT]])
def test_the_finest_grid_that_is_too_small_passes(stride):
    verdict = lesson06.check(stride)
    assert verdict.passed and "at most q" in verdict.message


def test_it_lies_strictly_between_the_limits():
    assert lesson06.LEAST < RIGHT < lesson06.MOST


def test_a_grid_that_suffices_gets_its_numbers():
    verdict = lesson06.check(RIGHT - 1)
    assert not verdict.passed and "enough" in verdict.message


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"prior": False}, "outside a gt's prior"),
        ({"local": True}, "all points of the grid"),
        ({"q": 10}, "Here q is 20"),
    ],
)
def test_who_counts_in_another_way_is_asked_whether(how, said):
    stride = lesson06.finest(**how)
    assert stride != RIGHT and said in lesson06.check(stride).message


def test_a_fine_grid_is_enough_however_one_counts():
    message = lesson06.check(lesson06.LEAST + 1).message
    assert message.endswith("enough.") and "outside" not in message


def test_a_coarser_grid_that_suffices_is_told_that_some_finer_one_does_not():
    enough = [stride for stride in range(RIGHT + 1, lesson06.MOST + 1) if not fails(stride)]
    assert enough
    for stride in enough:
        message = lesson06.check(stride).message
        assert "some finer grid" in message and "outside" not in message and str(RIGHT) not in message


def test_a_coarser_grid_that_fails_too_gets_its_own_hint():
    coarser = next(stride for stride in range(RIGHT + 1, lesson06.MOST + 1) if fails(stride))
    verdict = lesson06.check(coarser)
    assert not verdict.passed and "a finer grid" in verdict.message and str(RIGHT) not in verdict.message


@pytest.mark.parametrize("stride", [None, "8", 7, 65, 20.5, True, [20, 21], float("nan")])
def test_no_answer_and_nonsense_get_a_hint(stride):
    verdict = lesson06.check(stride)
    assert not verdict.passed and len(verdict.message) > 25


def test_a_crowd_refuses_a_stride_that_is_none():
    with pytest.raises(InputError, match="whole number"):
        lesson06.crowd(0)
