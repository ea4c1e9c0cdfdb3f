"""AnchorPoints: where the points of a grid lie."""

from inspect import unwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otalab.assign import AnchorPoints
from otalab.errors import InputError


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.lists(st.sampled_from([4, 8, 16, 32, 64, 128]), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.5]),
)
def test_points_are_those_of_a_plain_loop(height, width, strides, offset):
    points = AnchorPoints.for_image((height, width), strides, offset)
    expected = [
        ((x + offset) * s, (y + offset) * s, s, level)
        for level, s in enumerate(strides)
        for y in range(-(-height // s))
        for x in range(-(-width // s))
    ]
    found = torch.cat((points.xy, points.stride[:, None], points.level[:, None]), dim=1)
    assert found.tolist() == [list(point) for point in expected]
    assert len(points) == len(expected)


def test_the_points_of_a_known_image_lie_where_the_paper_puts_them():
    points = AnchorPoints.for_image((800, 1344))
    assert len(points) == 22400
    assert points.level.bincount().tolist() == [16800, 4200, 1050, 273, 77]
    assert points.xy[0].tolist() == [4.0, 4.0]
    assert points.xy[1].tolist() == [12.0, 4.0]
    assert points.xy[168].tolist() == [4.0, 12.0]
    assert points.xy[-1].tolist() == [10.5 * 128, 6.5 * 128]
    assert (points.xy.dtype, points.stride.dtype, points.level.dtype) == (torch.float32, torch.float32, torch.int64)


def test_points_of_feature_maps_follow_the_maps_not_the_image():
    points = AnchorPoints.for_feature_maps([(2, 3), (1, 1)], (8, 16), offset=0.0)
    assert points.xy.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8], [0, 0]]
    assert points.stride.tolist() == [8] * 6 + [16]


def test_points_move_and_change_precision():
    points = AnchorPoints.for_image((64, 64), dtype=torch.float64)
    assert points.xy.dtype == points.stride.dtype == torch.float64
    single = points.to(dtype=torch.float32)
    assert (single.xy.dtype, single.stride.dtype, single.level.dtype) == (torch.float32, torch.float32, torch.int64)
    away = points.to(device="meta")
    assert {away.xy.device.type, away.stride.device.type, away.level.device.type} == {"meta"}
    there = AnchorPoints.for_image((64, 64), device="meta")
    assert there.xy.device.type == there.level.device.type == "meta"


def test_a_square_box_stands_on_every_point():
    points = AnchorPoints.for_image((16, 16), strides=(8, 16))
    boxes = points.boxes(scale=4.0)
    assert boxes[0].tolist() == [4 - 16, 4 - 16, 4 + 16, 4 + 16]
    assert boxes[-1].tolist() == [8 - 32, 8 - 32, 8 + 32, 8 + 32]


@pytest.mark.parametrize("size, strides", [((0, 64), (8,)), ((64, -1), (8,)), ((64, 64), (8, 0)), ((64, 64), (-8,))])
def test_a_size_or_stride_that_is_not_positive_is_an_error(size, strides):
    with pytest.raises(InputError, match="must be positive"):
        AnchorPoints.for_image(size, strides)


@pytest.mark.parametrize("maps, strides", [([(2, 2)], (8.0,)), ([(2.0, 2)], (8,)), ([(0, 2)], (8,)), ([(2, 2)], (0,))])
def test_a_map_or_stride_that_is_no_positive_whole_number_is_an_error(maps, strides):
    with pytest.raises(InputError, match="must be positive whole numbers"):
        unwrap(AnchorPoints.for_feature_maps.__func__)(AnchorPoints, maps, strides)  # past the annotation checks


def test_as_many_maps_as_strides_are_needed_and_one_at_least():
    with pytest.raises(InputError, match="2 feature maps but 1 strides"):
        AnchorPoints.for_feature_maps([(2, 2), (1, 1)], (8,))
    with pytest.raises(InputError, match="0 feature maps but 0 strides; there must be as many, and one at least"):
        AnchorPoints.for_image((64, 64), ())
