"""Conventions in which families of detectors differ, so that weights trained elsewhere give the same boxes here.

All families share the network: ResNet, FPN with P6 and P7 from P5, two towers, and sides of relu(scale * x) * stride.
They differ in where points lie, how much padding counts as picture, and how predictions become final boxes. Each
difference is a field of `Style`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from otalab.assign import AnchorPoints
from otalab.detect.postprocess import PostProcess


@dataclass(frozen=True)
class Style:
    """The conventions of one family of detectors; the defaults are otalab's own.

    offset:       points lie at (i + offset) * stride
    pad_to:       each image is padded to a multiple of this many px, and this padding counts as picture
    stretched:    whether boxes are measured from i * (padded side // cells) instead of i * stride. The two differ on
                  coarse levels, whose last cell reaches beyond the image: 800 px hold 7 cells, which then lie 114 px
                  apart instead of 128
    antialias:    whether images are antialiased as they shrink, and the new sizes rounded; else sizes are rounded down
    tower_bias:   whether the convolutions of the head's towers have a bias
    early_stride: whether a bottleneck has its stride in its first convolution (He et al., CVPR 2016), not its second
    postprocess:  how dense predictions become final boxes
    """

    offset: float = 0.5
    pad_to: int = 1
    stretched: bool = False
    antialias: bool = True
    tower_bias: bool = False
    early_stride: bool = False
    postprocess: PostProcess = field(default_factory=PostProcess)

    def padded(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width in px of what counts as picture, for an image of `size` (height, width) px."""
        return tuple(-(-side // self.pad_to) * self.pad_to for side in size)

    def origins(self, points: AnchorPoints, strides: Sequence[int], size: Sequence[int]) -> Float[Tensor, "n 2"]:
        """The positions (n, 2), px, that the boxes of an image of `size` are measured from; see `stretched`."""
        if not self.stretched:
            return points.xy
        padded = torch.tensor(self.padded(size)).flip(0)  # (x, y)
        stride = torch.tensor(strides)[:, None]
        steps = padded // -(-padded // stride)  # (levels, 2)
        return points.xy * (steps / stride).to(points.xy)[points.level]


STYLES = {
    "otalab": Style(),
    # torchvision.models.detection.fcos and .transform, 0.13 to 0.29
    "torchvision": Style(
        offset=0.0,
        pad_to=32,
        stretched=True,
        antialias=False,
        tower_bias=True,
        postprocess=PostProcess(score_threshold=0.2, clip_first=True),
    ),
    # the OTA paper's code, on cvpods
    "cvpods": Style(offset=0.0, pad_to=32, tower_bias=True, early_stride=True),
}
