from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision.models import get_model, get_model_weights
from torchvision.ops import FrozenBatchNorm2d

from otalab.detect import build_detector
from otalab.detect.backbone import TORCHVISION, PyramidBackbone
from otalab.detect.config import BACKBONES
from otalab.errors import InputError

from .models import gradients, noise, target

KINDS = ("tiny", "mobilenet_v2", "resnet18", "resnet50")  # of blocks; deeper ResNets have more of resnet50's
STRIDES = {"tiny": (4, 8, 16, 32)} | dict.fromkeys(TORCHVISION, (8, 16, 32, 64, 128))
REAL_CACHE = Path(__file__).parents[3] / "shared" / "torch_home"
REAL = "mobilenet_v2", "IMAGENET1K_V1"


@pytest.fixture
def torch_home(tmp_path, monkeypatch) -> Path:
    """An empty cache of weights, and no way to the network."""

    def no_network(*args, **kwargs):
        raise URLError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    return tmp_path


def cached_file(home: Path, name: str, weights: str) -> Path:
    path = home / "hub" / "checkpoints" / get_model_weights(name)[weights].url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def fill_cache(home: Path, name: str, weights: str = "DEFAULT") -> dict[str, torch.Tensor]:
    """Put random weights where torchvision looks for pretrained ones."""
    torch.manual_seed(7)
    state = get_model(name, weights=None).state_dict()
    torch.save(state, cached_file(home, name, weights))
    return state


@pytest.mark.parametrize("name", BACKBONES)
def test_a_map_has_a_cell_for_each_stride_px(name):
    backbone = PyramidBackbone(name, None, 16).eval()
    if name in TORCHVISION:
        layers, _, frozen = TORCHVISION[name]
        assert {*layers, *frozen} <= dict(backbone.body.named_children()).keys()
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 96, 160))
    assert backbone.strides == STRIDES[name]
    assert [tuple(m.shape) for m in maps] == [(1, 16, -(-96 // s), -(-160 // s)) for s in STRIDES[name]]


@pytest.mark.parametrize("name", KINDS)
def test_every_parameter_learns_from_one_training_step(name):
    torch.manual_seed(0)
    model = build_detector(name, num_classes=2).train()
    targets = [target((4, 4, 30, 40)), target((10, 20, 60, 60), (0, 0, 64, 64))]
    losses = model(noise((64, 64), (64, 64)), targets)
    sum(losses.values()).backward()
    for parameter, gradient in gradients(model).items():
        assert gradient is not None, parameter
        assert gradient.isfinite().all(), parameter
    learning = [n for n, g in gradients(model).items() if g.any()]
    assert any(n.startswith("backbone.body") for n in learning)
    assert {n for n in gradients(model) if n.startswith("head.logits")} <= set(learning)


@pytest.mark.parametrize("name", KINDS[1:])
def test_weights_from_the_cache_arrive_and_their_first_layers_and_norms_are_frozen(name, torch_home):
    cached = fill_cache(torch_home, name)
    model = build_detector(name, 2, weights_backbone="DEFAULT").train()
    own = model.backbone.body.state_dict()
    assert all(torch.equal(value, cached["features." * (name == "mobilenet_v2") + key]) for key, value in own.items())
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules())

    before = {k: v.clone() for k, v in own.items()}
    sum(model(noise((64, 64)), [target((4, 4, 50, 50))]).values()).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    frozen = TORCHVISION[name][2]
    for key, parameter in model.backbone.body.named_parameters():
        assert (parameter.grad is None) == (key.split(".")[0] in frozen), key
    changed = {
        key.split(".")[0] for key, value in model.backbone.body.state_dict().items() if before[key].ne(value).any()
    }
    assert changed and changed.isdisjoint(frozen)
    norms = [layer for layer in model.backbone.body.modules() if isinstance(layer, FrozenBatchNorm2d)]
    assert norms and not any(p.requires_grad for norm in norms for p in norm.parameters())


@pytest.mark.parametrize("home", [REAL_CACHE] * REAL_CACHE.is_dir() or ["made"])
def test_pretrained_mobilenet_answers_alike_in_training_and_evaluation(home, torch_home, monkeypatch):
    if home == "made":
        fill_cache(torch_home, *REAL)
    else:
        monkeypatch.setenv("TORCH_HOME", str(home))
    backbone = PyramidBackbone(REAL[0], REAL[1], 16)
    (image,) = noise((64, 64))
    with torch.inference_mode():
        training, evaluation = backbone.train()(image[None]), backbone.eval()(image[None])
    assert all(torch.equal(a, b) for a, b in zip(training, evaluation, strict=True))  # the norms are frozen


def test_a_model_for_a_checkpoint_has_the_same_parts_without_fetching_weights(torch_home):
    model = build_detector("mobilenet_v2", 2, weights_backbone="DEFAULT", load_weights=False)
    fill_cache(torch_home, "mobilenet_v2")
    fetched = build_detector("mobilenet_v2", 2, weights_backbone="DEFAULT")
    assert list(model.state_dict()) == list(fetched.state_dict())
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in fetched.parameters()]


@pytest.mark.parametrize(
    ("name", "weights", "says"),
    [
        ("resnet51", None, "'resnet51' is none of tiny, mobilenet_v2"),
        ("resnet18", "IMAGENET", "'IMAGENET' of resnet18 are none of IMAGENET1K_V1"),
        ("tiny", "DEFAULT", "no pretrained weights"),
        ("resnet18", "DEFAULT", "no network in tests"),
    ],
)
def test_a_backbone_or_weights_that_cannot_be_had_are_named(name, weights, says, torch_home):
    with pytest.raises(InputError, match=says):
        build_detector(name, 2, weights_backbone=weights)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut off"])
def test_damaged_weights_in_the_cache_are_named(content, torch_home):
    cached_file(torch_home, "mobilenet_v2", "DEFAULT").write_bytes(content)
    with pytest.raises(InputError, match="cannot load weights 'DEFAULT' of mobilenet_v2") as caught:
        build_detector("mobilenet_v2", 2, weights_backbone="DEFAULT")
    assert "\n" not in str(caught.value)
