"""An option that breaks its rule is named with the rule and the value, of whatever type the value is."""

import math

import numpy as np
import pytest
import torch

from otalab.checks import RULES, require, require_known
from otalab.errors import InputError

WHOLE = "be a whole number of at least 1"


@pytest.mark.parametrize("count", [0, -3, 2.5, 3.0, math.inf, math.nan, "3", None, torch.tensor(2.5)])
def test_a_count_that_is_not_whole_or_too_small_is_named(count):
    with pytest.raises(InputError) as error:
        require(WHOLE, max_iter=count)
    assert str(error.value) == f"max_iter must be a whole number of at least 1, not {count!r}"


def test_whole_numbers_of_any_library_will_do():
    require(WHOLE, max_iter=np.int64(3), check_every=torch.tensor(1), q=7)


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_is_kept_by_words_or_nothing(rule):
    for value in (None, "ten", object(), math.nan):
        with pytest.raises(InputError) as error:
            require(rule, option=value)
        assert str(error.value) == f"option must {rule}, not {value!r}"


@pytest.mark.parametrize("value", [160, (160, math.inf), (160,), (0, 160)])
def test_a_size_is_two_positive_finite_numbers(value):
    require("be a positive (height, width)", image_size=(120, 160))
    with pytest.raises(InputError, match="image_size must be a positive"):
        require("be a positive (height, width)", image_size=value)


def test_a_word_that_is_not_known_is_told_with_those_that_are():
    require_known(("drop", "share"), deficits="drop")
    with pytest.raises(InputError, match="deficits 'keep' is none of drop, share"):
        require_known(("drop", "share"), deficits="keep")
