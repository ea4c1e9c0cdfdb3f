"""Folding a frozen norm into its convolution, and a leaner ReLU6, change the time of a step and nothing else."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.ops import FrozenBatchNorm2d

from otalab.detect import build_detector
from otalab.detect.backbone import TORCHVISION
from otalab.detect.frozen import AppliedNorm, FoldedConv2d, fold_frozen_norms
from otalab.detect.optim import update_ema
from otalab.detect.padding import LeanReLU6, blind_to_padding

from .models import noise, target


def shuffle_norms(model: nn.Module, seed: int = 3) -> None:
    """Give the frozen norms statistics with a say, in place."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, FrozenBatchNorm2d):
            for buffer, low in ((layer.weight, 0.5), (layer.bias, -0.5), (layer.running_mean, -0.5)):
                buffer.copy_(low + torch.rand(buffer.shape, generator=generator))
            layer.running_var.copy_(0.5 + torch.rand(layer.running_var.shape, generator=generator))


def pair(backbone: str, monkeypatch) -> tuple[nn.Module, nn.Module]:
    """Two detectors of equal weights in float64: norms folded, and norms as layers."""
    made = []
    for fold in (fold_frozen_norms, lambda body: None):
        monkeypatch.setattr("otalab.detect.backbone.fold_frozen_norms", fold)
        torch.manual_seed(0)
        made.append(build_detector(backbone, 3, "fcos", weights_backbone="DEFAULT", load_weights=False).double())
        shuffle_norms(made[-1])
    return made[0], made[1]


def train(model: nn.Module, steps: int) -> None:
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9, weight_decay=0.01
    )
    images = [image.double() for image in noise((64, 64), (50, 40))]  # one of them padded
    for _ in range(steps):
        optimizer.zero_grad()
        sum(model(images, [target((4, 4, 30, 40)), target((10, 20, 38, 45))]).values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@pytest.mark.parametrize(("backbone", "steps"), [("mobilenet_v2", 4), ("resnet18", 2), ("resnet50", 1)])
def test_training_gives_the_weights_and_answers_of_norms_that_are_layers(backbone, steps, monkeypatch):
    folded, plain = pair(backbone, monkeypatch)
    start = {name: value.clone() for name, value in plain.state_dict().items()}
    for model in (folded, plain):
        train(model.train(), steps)
    assert list(folded.state_dict()) == list(start)
    moved = [name for name, value in plain.state_dict().items() if not torch.equal(value, start[name])]
    assert any(name.startswith("backbone.body") for name in moved)
    assert_close(folded.state_dict(), plain.state_dict(), rtol=0, atol=1e-8)
    (image,) = noise((64, 64), seed=1)
    with torch.inference_mode():
        maps = [model.eval().backbone(image.double()[None]) for model in (folded, plain)]
    assert_close(*maps, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("backbone", TORCHVISION)
def test_no_frozen_norm_of_a_backbone_is_left_as_a_layer(backbone):
    body = build_detector(backbone, 3, weights_backbone="DEFAULT", load_weights=False).backbone.body
    convs = [layer for layer in body.modules() if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in body.modules() if isinstance(layer, FrozenBatchNorm2d)]
    assert len(convs) == len(norms) > 10
    assert all(type(conv) is FoldedConv2d for conv in convs) and all(type(norm) is AppliedNorm for norm in norms)


def conv_and_norm(fold: bool = True, **options) -> nn.Sequential:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 6, 3, bias=False, **{"padding": 1} | options)
    layers = nn.Sequential(conv, FrozenBatchNorm2d(6), nn.ReLU(inplace=True))
    if fold:
        fold_frozen_norms(layers)
    shuffle_norms(layers)
    return layers


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"groups": 3}, {"dilation": 2, "padding": 2}, {"padding_mode": "reflect"}, {"padding": 0}],
)
def test_a_convolution_keeps_its_shape(options):
    x = torch.randn(2, 3, 7, 9)
    assert_close(conv_and_norm(**options)(x), conv_and_norm(fold=False, **options)(x))


def test_buffers_that_are_loaded_or_written_later_count():
    x, layers, plain = torch.randn(2, 3, 6, 6), conv_and_norm(), conv_and_norm(fold=False)
    before = layers(x)
    shuffle_norms(plain, seed=4)
    layers.load_state_dict(plain.state_dict())
    assert_close(layers(x), plain(x))
    assert not torch.allclose(layers(x), before)
    shuffle_norms(layers, seed=5)
    shuffle_norms(plain, seed=5)
    assert_close(layers(x), plain(x))
    state = {name: value + 1 for name, value in plain.state_dict().items()}
    layers.load_state_dict(state, assign=True)
    plain.load_state_dict(state)
    assert_close(layers(x), plain(x))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_has_norms_of_its_own(copied):
    x, layers = torch.randn(2, 3, 6, 6), conv_and_norm()
    other, before = copied(layers), layers(x)
    assert torch.equal(other(x), before)
    shuffle_norms(other, seed=9)
    assert torch.equal(layers(x), before) and not torch.allclose(other(x), before)


def test_a_moving_average_follows():
    model, x = conv_and_norm(), torch.randn(2, 3, 6, 6)
    average = copy.deepcopy(model).requires_grad_(False)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    for step in range(200):
        update_ema(average, model, 0.5, step)
    assert_close(average(x), model(x))


def test_a_model_is_moved_and_cast_as_a_whole():
    layers, x = conv_and_norm(), torch.randn(2, 3, 6, 6)
    assert_close(copy.deepcopy(layers).double()(x.double()), layers(x).double(), rtol=1e-5, atol=1e-5)
    assert layers.to("meta")(x.to("meta")).is_meta


def test_autocast_computes_in_half_precision_and_learns_in_full():
    layers, plain, x = conv_and_norm(), conv_and_norm(fold=False), torch.randn(2, 3, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = layers(x)
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), plain(x), rtol=0.03, atol=0.03)
    y.float().sum().backward()
    plain(x).sum().backward()
    assert layers[0].weight.grad.dtype == torch.float32
    assert_close(layers[0].weight.grad, plain[0].weight.grad, rtol=0.05, atol=0.5)


def test_the_weight_stays_the_same_parameter_and_building_draws_no_random_numbers():
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False)
    layers = nn.Sequential(conv, FrozenBatchNorm2d(5))
    state = torch.get_rng_state()
    fold_frozen_norms(layers)
    assert layers[0].weight is conv.weight and list(layers[0].parameters()) == [conv.weight]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_norm_after_something_else_stays_a_layer():
    layers = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), FrozenBatchNorm2d(3), nn.Conv2d(3, 3, 1))
    layers.append(FrozenBatchNorm2d(3))  # after a convolution with a bias
    before = list(layers)
    fold_frozen_norms(layers)
    assert list(layers) == before


def test_a_hook_that_hides_the_padding_still_runs():
    layers, seen = conv_and_norm(), []
    blind_to_padding(layers)
    assert len(layers[0]._forward_pre_hooks) == 1
    layers[0].register_forward_pre_hook(lambda layer, inputs: seen.append(layer))
    layers(torch.randn(1, 3, 6, 6))
    assert seen == [layers[0]]


AROUND_0_AND_6 = [
    -0.5,
    -0.0,
    0.0,
    1e-38,
    3.0,
    5.9999995,
    6.0,
    6.0000005,
    7.0,
    float("inf"),
    float("-inf"),
    float("nan"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_leaner_relu6_gives_the_values_and_gradients_of_pytorchs(dtype):
    results = []
    for layer in (LeanReLU6(inplace=True), nn.ReLU6()):
        x = torch.tensor(AROUND_0_AND_6, dtype=dtype, requires_grad=True)
        y = layer(x[None, :, None, None] * 1).flatten()
        (y * torch.arange(1, 13, dtype=dtype)).nansum().backward()
        results.append((y.detach(), x.grad))
    assert_close(*results, rtol=0, atol=0, equal_nan=True)


def test_the_leaner_relu6_is_differentiable_twice_as_pytorchs_is():
    x = 10 * torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 2
    found = []
    for layer in (LeanReLU6(inplace=True), nn.ReLU6()):
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(layer(leaf * leaf).pow(3).sum(), leaf, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), leaf)[0])
    assert_close(*found, rtol=1e-12, atol=0)
    assert found[0].count_nonzero() > 10


def test_the_leaner_relu6_keeps_one_map_for_the_gradient():
    def kept(layer: nn.Module) -> int:
        places = set()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: places.add(t.data_ptr()) or t, lambda t: t):
            wide = nn.functional.conv2d(torch.ones(1, 2, 4, 4), torch.ones(2, 2, 1, 1, requires_grad=True))
            nn.functional.conv2d(layer(wide), torch.ones(2, 2, 1, 1, requires_grad=True)).sum()
        return len(places)

    assert kept(nn.ReLU6(inplace=True)) == kept(LeanReLU6(inplace=True)) + 1


def test_every_relu6_of_a_backbone_is_the_leaner_one():
    body = build_detector("mobilenet_v2", 3, weights_backbone="DEFAULT", load_weights=False).backbone.body
    layers = [layer for layer in body.modules() if isinstance(layer, nn.ReLU6)]
    assert len(layers) == 35 and all(type(layer) is LeanReLU6 for layer in layers)
