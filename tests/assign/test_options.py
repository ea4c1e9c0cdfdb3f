"""Options that an assigner's name brings along are read, and faults in them named."""

import pytest

from otalab.assign import ASSIGNERS, ClosestPrior, Cost, RadiusPrior, build_assigner
from otalab.errors import InputError


def test_a_name_may_bring_options_along():
    assert build_assigner("ota:q=10,solver=auction,k=3") == build_assigner("ota", q=10, solver="auction", k=3)
    assert build_assigner("ota-official:rescale=false") == build_assigner("ota-official", rescale=False)
    assert build_assigner("simota-price:cls_weight=2") == build_assigner("simota-price", cls_weight=2.0)
    assert build_assigner("ota:q=10", q=5).q == 5
    assert build_assigner("ota:") == build_assigner("ota")


def test_options_of_cost_and_prior_go_by_their_own_names():
    asked = build_assigner("ota:alpha=1,radius=1.5,q=10,cls=ce")
    assert asked == build_assigner("ota", q=10, cost=Cost(cls="ce", alpha=1.0), prior=RadiusPrior(1.5))
    assert build_assigner("ota-paper:r=3").prior == ClosestPrior(3)
    with pytest.raises(InputError, match="radius must be positive and finite, not -1"):
        build_assigner("ota:radius=-1")


@pytest.mark.parametrize("name", ASSIGNERS)
def test_every_assigner_takes_options_as_text(name):
    with pytest.raises(InputError, match=r"'colour' is no option that can be given as text; there is \w+"):
        build_assigner(f"{name}:colour=red")


@pytest.mark.parametrize(
    ("old", "options", "today"),
    [
        ("ota:solver=price-path", {}, "ota"),
        ("fcos:centre_radius=2", {}, "fcos:center_radius=2"),
        ("simota", {"centre_radius": 2.5}, "simota:center_radius=2.5"),
        ("max-iou:pos_iou=0.7,neg_iou=0.3", {}, "max-iou:pos_iou_thr=0.7,neg_iou_thr=0.3"),
    ],
)
def test_the_names_of_version_0_1_go_on_working_with_a_warning(old, options, today):
    with pytest.warns(DeprecationWarning, match="is now called"):
        assert build_assigner(old, **options) == build_assigner(today)


def test_an_assigner_that_learns_takes_options_as_text():
    assert build_assigner("autoassign:topk=4,force_topk=true").topk == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ota:q", "'q' is not of the form option=value"),
        ("ota:q=ten", "q cannot be 'ten'"),
        ("ota:q=2.5", "q cannot be '2.5'"),
        ("simota:q=0", "q must be a whole number of at least 1, not 0"),
        ("ota:k=-1", "k must be a whole number of at least 0, not -1"),
        ("ota-paper:k=-1", "k must be a whole number of at least 0, not -1"),
        ("ota:cost=3", "'cost' is no option that can be given as text; there is q, k, solver"),
        ("ota:colour=red", "'colour' is no option"),
        ("ota-official:rescale=perhaps", "rescale cannot be 'perhaps'"),
        ("otta:q=10", "assigner 'otta' is none of ota"),
    ],
)
def test_options_at_fault_are_named(name, said):
    with pytest.raises(InputError, match=said):
        build_assigner(name)
