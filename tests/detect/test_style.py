import pytest
import torch
from torchvision.models.resnet import Bottleneck

from otalab.assign import AnchorPoints
from otalab.detect import build_detector
from otalab.detect.style import STYLES
from otalab.errors import InputError

STRIDES = (8, 16, 32, 64, 128)


def test_torchvisions_coarse_levels_step_by_the_padded_side_over_the_cells():
    style, size = STYLES["torchvision"], (790, 1060)  # padded to 800 x 1088
    assert style.padded(size) == (800, 1088)
    points = AnchorPoints.for_image((800, 1088), STRIDES, style.offset)
    origins = style.origins(points, STRIDES, size)
    for level, (x, y) in enumerate([(8, 8), (16, 16), (32, 32), (64, 61), (120, 114)]):  # 7 x 9 cells at the end
        of_level = origins[points.level == level]
        assert of_level[:, 0].unique()[:2].tolist() == [0, x] and of_level[:, 1].unique()[:2].tolist() == [0, y]


@pytest.mark.parametrize("name", ["otalab", "cvpods"])
def test_elsewhere_boxes_are_measured_from_the_points(name):
    points = AnchorPoints.for_image((80, 96), STRIDES, STYLES[name].offset)
    assert STYLES[name].origins(points, STRIDES, (80, 96)) is points.xy
    assert points.xy[0].tolist() == {"otalab": [4, 4], "cvpods": [0, 0]}[name]


def test_padding_to_a_multiple_is_picture_and_what_a_batch_adds_is_not():
    model = build_detector("tiny", 3, style="cvpods")
    images = [torch.rand(3, 40, 60), torch.rand(3, 90, 33)]  # padded to 64 x 64 and 96 x 64
    assert model.batch(images).shape == (2, 3, 96, 64)
    points, _ = model.predict(images)
    assert torch.equal(model.in_padding(points, images), torch.stack((points.xy[:, 1] >= 64, points.xy[:, 1] >= 96)))


@pytest.mark.parametrize(("style", "strides"), [("torchvision", (1, 2)), ("cvpods", (2, 1))])
def test_a_bottleneck_steps_down_where_its_family_does(style, strides):
    model = build_detector("resnet50", 3, style=style, weights_backbone="IMAGENET1K_V1", load_weights=False)
    block = model.backbone.body.layer2[0]
    assert isinstance(block, Bottleneck) and (block.conv1.stride[0], block.conv2.stride[0]) == strides


def test_an_unknown_style_is_refused():
    with pytest.raises(InputError, match="style 'caffe' is none of otalab, torchvision, cvpods"):
        build_detector(style="caffe")
