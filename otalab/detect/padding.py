"""Padding without a say: images of a batch are padded to one size, and each gets the answer that it would get alone.

Three rules see to that. In the backbone a convolution or pooling that looks around finds zeros beyond the image, as at
the rim of an image that is not padded (`blind_to_padding`), and a batch norm takes its mean and variance over the cells
of images alone (`RealBatchNorm2d`). Both ask which cells are real, of the batch that `real_cells` has announced. The
head, whose layers look at one image at a time, gets maps with the padding cut off (`without_padding`).
A batch without padding takes the ordinary way, at no cost.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Bool, Float, Int
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
            count = self.counts(shape)
            rows, columns = (torch.arange(n, device=count.device) < count[:, i, None] for i, n in enumerate(shape))
            self._masks[shape] = rows[:, None, :, None] & columns[:, None, None, :]
        return self._masks[shape]

    def counts(self, shape: tuple[int, int]) -> Int[Tensor, "b 2"]:
        """Rows and columns of real cells of each image in a map of `shape`."""
        strides = (2**i for i in range(32))
        stride = next(s for s in strides if tuple(-(-side // s) for side in self.padded) == shape)
        return (self.sizes + stride - 1) // stride


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


def without_padding(layers: Callable[[Tensor], Tensor], x: Map) -> Float[Tensor, "b rows h w"]:
    """What `layers` make of each image's real cells alone, images of one size together; zeros in the padding.

    For layers that look at one image at a time, and whose map has the size of `x`.
    """
    real, shape = _batch.get(), tuple(x.shape[-2:])
    if real is None or real.none_padded:
        return layers(x)
    alike: dict[tuple[int, int], list[int]] = {}  # rows and columns -> images
    for image, count in enumerate(real.counts(shape).tolist()):
        alike.setdefault(tuple(count), []).append(image)
    parts, rows = [], x.permute(0, 2, 3, 1)  # (b, h, w, c), as channels_last lays it out
    for (height, width), images in alike.items():
        part = layers(rows[images, :height, :width].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        parts.append(nn.functional.pad(part, (0, 0, 0, shape[1] - width, 0, shape[0] - height)))
    order = torch.tensor([image for images in alike.values() for image in images]).argsort()
    return torch.cat(parts)[order.to(x.device)].permute(0, 3, 1, 2)


class RealBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the real cells of the batch; zeros in the padding.

    A single value a channel (one image that comes down to one cell) has no variance: in training it is normalised as in
    evaluation, by the running statistics, and leaves them as they are.
    """

    def forward(self, x: Map) -> Map:
        mask = mask_of(x)
        if mask is None:
            return self.normalised(x)
        batch, channels, height, width = x.shape
        cells = mask.flatten().nonzero().squeeze(1)
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        real = self.normalised(rows.index_select(0, cells).T[None, ..., None]).squeeze((0, 3)).T
        rows = torch.zeros_like(rows).index_copy_(0, cells, real)
        return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def normalised(self, x: Map) -> Map:
        """BatchNorm over all cells."""
        if self.training and x.numel() == x.shape[1]:
            return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)
        return super().forward(x)
