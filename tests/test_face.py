"""`import otalab`: the public names, each imported when it is first used."""

import doctest
from importlib import import_module

import pytest

import otalab


@pytest.mark.parametrize("name", otalab.HOMES)
def test_a_public_name_is_the_one_of_its_module(name):
    assert getattr(otalab, name) is getattr(import_module(otalab.HOMES[name]), name)
    assert name in dir(otalab) and name in otalab.__all__


def test_a_star_imports_all_public_names_and_no_module():
    names = {}
    exec("from otalab import *", names)
    assert names.keys() - {"__builtins__"} == set(otalab.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'otalab' has no attribute 'slove'"):
        _ = otalab.slove
    with pytest.raises(ImportError, match="slove"):
        exec("from otalab import slove")
    with pytest.raises(AttributeError, match=r"module 'otalab\.detect' has no attribute 'build_detectro'"):
        _ = otalab.detect.build_detectro


def test_the_example_of_the_face_runs():
    result = doctest.testmod(otalab)
    assert result.attempted == 3 and result.failed == 0
