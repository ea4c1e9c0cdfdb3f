"""How far a batch pads an image has no say in what the image gets."""

from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from otalab.assign import ASSIGNERS
from otalab.detect import build_detector
from otalab.detect.norms import RealBatchNorm2d, RealGroupNorm
from otalab.detect.padding import LeanReLU6, RealCells, real_cells
from otalab.detect.style import STYLES

from .models import eager_detector, noise, target

SIZES = [(33, 41), (64, 96), (100, 30), (96, 64), (1, 70), (64, 64), (65, 129), (31, 31)]


def precise(backbone: str = "tiny", **options) -> nn.Module:
    """An eager detector in float64, in which rounding hides nothing, with batch norms that have seen something."""
    model = eager_detector(backbone, **options)
    with torch.no_grad():
        for layer in model.modules():
            if hasattr(layer, "running_mean"):
                layer.running_mean.normal_(std=0.3)
                layer.running_var.uniform_(0.5, 2)
    return model.double()


def doubles(*sizes, seed: int = 0) -> list[torch.Tensor]:
    return [image.double() for image in noise(*sizes, seed=seed)]


@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2", "resnet18"])
def test_an_image_gets_the_same_detections_alone_and_in_any_company(backbone):
    model = precise(backbone)
    images = doubles(*(SIZES if backbone == "tiny" else SIZES[:4]))
    with torch.inference_mode():
        alone = [model([image])[0] for image in images]
        together = model([*images, *doubles((128, 160), seed=1)])[:-1]
        pairs = [found for i in range(0, len(images), 2) for found in model(images[i : i + 2])]
    assert sum(len(found["boxes"]) for found in alone) > 100
    for one, other, third in zip(alone, together, pairs, strict=True):
        for found in (other, third):
            assert_close(found["scores"], one["scores"], rtol=0, atol=1e-8)
            assert_close(found["boxes"], one["boxes"], rtol=0, atol=1e-6)
            assert torch.equal(found["labels"], one["labels"])


def test_in_training_an_image_is_seen_as_in_evaluation_however_it_is_padded():
    torch.manual_seed(0)
    model = build_detector("mobilenet_v2", 3, weights_backbone="DEFAULT", load_weights=False).double()  # frozen norms
    (image,), (large,) = doubles((50, 70)), doubles((128, 160), seed=1)
    with torch.no_grad():
        points, (alone,) = model.eval().predict([image])
        more, (padded, _) = model.train().predict([image, large])
    where = {(*xy, level): i for i, (xy, level) in enumerate(zip(more.xy.tolist(), more.level.tolist(), strict=True))}
    inside = ((points.xy - points.stride[:, None] / 2) < torch.tensor([70, 50])).all(1).nonzero().flatten().tolist()
    same = [where[(*points.xy[i].tolist(), int(points.level[i]))] for i in inside]
    assert len(inside) > 70
    assert_close(padded.boxes[same], alone.boxes[inside], rtol=0, atol=1e-8)
    assert_close(padded.logits[same], alone.logits[inside], rtol=0, atol=1e-8)


HEADS = [("points", name) for name in ASSIGNERS] + [("guided", "max-iou"), ("meta", "max-iou")]


@pytest.mark.parametrize(("anchors", "name"), HEADS)
@pytest.mark.parametrize("end", [50.0, 58.0], ids=["gt inside", "gt beyond its image"])
def test_an_image_has_the_losses_that_it_has_alone(anchors, name, end):
    assert_losses_as_alone(name, (28.0, end), 50, anchors=anchors)


@pytest.mark.parametrize("style", STYLES)
def test_a_gt_between_points_gets_none_in_the_padding(style):
    assert_losses_as_alone("ota", (61.0, 64.0), 64, style=style)


def assert_losses_as_alone(name: str, sides: tuple[float, float], size: int, **options) -> None:
    """Beside a larger image, whose padding would suit its gt. No loss is divided, so that those of images add up."""
    torch.manual_seed(0)
    model = build_detector("mobilenet_v2", 3, name, "DEFAULT", load_weights=False, **options).double().train()
    start, end = sides
    gt = {"boxes": torch.tensor([[start, start, end, end]]).double(), "labels": torch.tensor([1])}
    none = {"boxes": torch.zeros(0, 4).double(), "labels": torch.zeros(0, dtype=torch.int64)}
    (image,), (large,) = doubles((size, size)), doubles((128, 160), seed=1)
    with (
        torch.no_grad(),
        patch("otalab.detect.losses.at_least_one", torch.ones_like),
        patch("otalab.detect.detector.at_least_one", torch.ones_like),
    ):
        batches = ([image], [gt]), ([large], [none]), ([image, large], [gt, none])
        alone, empty, both = (torch.manual_seed(0) and model(*batch) for batch in batches)  # meta draws its anchors
    assert set(both) == set(alone) == set(empty)
    for loss in both:
        assert_close(both[loss], alone[loss] + empty[loss], rtol=1e-9, atol=1e-9)


def padded_batch() -> tuple[RealCells, torch.Tensor]:
    """Maps of stride 8 of two images of 40 x 64 and 64 x 24 px, with rubbish in the padding."""
    real = RealCells([(40, 64), (64, 24)], (64, 64), torch.device("cpu"))
    return real, torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3


def test_cells_are_real_where_they_begin_inside_the_image():
    real = RealCells([(33, 41), (64, 64)], (64, 64), torch.device("cpu"))
    mask = real.mask((8, 8), torch.float64)
    assert mask.shape == (2, 1, 8, 8) and mask[1].all()
    assert mask[0, 0].sum(0).tolist() == [5] * 6 + [0] * 2  # 33 px begin 5 cells, 41 px begin 6
    assert real.mask((64, 64), torch.float64) is None  # an image is padded with zeros already
    assert RealCells([(64, 64)] * 2, (64, 64), torch.device("cpu")).mask((8, 8), torch.float64) is None


def real_parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The images of `padded_batch`'s maps, cut out."""
    return x[:1, :, :5], x[1:, :, :, :3]


def group_norm() -> RealGroupNorm:
    torch.manual_seed(0)
    norm = RealGroupNorm(4, 8)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    return norm


def test_a_group_norm_is_that_of_each_image_cut_out_and_leaves_zeros_in_the_padding():
    real, x = padded_batch()
    norm = group_norm().double()
    with real_cells(real):
        y = norm(x)
    for found, part in zip(real_parts(y), real_parts(x), strict=True):
        assert_close(found, norm(part))
    assert y[0, :, 5:].eq(0).all() and y[1, :, :, 3:].eq(0).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_group_norm_in_float32_stands_a_picture_that_is_nearly_all_padding(scale):
    x = scale * (1 + torch.randn(2, 8, 32, 40, generator=torch.Generator().manual_seed(0)))
    norm = group_norm()
    with real_cells(RealCells([(8, 72), (256, 320)], (256, 320), torch.device("cpu"))):
        y = norm(x)
    assert_close(y[:1, :, :1, :9], norm(x[:1, :, :1, :9]), rtol=0, atol=1e-4)


def test_a_group_norm_under_autocast_sums_in_float32():
    real, x = padded_batch()
    norm, x = group_norm(), x.bfloat16()
    with torch.autocast("cpu"), real_cells(real):
        y = norm(x)
    assert y.dtype == x.dtype
    with real_cells(real):
        assert torch.equal(y, norm(x.float()).bfloat16())


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_norm_is_that_of_all_real_cells_and_leaves_zeros_in_the_padding(training):
    real, x = padded_batch()
    norm, plain = RealBatchNorm2d(8).double().train(training), nn.BatchNorm2d(8).double().train(training)
    with real_cells(real):
        y = norm(x)
    wanted = plain(torch.cat([part.flatten(2) for part in real_parts(x)], dim=2)[..., None])[0, :, :, 0]
    assert_close(torch.cat([part[0].flatten(1) for part in real_parts(y)], dim=1), wanted)
    assert_close(dict(norm.named_buffers()), dict(plain.named_buffers()))
    assert y[0, :, 5:].eq(0).all() and y[1, :, :, 3:].eq(0).all()


def test_gradients_of_the_norms_are_right():
    real, x = padded_batch()
    x.requires_grad_()
    for norm in (group_norm().double(), RealBatchNorm2d(8).double()):

        def layer(x, weight, bias, norm=norm):
            return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

        with real_cells(real):
            assert torch.autograd.gradcheck(layer, (x, norm.weight, norm.bias), fast_mode=True)


def test_a_relu6_leaves_zeros_in_the_padding_and_passes_gradients_as_a_product_with_the_mask_would():
    generator = torch.Generator().manual_seed(0)
    x, direction = (4 * torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64) + 2 for _ in range(2))
    real = RealCells([(5, 4), (3, 6)], (5, 6), torch.device("cpu"))
    mask = torch.zeros(2, 1, 5, 6, dtype=torch.float64)
    mask[0, :, :, :4], mask[1, :, :3] = 1, 1
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    relu6 = LeanReLU6(inplace=True)
    relu6.cuts = True
    with patch.object(RealCells, "mask", lambda *_: mask), real_cells(real):
        found = relu6(ours * 1.0)
    expected = nn.functional.relu6(theirs) * mask
    assert_close(found, expected, rtol=0, atol=0)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    assert_close(ours.grad, theirs.grad, rtol=0, atol=0)
    assert ours.grad.any() and not ours.grad[mask.expand_as(x) == 0].any()


def test_a_relu6_before_a_layer_that_looks_around_takes_the_place_of_a_cut_in_that_layer():
    body = build_detector("mobilenet_v2", 3).backbone.body
    cutting = [layer for layer in body.modules() if isinstance(layer, LeanReLU6) and layer.cuts]
    hooked = [layer for layer in body.modules() if layer._forward_pre_hooks]
    assert len(cutting) == 17 and len(hooked) == 1  # one for each depthwise convolution; the first sees the image


def test_a_single_value_is_normalised_by_the_running_statistics():
    norm = RealBatchNorm2d(3)
    before = {name: value.clone() for name, value in norm.named_buffers()}
    one = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    assert_close(norm(one), one, rtol=1e-4, atol=0)
    assert_close(dict(norm.named_buffers()), before)


def test_the_norm_has_the_weights_of_torchs_own():
    assert RealBatchNorm2d(4).state_dict().keys() == nn.BatchNorm2d(4).state_dict().keys()


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (1, 200)])
@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2", "resnet18"])
def test_one_image_of_any_size_trains(backbone, size):
    torch.manual_seed(0)
    model = build_detector(backbone, 2).train()
    high, wide = size
    losses = model(noise(size), [target((0, 0, wide, high))])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all(value.isfinite().all() for value in model.state_dict().values())
