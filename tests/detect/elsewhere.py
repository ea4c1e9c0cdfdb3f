"""Detectors that are not ours, of random weights: torchvision's own, and the OTA authors', told again."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.models.detection import fcos_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

from otalab.detect.foreign import COCO_IDS

SIZE = (64, 120)  # px: shorter and longer side, in place of 800 and 1333


def fill(model: nn.Module, final: list[nn.Conv2d], seed: int = 0) -> nn.Module:
    """Random weights and statistics, and last layers (classes first, sides second) that find something everywhere."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.ndim < 2 and value.is_floating_point():
                value.add_(torch.randn(value.shape, generator=generator), alpha=0.05)
        for layer in final:
            layer.weight.normal_(std=0.02, generator=generator)
        final[0].bias.fill_(-2.0)
        final[1].bias.fill_(1.0)
    return model.eval()


def torchvisions() -> nn.Module:
    """torchvision's detector, which never finds what is no class."""
    torch.manual_seed(0)
    model = fcos_resnet50_fpn(weights=None, weights_backbone=None, min_size=SIZE[0], max_size=SIZE[1])
    classes, boxes = model.head.classification_head, model.head.regression_head
    fill(model, [classes.cls_logits, boxes.bbox_reg, boxes.bbox_ctrness])
    nothing = torch.ones(91, dtype=torch.bool).index_fill(0, torch.tensor(COCO_IDS), False)
    classes.cls_logits.bias.data[nothing] = -30
    return model


def the_authors() -> "Authors":
    """The authors' detector."""
    torch.manual_seed(2)
    model = Authors()
    fill(model, [model.cls_score, model.bbox_pred, model.ious_pred])
    model.body.conv1.weight.data /= 60  # for pixels in 0..255
    return model


class Authors(nn.Module):
    """The authors' detector, told again: BGR pixels less their mean, strides in 1x1 convolutions, FPN, head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
        for layer in (self.body.layer2, self.body.layer3, self.body.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
        self.lateral = nn.ModuleList(nn.Conv2d(c, 256, 1) for c in (512, 1024, 2048))
        self.output = nn.ModuleList(nn.Conv2d(256, 256, 3, padding=1) for _ in range(3))
        self.p6, self.p7 = (nn.Conv2d(256, 256, 3, stride=2, padding=1) for _ in range(2))
        self.cls_subnet, self.bbox_subnet = self.subnet(), self.subnet()
        self.cls_score, self.bbox_pred, self.ious_pred = (nn.Conv2d(256, n, 3, padding=1) for n in (80, 4, 1))
        self.scales = nn.Parameter(torch.tensor([0.8, 0.9, 1.0, 1.1, 1.2]))

    def subnet(self) -> nn.Sequential:
        return nn.Sequential(
            *(m for _ in range(4) for m in (nn.Conv2d(256, 256, 3, padding=1), nn.GroupNorm(32, 256), nn.ReLU()))
        )

    def state(self) -> dict[str, Tensor]:
        """Under the names that cvpods gives them."""
        state = {}
        for name, value in self.body.state_dict().items():
            if name.startswith("fc."):
                continue
            where, _, rest = name.partition(".")
            if where in ("conv1", "bn1"):
                state[f"backbone.bottom_up.stem.conv1.{'norm.' * (where == 'bn1')}{rest}"] = value
                continue
            block, kind, rest = rest.split(".", 2)
            if kind == "downsample":
                kind, rest = "shortcut", {"0": "", "1": "norm."}[rest[0]] + rest[2:]
            elif kind.startswith("bn"):
                kind, rest = f"conv{kind[2]}", f"norm.{rest}"
            state[f"backbone.bottom_up.res{int(where[5]) + 1}.{block}.{kind}.{rest}"] = value
        parts = {f"backbone.fpn_lateral{i + 3}": m for i, m in enumerate(self.lateral)}
        parts |= {f"backbone.fpn_output{i + 3}": m for i, m in enumerate(self.output)}
        parts |= {"backbone.top_block.p6": self.p6, "backbone.top_block.p7": self.p7}
        names = ("cls_subnet", "bbox_subnet", "cls_score", "bbox_pred", "ious_pred")
        parts |= {f"head.{name}": getattr(self, name) for name in names}
        state |= {f"{where}.{name}": v for where, m in parts.items() for name, v in m.state_dict().items()}
        return state | {f"head.scales.{i}.scale": s[None] for i, s in enumerate(self.scales.detach())}

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, boxes and quality logits of an image (3, H, W) in 0..1, RGB."""
        pixels = 255 * image.flip(0) - torch.tensor([103.530, 116.280, 123.675])[:, None, None]
        x = F.pad(pixels, (0, -image.shape[2] % 32, 0, -image.shape[1] % 32))[None]
        b = self.body
        c2 = b.layer1(b.maxpool(b.relu(b.bn1(b.conv1(x)))))
        c3 = b.layer2(c2)
        c4 = b.layer3(c3)
        m5 = self.lateral[2](b.layer4(c4))
        m4 = self.lateral[1](c4) + F.interpolate(m5, scale_factor=2)
        m3 = self.lateral[0](c3) + F.interpolate(m4, scale_factor=2)
        levels = [out(m) for out, m in zip(self.output, (m3, m4, m5), strict=True)]
        p6 = self.p6(levels[2])
        levels += [p6, self.p7(p6.relu())]
        rows = []
        for i, level in enumerate(levels):
            stride, (height, width) = 8 * 2**i, level.shape[2:]
            seen, box_seen = self.cls_subnet(level), self.bbox_subnet(level)
            sides = F.relu(self.scales[i] * self.bbox_pred(box_seen)) * stride
            y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
            left, top, right, bottom = sides[0]
            boxes = torch.stack((x - left, y - top, x + right, y + bottom))
            rows.append([part.flatten(1).T for part in (self.cls_score(seen)[0], boxes, self.ious_pred(box_seen)[0])])
        logits, boxes, quality = (torch.cat(part) for part in zip(*rows, strict=True))
        return logits, boxes, quality[:, 0]
