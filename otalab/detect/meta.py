"""MetaAnchor: a head that generates its last layer from the shape of an anchor box, so that any box can have one.

Source: Yang et al., MetaAnchor: Learning to Detect Objects with Customized Anchors, NeurIPS 2018, Eq. 4. The weights
for an anchor box b are a shared part plus a residual, which two layers compute from log b. It is built on otalab's
head, with its quality branch. The paper's variant whose residual also depends on the image is left out.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from otalab.assign import AnchorPoints
from otalab.detect.device import full_precision
from otalab.detect.head import Head

BASE = 8  # side, in strides, of the square box whose logarithms are 0
PRIORS = ((0.7071, 1.4142), (1.0, 1.0), (1.4142, 0.7071))  # width and height of the boxes, in BASE strides
HIDDEN = 32
NOISE = 0.25  # standard deviation of noise on the logarithms in training, to learn weights between the boxes too


class MetaHead(Head):
    """The head with one prediction for each of PRIORS at each point; the predictions of a point lie together.

    Box sides are predicted in units of half the anchor box's sides. In training the boxes are drawn at random around
    PRIORS in each step, so that `priors` may be set to other boxes in evaluation without further training.
    """

    def __init__(self, channels: int, num_classes: int, num_convs: int, strides: tuple[int, ...], bias: bool = False):
        super().__init__(channels, num_classes, num_convs, strides, bias)
        self.register_buffer("priors", torch.tensor(PRIORS), persistent=False)
        self.class_residual = generator(self.logits.weight.numel())
        self.box_residual = generator(self.sides.weight.numel() + self.quality.weight.numel())

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        log = self.priors.log()
        if self.training:
            log = log + NOISE * torch.randn_like(log)
        shared = self.logits.weight, torch.cat((self.sides.weight, self.quality.weight))
        with full_precision(log.device):
            made = (make(log) for make in (self.class_residual, self.box_residual))
            weights = [theta + residual.view(-1, *theta.shape) for theta, residual in zip(shared, made, strict=True)]
        return super().forward(features, [*zip(log.exp(), *weights, strict=True)])

    def level(
        self, feature: Float[Tensor, "b c h w"], stride: int, scale: Tensor, boxes: list[tuple[Tensor, Tensor, Tensor]]
    ) -> Float[Tensor, "b rows h w"]:
        """For each anchor box: C rows of logits, 4 of sides, one of quality and two of half the anchor's sides.

        boxes: for each anchor box, its width and height (2,) in BASE strides, and the weights of the class layer and
            of the box layer
        """
        seen, box_seen = self.class_tower(feature), self.box_tower(feature)
        box_bias, rows = torch.cat((self.sides.bias, self.quality.bias)), []
        for size, class_weight, box_weight in boxes:
            half = (BASE / 2 * stride * size)[:, None, None].expand(len(feature), 2, *feature.shape[2:])  # px
            logits = F.conv2d(seen, class_weight, self.logits.bias, padding=1)
            with full_precision(feature.device):
                found = F.conv2d(box_seen.to(scale.dtype), box_weight, box_bias, padding=1)
                sides = torch.relu(scale * found[:, :4]) * half.repeat(1, 2, 1, 1)
            rows += [logits, sides, found[:, 4:], half]
        return torch.cat(rows, dim=1)

    def parts(self, rows: Float[Tensor, "b n rows"]) -> tuple[Tensor, ...]:
        """Logits, sides, quality and half sides of the anchor boxes, (b, n * a, ...) if there are `a` at each point."""
        rows = rows.unflatten(2, (len(self.priors), -1)).flatten(1, 2)  # (b, n * a, rows)
        logits, sides, quality, half = rows.split((self.num_classes, 4, 1, 2), dim=2)
        return logits, sides, quality.squeeze(2), half

    def points(self, points: AnchorPoints) -> AnchorPoints:
        """Each point repeated for every anchor box."""
        columns = (points.xy, points.stride, points.level)
        return AnchorPoints(*(x.repeat_interleave(len(self.priors), dim=0) for x in columns))


def generator(outputs: int) -> nn.Sequential:
    """Two layers that map the logarithms of a box's sides to the residual of weights, which is small at first."""
    last = nn.Linear(HIDDEN, outputs)
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(2, HIDDEN), nn.ReLU(), last)
