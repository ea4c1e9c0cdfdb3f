"""The dense head: classes, box sides and box quality at every anchor point, with weights shared by all levels."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from otalab.assign import AnchorPoints, Predictions, Targets
from otalab.detect.device import full_precision
from otalab.detect.layout import layout_of
from otalab.detect.norms import RealGroupNorm
from otalab.detect.padding import without_padding
from otalab.errors import InputError


class Head(nn.Module):
    """Two towers of convolutions with GroupNorm; the quality (IoU) branch sits on the regression tower.

    Source: FCOS's head (Tian et al., ICCV 2019) with the IoU branch of the OTA paper's baseline.

    bias: whether the towers' convolutions have a bias, in addition to that of the norm after each
    """

    def __init__(
        self, channels: int, num_classes: int, num_convs: int, strides: tuple[int, ...], bias: bool = False
    ) -> None:
        super().__init__()
        self.strides = strides
        self.num_classes = num_classes
        self.class_tower = tower(channels, num_convs, bias)
        self.box_tower = tower(channels, num_convs, bias)
        self.logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.sides = nn.Conv2d(channels, 4, 3, padding=1)
        self.quality = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(strides)))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.constant_(self.logits.bias, -math.log((1 - 0.01) / 0.01))  # start at a probability of 0.01
        nn.init.ones_(self.sides.bias)  # start at boxes two strides wide and high: empty ones would get no gradient

    def forward(
        self, features: list[Tensor], *own: object
    ) -> tuple[Float[Tensor, "b n C"], Float[Tensor, "b n 4"], Float[Tensor, "b n"], *tuple[Tensor, ...]]:
        """Logits, sides (left, top, right, bottom in px, not negative) and quality logits, points in grid order.

        A head with its own anchor boxes also returns half their width and height, (b, n, 2) px. It may also return
        their location, a logit (b, n) of whether an anchor belongs at the point. `own` is passed on to `level`.
        """
        layout, maps = layout_of(self.logits.weight), []
        for feature, stride, scale in zip(features, self.strides, self.scales, strict=True):
            feature = without_padding(feature).contiguous(memory_format=layout)
            maps.append(without_padding(self.level(feature, stride, scale, *own)))
        return self.parts(torch.cat([x.flatten(2).mT for x in maps], dim=1))

    def parts(self, rows: Float[Tensor, "b n rows"]) -> tuple[Tensor, ...]:
        """Split the rows that `level` computed into logits, sides and quality."""
        logits, sides, quality = rows.split((self.num_classes, 4, 1), dim=2)
        return logits, sides, quality.squeeze(2)

    def level(self, feature: Float[Tensor, "b c h w"], stride: int, scale: Tensor) -> Float[Tensor, "b rows h w"]:
        """C rows of logits, 4 of sides and 1 of quality, from the map of one level, which is 0 in the padding."""
        box_feature = self.box_tower(feature)
        with full_precision(feature.device):  # bfloat16 would round a side of 300 px to a multiple of 2 px
            sides = torch.relu(scale * self.sides(box_feature.to(scale.dtype))) * stride
        return torch.cat((self.logits(self.class_tower(feature)), sides, self.quality(box_feature)), dim=1)

    def points(self, points: AnchorPoints) -> AnchorPoints:
        """The anchor points of the predictions, given one point per cell; here they are the same."""
        return points

    def own_losses(
        self, points: Sequence[AnchorPoints], predictions: Sequence[Predictions], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """Losses that only this kind of head has, summed over a batch; the caller divides them by its positives.

        points: those of each image
        """
        return {}


def tower(channels: int, num_convs: int, bias: bool = False) -> nn.Sequential:
    """Convolutions, each with GroupNorm and ReLU. Raises InputError for channels that do not divide into groups."""
    groups = min(32, channels // 4)
    if groups < 1 or channels % groups:
        raise InputError(f"channels is {channels}; it must be a multiple of 4 up to 128, and of 32 beyond")
    layers: list[nn.Module] = []
    for _ in range(num_convs):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        layers += [conv, RealGroupNorm(groups, channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
