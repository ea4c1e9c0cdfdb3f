"""Batch norm and group norm whose means and variances leave out the padding of images.

They have the same parameters as PyTorch's own norms, and the same results if a batch has no padding.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from otalab.detect.device import full_precision
from otalab.detect.padding import Map, mask_of


class RealBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the real cells of the batch; zeros in the padding.

    A single value per channel (one image whose map has one cell) has no variance. In training it is normalised as in
    evaluation, by the running statistics, and these stay as they are.
    """

    def forward(self, x: Map) -> Map:
        mask = mask_of(x)
        if self.training and mask is not None:
            return self.over_real_cells(x, mask)
        if self.training and x.numel() == x.shape[1]:
            return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)
        return super().forward(x) if mask is None else super().forward(x) * mask

    def over_real_cells(self, x: Map, mask: Tensor) -> Map:
        """The norm in training. A batch with padding has at least two images, so more than one real cell."""
        y, mean, variance, cells = _normalised(self, x, mask, groups=None)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_var.lerp_((variance * (cells / (cells - 1))).flatten(), self.momentum)
        return y


class RealGroupNorm(nn.GroupNorm):
    """GroupNorm over the real cells of each image; zeros in the padding."""

    def forward(self, x: Map) -> Map:
        mask = mask_of(x)
        return super().forward(x) if mask is None else _normalised(self, x, mask, self.num_groups)[0]


def _normalised(norm: nn.Module, x: Map, mask: Tensor, groups: int | None) -> tuple[Map, Tensor, Tensor, Tensor]:
    """Apply `_Norm` in the precision of the norm's weights; the map comes back in its own precision."""
    with full_precision(x.device):
        wide, mask = x.to(norm.weight.dtype), mask.to(norm.weight.dtype)
        y, *statistics = _Norm.apply(wide, mask, norm.weight, norm.bias, groups, norm.eps)
    return y.to(x.dtype), *statistics


class _Norm(Function):
    """PyTorch's own norm of maps with zeros in the padding, corrected afterwards.

    Zeros do not change sums, but they count as cells. Let r = all cells / real cells, and let m and v be the mean and
    variance over all cells. Those over the real cells are r m and r (v + m^2) - (r m)^2. The part of the gradient that
    goes through mean and variance is r times as large; the direct part is the same.

    groups: number of groups of channels, normalised separately in each image; None for a batch norm

    Returns the map; the mean and the variance, both (images, groups), or (1, channels) for a batch norm; and the number
    of real cells, (images, 1) or (1, 1).
    """

    @staticmethod
    def forward(ctx, x: Map, mask: Tensor, weight: Tensor, bias: Tensor, groups: int | None, eps: float) -> tuple:
        batch, channels, height, width = x.shape
        x = x * mask
        if groups is None:
            normed, mean, rstd = torch.native_batch_norm(x, None, None, None, None, True, 0.0, eps)
            mean, rstd, cells, per_image = mean[None], rstd[None], mask.sum().view(1, 1), batch
        else:
            ctx.sizes = batch, channels, height * width, groups
            normed, mean, rstd = torch.native_group_norm(x, None, None, *ctx.sizes, eps)
            cells, per_image = mask.sum(dim=(2, 3)), 1
        ratio = per_image * height * width / cells
        real_mean = mean * ratio
        variance = (ratio * (rstd.pow(-2) - eps + mean.square()) - real_mean.square()).clamp(min=0)
        real_rstd = (variance + eps).rsqrt()
        factor = _per_channel(real_rstd / rstd, channels) * weight[:, None, None]
        offset = _per_channel((mean - real_mean) * real_rstd, channels) * weight[:, None, None] + bias[:, None, None]
        ctx.groups, ctx.eps = groups, eps
        ctx.save_for_backward(x, mask, weight, ratio, real_mean, real_rstd)
        ctx.mark_non_differentiable(real_mean, variance, cells)
        return normed.mul_(factor).add_(offset).mul_(mask), real_mean, variance, cells

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Map, *_) -> tuple[Tensor | None, ...]:
        x, mask, weight, ratio, mean, rstd = ctx.saved_tensors
        gradient, wanted = gradient * mask, (True, True, True)
        if ctx.groups is None:
            of_all, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, x, weight, None, None, mean[0], rstd[0], True, ctx.eps, wanted
            )
        else:
            of_all, of_weight, of_bias = torch.ops.aten.native_group_norm_backward(
                gradient, x, mean, rstd, weight, *ctx.sizes, wanted
            )
        direct = _per_channel(rstd * (1 - ratio), x.shape[1]) * weight[:, None, None]
        of_x = of_all.mul_(mask * ratio[..., None, None]).addcmul_(gradient, direct)
        return of_x, None, of_weight, of_bias, None, None


def _per_channel(values: Float[Tensor, "b groups"], channels: int) -> Float[Tensor, "b c 1 1"]:
    """Repeat the value of each group for all of its channels."""
    return values.repeat_interleave(channels // values.shape[1], dim=1)[..., None, None]
