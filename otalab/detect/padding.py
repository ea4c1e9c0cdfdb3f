"""Padding without a say: images of a batch are padded to one size, and each gets the answer that it would get alone.

Two rules see to that. A convolution or pooling that looks around finds zeros beyond the image, as at the rim of an
image that is not padded (`blind_to_padding`). A norm takes its mean and variance over the cells of images alone
(`RealBatchNorm2d`, `RealGroupNorm`). Both ask which cells are real, of the batch that `real_cells` has announced.
A batch without padding takes the ordinary way, at no cost.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Map = Float[Tensor, "b c h w"]
_batch: ContextVar["RealCells | None"] = ContextVar("the batch at hand", default=None)


class RealCells:
    """Which cells of feature maps hold a part of their image; the others hold padding.

    sizes   height and width of each image of the batch, px
    padded  height and width of the batch, px

    A cell of stride s is real if its corner lies inside the image: ceil(height / s) x ceil(width / s) cells of a map.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], padded: tuple[int, int], device: torch.device):
        self.sizes, self.padded = torch.tensor(sizes, device=device), tuple(padded)
        self.none_padded = all(tuple(size) == self.padded for size in sizes)
        self._masks: dict[tuple[int, int], Tensor] = {}

    def mask(self, shape: tuple[int, int]) -> Bool[Tensor, "b 1 h w"] | None:
        """The real cells of a map of `shape`, whose stride is a power of two; None if all cells are real."""
        if self.none_padded or shape == self.padded:  # the images themselves are padded with zeros
            return None
        if shape not in self._masks:
            stride = next(s for s in (2**i for i in range(32)) if self._cells(s) == shape)
            count = (self.sizes + stride - 1) // stride  # (b, 2)
            rows, columns = (torch.arange(n, device=count.device) < count[:, i, None] for i, n in enumerate(shape))
            self._masks[shape] = rows[:, None, :, None] & columns[:, None, None, :]
        return self._masks[shape]

    def _cells(self, stride: int) -> tuple[int, int]:
        height, width = self.padded
        return -(-height // stride), -(-width // stride)


@contextmanager
def real_cells(real: RealCells) -> Iterator[None]:
    """Announce the batch that goes through the layers of this module."""
    token = _batch.set(real)
    try:
        yield
    finally:
        _batch.reset(token)


def mask_of(x: Map) -> Bool[Tensor, "b 1 h w"] | None:
    """The real cells of a map of the batch at hand; None if all are, or if no batch was announced."""
    real = _batch.get()
    return None if real is None else real.mask(tuple(x.shape[-2:]))


def blind_to_padding(module: nn.Module) -> None:
    """Let every layer inside that looks at a cell's neighbours see zeros where there is padding."""
    for layer in module.modules():
        looks_around = isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.kernel_size not in (1, (1, 1))
        if looks_around:
            layer.register_forward_pre_hook(_without_padding)


def _without_padding(layer: nn.Module, inputs: tuple[Map]) -> tuple[Map]:
    mask = mask_of(inputs[0])
    return inputs if mask is None else (inputs[0] * mask,)


class RealGroupNorm(nn.GroupNorm):
    """GroupNorm whose mean and variance are those of an image's real cells.

    Source: Wu and He, "Group Normalization", ECCV 2018, Eq. 2, with padding left out of the set S_i.
    """

    def forward(self, x: Map) -> Map:
        mask = mask_of(x)
        if mask is None:
            return super().forward(x)
        each = x.shape[1] // self.num_groups
        count = mask.sum((2, 3)) * each  # (b, 1)
        sums, squares = (s.unflatten(1, (self.num_groups, each)).sum(2) / count for s in sums_of(x * mask))
        mean, variance = (s.repeat_interleave(each, dim=1) for s in (sums, squares - sums.square()))  # (b, c)
        return scaled(x, mean, variance, self)


class RealBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose mean and variance, in training, are those of the real cells of the batch.

    A single value a channel (one image that comes down to one cell) has no variance: it is normalised as in
    evaluation, by the running statistics, and leaves them as they are.
    """

    def forward(self, x: Map) -> Map:
        mask = mask_of(x) if self.training else None
        if self.training and x.numel() == x.shape[1]:
            return torch.nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)
        if mask is None:
            return super().forward(x)
        count = mask.sum()
        sums, squares = (s.sum(0) for s in sums_of(x * mask))  # (c,)
        mean = sums / count
        variance = squares / count - mean.square()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), self.momentum)
        return scaled(x, mean, variance, self)


def sums_of(x: Map) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Of each image and channel the sum of all cells, and of their squares; at least in float32."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x.sum((2, 3)), torch.linalg.vector_norm(x, dim=(2, 3)).square()


def scaled(x: Map, mean: Tensor, variance: Tensor, norm: nn.GroupNorm | nn.BatchNorm2d) -> Map:
    """(x - mean) / std * weight + bias, mean and variance being (c,) or (b, c)."""
    scale = (variance.clamp(min=0) + norm.eps).rsqrt() * norm.weight
    shift = norm.bias - mean * scale
    return torch.addcmul(shift[..., None, None].to(x), x, scale[..., None, None].to(x))
