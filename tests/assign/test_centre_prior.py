"""Centre priors against loops over every pair of a gt and a point."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otalab.assign import AnchorPoints, ClosestPrior, RadiusPrior
from otalab.errors import InputError

from .cases import SCENES, make_case


def radius_prior_by_loop(points, boxes, radius, margin):
    mask = torch.zeros(len(boxes), len(points), dtype=torch.bool)
    for i, j in itertools.product(range(len(boxes)), range(len(points))):
        (left, top, right, bottom), (x, y), stride = boxes[i].tolist(), points.xy[j].tolist(), points.stride[j].item()
        inside = min(x - left, y - top, right - x, bottom - y) > margin
        near = abs(x - (left + right) / 2) < radius * stride and abs(y - (top + bottom) / 2) < radius * stride
        mask[i, j] = inside and near
    return mask


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_the_radius_prior_is_the_rule_applied_to_every_pair(scene, offset):
    points, _, targets = make_case(1, (96, 128), num_gt=6, scene=scene, offset=offset)
    for radius, margin in ((2.5, 0.01), (1.0, 2.0)):
        mask = RadiusPrior(radius, margin)(points, targets.boxes)
        assert torch.equal(mask, radius_prior_by_loop(points, targets.boxes, radius, margin))


def test_a_point_on_the_border_of_the_square_or_within_the_margin_is_out():
    points = AnchorPoints.for_image((96, 96), strides=(8,), offset=0.0)
    boxes = torch.tensor([[8.0, 8.0, 88.0, 88.0], [8.0, 8.0, 24.0, 24.0], [7.995, 8.0, 24.0, 24.0]])
    mask = RadiusPrior(radius=2.0)(points, boxes).reshape(3, 12, 12)
    assert mask[0].nonzero().amin(dim=0).tolist() == [5, 5]  # centre 48, reach 16: 40, 48 and 56 are inside
    assert mask[0].sum() == 9
    assert mask[1].sum() == mask[2].sum() == 1  # 8 and 24 are within 0.01 px of the sides


def test_at_most_25_points_a_level_are_in_the_radius_prior():
    points, _, targets = make_case(0, (320, 320), num_gt=30, scene="huge")
    mask = RadiusPrior()(points, targets.boxes)
    for level in range(5):
        assert mask[:, points.level == level].sum(dim=1).max() <= 25


@pytest.mark.parametrize("scene", ["normal", "tiny", "huge", "outside", "on the grid"])
@pytest.mark.parametrize("r", [1, 2, 5])
def test_the_closest_prior_has_r_squared_points_a_level_and_none_that_is_left_out_is_closer(scene, r):
    points, _, targets = make_case(2, (96, 128), num_gt=6, scene=scene)
    mask = ClosestPrior(r)(points, targets.boxes)
    middle = (targets.boxes[:, :2] + targets.boxes[:, 2:]) / 2
    for gt, level in itertools.product(range(6), range(5)):
        here = points.level == level
        distance = (points.xy[here] - middle[gt]).norm(dim=1)
        chosen = mask[gt, here]
        assert chosen.sum() == min(r**2, int(here.sum()))
        if not chosen.all():
            assert distance[chosen].max() <= distance[~chosen].min() + 1e-9


def test_of_equally_close_points_the_first_are_taken():
    points = AnchorPoints.for_image((32, 32), strides=(8,))
    mask = ClosestPrior(r=1)(points, torch.tensor([[12.0, 12.0, 20.0, 20.0]]))  # centre (16, 16) amid four points
    assert points.xy[mask[0]].tolist() == [[12.0, 12.0]]


def test_far_from_the_origin_the_closest_points_are_still_found():
    """Distances by way of a matrix product lose this."""
    points = AnchorPoints.for_image((8, 40000), strides=(8,))
    box = torch.tensor([[39000.0, 0.0, 39011.0, 8.0]])  # centre 39005.5: points 39004 and 39012
    assert points.xy[ClosestPrior(r=1)(points, box)[0]].tolist() == [[39004.0, 4.0]]


@pytest.mark.parametrize("prior", [RadiusPrior(), ClosestPrior()])
def test_no_gts_make_an_empty_prior(prior):
    points = AnchorPoints.for_image((64, 64))
    assert prior(points, torch.zeros(0, 4)).shape == (0, len(points))


def test_only_gts_without_a_point_get_the_nearest():
    points, _, targets = make_case(0, num_gt=12, scene="tiny")
    mask = RadiusPrior()(points, targets.boxes)
    full = RadiusPrior().candidates(points, targets.boxes).or_nearest(points, targets.boxes).mask(len(points))
    empty = ~mask.any(dim=1)
    assert 0 < empty.sum() < 12
    assert torch.equal(full[~empty], mask[~empty])
    assert (full[empty].sum(dim=1) == 1).all()
    middle = (targets.boxes[:, :2] + targets.boxes[:, 2:]) / 2
    for gt in empty.nonzero().flatten().tolist():
        distance = (points.xy - middle[gt]).norm(dim=1)
        assert distance[full[gt]] == distance.min()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(8, 200), st.integers(8, 200)),
    strides=st.sampled_from([(8, 16, 32, 64, 128), (4, 8), (7, 13), (16,)]),
    offset=st.sampled_from([0.0, 0.3, 0.5]),
    prior=st.sampled_from([RadiusPrior(), RadiusPrior(0.5), RadiusPrior(1.0), RadiusPrior(1.7, 3.0), ClosestPrior(2)]),
    scene=st.sampled_from(SCENES),
)
def test_candidates_found_by_arithmetic_are_those_of_the_mask(seed, size, strides, offset, prior, scene):
    case = make_case(seed, size, num_gt=6, scene=scene, strides=strides, offset=offset)
    points, boxes = case.points, case.targets.boxes
    scattered = replace(points, grid=None)  # the same points, their order not known
    mask, n = prior(points, boxes), len(points)
    found = prior.candidates(points, boxes)
    assert torch.equal(found.mask(n), mask)
    listed = prior.candidates(scattered, boxes)
    assert torch.equal(listed.mask(n), mask)
    assert torch.equal(found.or_nearest(points, boxes).mask(n), listed.or_nearest(scattered, boxes).mask(n))
    assert found.valid.sum() == mask.sum()  # none is listed twice


def test_gts_far_outside_the_image_have_no_candidates():
    points = AnchorPoints.for_image((64, 64))
    far = torch.tensor([[1e30, 0, 2e30, 9], [-1e9, -1e9, -1e8, -1e8], [90.0, 90, 99, 99]], dtype=torch.float64)
    assert not RadiusPrior().candidates(points, far).or_nearest(points, far).valid[:2].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RadiusPrior(-1.0), r"radius must be positive and finite, not -1\.0"),
        (lambda: RadiusPrior(float("nan")), "radius must be positive and finite, not nan"),
        (lambda: RadiusPrior(margin=-1.0), "margin must be finite and not negative"),
        (lambda: ClosestPrior(0), "r must be a whole number of at least 1, not 0"),
    ],
)
def test_priors_of_no_size_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
