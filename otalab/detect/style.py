"""What detectors of one family do in their own way, so that weights from elsewhere mean here what they meant there.

The network is the same everywhere: ResNet, FPN with P6 and P7 from P5, two towers, relu(scale * x) * stride. Families
differ in where points lie, what counts as picture and what becomes of boxes; each difference is a field of `Style`.
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
    """How a family of detectors differs; the defaults are otalab's own.

    offset:       points lie at (i + offset) * stride
    pad_to:       each image is padded to a multiple of so many px, which then counts as picture
    stretched:    boxes are measured from i * (padded side // cells) instead of i * stride. The two differ on coarse
                  levels, whose last cell reaches beyond the image: 800 px are 7 cells of 128 px, or 7 steps of 114 px
    antialias:    whether images are smoothed as they shrink, and sizes rounded; else sizes are rounded down
    tower_bias:   whether the convolutions of the head's towers have a bias
    early_stride: whether a bottleneck steps down in its first convolution, not in its second (He et al., CVPR 2016)
    postprocess:  from dense predictions to final boxes
    """

    offset: float = 0.5
    pad_to: int = 1
    stretched: bool = False
    antialias: bool = True
    tower_bias: bool = False
    early_stride: bool = False
    postprocess: PostProcess = field(default_factory=PostProcess)

    def padded(self, size: Sequence[int]) -> tuple[int, int]:
        """What counts as picture of an image of `size` (height, width), px."""
        return tuple(-(-side // self.pad_to) * self.pad_to for side in size)

    def origins(self, points: AnchorPoints, strides: Sequence[int], size: Sequence[int]) -> Float[Tensor, "n 2"]:
        """Where the boxes of an image of `size` are measured from: the points, unless the grid is stretched."""
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
