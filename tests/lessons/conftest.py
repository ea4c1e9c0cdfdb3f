"""What the tests of the lessons share."""

import runpy
from functools import cache
from pathlib import Path

import pytest

SOLUTIONS = Path(__file__).parents[2] / "notebooks" / "solutions"


@pytest.fixture(scope="session")
def solution():
    """`solution("09")`: the names of that lesson's solution, which runs once."""
    return cache(lambda number: runpy.run_path(str(SOLUTIONS / f"{number}.py")))
