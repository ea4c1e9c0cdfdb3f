"""Backbones with a feature pyramid: `tiny` for lessons on a CPU, and torchvision's for real photos."""

import pickle
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from otalab.checks import require_known
from otalab.detect.config import BACKBONES
from otalab.detect.frozen import fold_frozen_norms
from otalab.detect.layout import layout_of
from otalab.detect.norms import RealBatchNorm2d
from otalab.detect.padding import LeanReLU6, blind_to_padding
from otalab.errors import InputError


class TinyBackbone(nn.Module):
    """A small ResNet of basic blocks, trained from scratch: feature maps at strides 4, 8, 16 and 32.

    It is small enough to learn 128 px scenes within minutes on two cores. The finest map serves objects of 10 to 16 px,
    which would hold only one or two anchor points a side at stride 8.
    """

    channels = (48, 96, 128, 160)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm(3, 24, stride=2), nn.ReLU(inplace=True), conv_norm(24, 48, stride=2), nn.ReLU(inplace=True)
        )
        self.stage4 = BasicBlock(48, 48)
        self.stage8 = nn.Sequential(BasicBlock(48, 96, stride=2), BasicBlock(96, 96))
        self.stage16 = nn.Sequential(BasicBlock(96, 128, stride=2), BasicBlock(128, 128))
        self.stage32 = nn.Sequential(BasicBlock(128, 160, stride=2), BasicBlock(160, 160))

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        c2 = self.stage4(self.stem(x))
        c3 = self.stage8(c2)
        c4 = self.stage16(c3)
        return OrderedDict(c2=c2, c3=c3, c4=c4, c5=self.stage32(c4))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. Source: He et al., CVPR 2016."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, stride)
        self.second = conv_norm(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, stride, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def conv_norm(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """A convolution without bias, followed by a batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, RealBatchNorm2d(outputs))


RESNET_LAYERS = {"layer2": "c3", "layer3": "c4", "layer4": "c5"}
RESNET_FROZEN = ("conv1", "bn1", "layer1")
# torchvision name -> (layers with outputs of strides 8, 16 and 32; their channels; layers frozen if pretrained)
TORCHVISION = {
    "mobilenet_v2": ({"6": "c3", "13": "c4", "18": "c5"}, (32, 96, 1280), ("0", "1")),
    "resnet18": (RESNET_LAYERS, (128, 256, 512), RESNET_FROZEN),
    "resnet50": (RESNET_LAYERS, (512, 1024, 2048), RESNET_FROZEN),
    "resnet101": (RESNET_LAYERS, (512, 1024, 2048), RESNET_FROZEN),
    "resnext101_64x4d": (RESNET_LAYERS, (512, 1024, 2048), RESNET_FROZEN),
}


def build_body(name: str, weights: str | None = None, load: bool = True) -> tuple[nn.Module, Sequence[int]]:
    """Build a backbone that maps images to {c3, c4, c5} (`tiny`: also c2); returns it and the channels of its maps.

    `weights` is the name of a torchvision weights entry ("DEFAULT", "IMAGENET1K_V1"). If it is given, all batch norms
    and the first layers (listed in TORCHVISION) are frozen. `load=False` builds the same modules without fetching the
    weights, for a checkpoint to fill. Raises InputError for an unknown backbone, for weights that the backbone does not
    have, and if the weights cannot be loaded.
    """
    if name == "tiny":
        if weights is not None:
            raise InputError(f"backbone 'tiny' has no pretrained weights, so {weights!r} cannot be loaded")
        return TinyBackbone(), TinyBackbone.channels
    require_known(BACKBONES, backbone=name)
    layers, channels, frozen = TORCHVISION[name]
    known = get_model_weights(name).__members__
    if weights is not None and weights not in known:
        raise InputError(f"weights {weights!r} of {name} are none of {', '.join(known)}")
    norm = FrozenBatchNorm2d if weights is not None else RealBatchNorm2d
    try:
        model = get_model(name, weights=weights if load else None, norm_layer=norm)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        # torchvision downloads what its cache lacks: no network, a full disk or a damaged cache makes that fail
        raise InputError(
            f"cannot load weights {weights!r} of {name}: {error}; they are cached in TORCH_HOME"
        ) from error
    body = IntermediateLayerGetter(model.features if hasattr(model, "features") else model, layers)
    if weights is not None:
        for layer in frozen:
            body[layer].requires_grad_(False)
        fold_frozen_norms(body)
    for parent in list(body.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(parent, name, LeanReLU6(inplace=True))
    return body, channels


class PyramidBackbone(nn.Module):
    """A backbone and its FPN, from images (B, 3, H, W) to a list of maps (B, channels, H/s, W/s), finest first.

    H/s and W/s are rounded up. `tiny` has levels of strides 4 to 32. The other backbones have levels of strides 8 to
    128, the last two of which are computed from the level of stride 32.

    early_stride: whether a ResNet's bottlenecks have their stride in the first convolution instead of the second
    """

    def __init__(
        self, name: str, weights: str | None, channels: int, load: bool = True, early_stride: bool = False
    ) -> None:
        super().__init__()
        self.body, inputs = build_body(name, weights, load)
        if early_stride:
            for block in self.body.modules():
                if isinstance(block, Bottleneck):
                    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
        self.strides = (4, 8, 16, 32) if name == "tiny" else (8, 16, 32, 64, 128)
        extra = None if name == "tiny" else LastLevelP6P7(channels, channels)
        self.fpn = FeaturePyramidNetwork(list(inputs), channels, extra)
        blind_to_padding(self.fpn)
        if name != "tiny":  # pooling and frozen norms make padding nonzero; tiny's norms keep it at 0
            blind_to_padding(self.body)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x.contiguous(memory_format=layout_of(self.fpn.layer_blocks[0][0].weight))
        return list(self.fpn(self.body(x)).values())
