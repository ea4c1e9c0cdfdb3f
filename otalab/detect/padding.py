"""Padding without effect: images are padded to the size of their batch, and each gets the results it would get alone.

Two rules ensure this. A convolution or pooling that looks at neighbouring cells finds zeros beyond the image, as at the
border of an image without padding (`blind_to_padding`, `without_padding`). A norm takes its mean and variance over the
cells of images alone, and leaves zeros elsewhere (`norms.py`).
Both use the batch that `real_cells` has announced to tell which cells are real.
A batch without padding goes through the ordinary layers, at no extra cost.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import Function

Map = Float[Tensor, "b c h w"]
_batch: ContextVar["RealCells | None"] = ContextVar("the batch at hand", default=None)


class RealCells:
    """Which cells of feature maps hold a part of their image; the others hold padding.

    sizes   height and width of each image of the batch, px
    padded  height and width of the batch, px

    A cell of stride s is real if its upper left corner lies inside the image. An image thus has
    ceil(height / s) x ceil(width / s) real cells.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], padded: tuple[int, int], device: torch.device):
        self.sizes, self.padded = torch.tensor(sizes, device=device), tuple(padded)
        self.none_padded = all(tuple(size) == self.padded for size in sizes)
        self._masks: dict[tuple[tuple[int, int], torch.dtype], Tensor] = {}

    def mask(self, shape: tuple[int, int], dtype: torch.dtype) -> Float[Tensor, "b 1 h w"] | None:
        """1 at the real cells of a map of `shape` (h, w), else 0; None if there is nothing to mask.

        That is so if no image is padded, and for the batch of images itself. Strides must be powers of two.
        """
        if self.none_padded or shape == self.padded:  # the images themselves have zeros in the padding already
            return None
        if (shape, dtype) not in self._masks:
            strides = (2**i for i in range(32))
            stride = next(s for s in strides if tuple(-(-side // s) for side in self.padded) == shape)
            count = (self.sizes + stride - 1) // stride  # (b, 2), rows and columns of real cells
            rows, columns = (torch.arange(n, device=count.device) < count[:, i, None] for i, n in enumerate(shape))
            self._masks[shape, dtype] = (rows[:, None, :, None] & columns[:, None, None, :]).to(dtype)
        return self._masks[shape, dtype]


@contextmanager
def real_cells(real: RealCells) -> Iterator[None]:
    """Announce, for the duration of the block, the batch that goes through the layers of this module."""
    token = _batch.set(real)
    try:
        yield
    finally:
        _batch.reset(token)


def mask_of(x: Map) -> Float[Tensor, "b 1 h w"] | None:
    """`RealCells.mask` of a map of the announced batch; None if no batch was announced."""
    real = _batch.get()
    return None if real is None else real.mask(tuple(x.shape[-2:]), x.dtype)


def blind_to_padding(module: nn.Module) -> None:
    """Make every layer in `module` that looks at neighbouring cells see zeros in the padding.

    If the layer comes right after a `LeanReLU6`, in the order of the modules, that one writes the zeros. Otherwise the
    layer writes them into its own input.
    """
    leaves = [layer for layer in module.modules() if not any(layer.children())]
    for before, layer in pairwise([None, *leaves]):
        if not looks_around(layer):
            continue
        if isinstance(before, LeanReLU6):
            before.cuts = True
        else:
            layer.register_forward_pre_hook(_cut_inputs)


def looks_around(layer: nn.Module) -> bool:
    """Whether a layer's output at a cell depends on neighbouring cells."""
    return isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.kernel_size not in (1, (1, 1))


class LeanReLU6(nn.ReLU6):
    """ReLU6 in place, without the copy of its input that PyTorch's own keeps for the gradient.

    The result is enough for the gradient: it is strictly between 0 and 6 where the input was, and nowhere else.

    cuts: whether it leaves zeros in the padding; a product with the mask would need another pass each way
    """

    cuts = False

    def forward(self, x: Map) -> Map:
        # a compiler plans its copies itself, and without a gradient there is none
        if torch.compiler.is_compiling() or not x.requires_grad:
            y = super().forward(x)
            return without_padding(y) if self.cuts else y
        return _Clip.apply(x, mask_of(x) if self.cuts else None)


class _Clip(Function):
    """Works in place. Backward needs no mask, because the gradient of a ReLU6 at 0 is 0."""

    @staticmethod
    def forward(ctx, x: Map, mask: Tensor | None) -> Map:
        x.clamp_(0, 6)
        if mask is not None:
            x.mul_(mask)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Map) -> tuple[Map, None]:
        return torch.ops.aten.hardtanh_backward(gradient, *ctx.saved_tensors, 0, 6), None


def _cut_inputs(layer: nn.Module, inputs: tuple[Map]) -> tuple[Map]:  # not a lambda, so that a model can be pickled
    return (without_padding(*inputs),)


def without_padding(x: Map) -> Map:
    """The map with zeros in the padding of the announced batch."""
    mask = mask_of(x)
    return x if mask is None else x * mask
