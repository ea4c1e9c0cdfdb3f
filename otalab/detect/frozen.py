"""Frozen batch norms at no cost: the convolution before a norm applies it.

A frozen norm computes x * scale + shift in each channel. A convolution with weight * scale, and with shift as its bias,
therefore computes what both layers do, and saves the norm's passes over the map. The trainable weight remains that of
the convolution: the chain rule multiplies its gradient by the scale, as the norm would.
"""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d


class AppliedNorm(FrozenBatchNorm2d):
    """A frozen norm that the convolution before it applies: it holds the buffers and returns maps unchanged."""

    def __init__(self, norm: FrozenBatchNorm2d) -> None:
        super().__init__(len(norm.weight), norm.eps)
        self.load_state_dict(norm.state_dict())

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x


class FoldedConv2d(nn.Conv2d):
    """A convolution without bias that also applies the frozen norm after it; `weight` is the original parameter."""

    def __init__(self, conv: nn.Conv2d, norm: AppliedNorm) -> None:
        sizes = conv.in_channels, conv.out_channels, conv.kernel_size
        steps = conv.stride, conv.padding, conv.dilation, conv.groups
        # on "meta" the weight to be replaced takes no memory and draws no random numbers
        super().__init__(*sizes, *steps, bias=False, padding_mode=conv.padding_mode, device="meta")
        self.weight = conv.weight
        self._norm = (norm,)  # in a tuple: as a submodule it would be in the state dict twice

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        (norm,) = self._norm  # its buffers are small, and loading, moving or copying may have changed them
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return self._conv_forward(x, self.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale)


def fold_frozen_norms(module: nn.Module) -> None:
    """Let each convolution apply the FrozenBatchNorm2d that follows it; names and values of the state dict stay.

    Every submodule must call its children in the order in which they are registered, as in torchvision's backbones. A
    frozen norm that does not follow a convolution without bias stays as it is.
    """
    for parent in list(module.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and conv.bias is None and isinstance(norm, FrozenBatchNorm2d):
                applied = AppliedNorm(norm)
                setattr(parent, conv_name, FoldedConv2d(conv, applied))
                setattr(parent, norm_name, applied)
