"""Weights of torchvision's FCOS: its own detector is the oracle."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS_ResNet50_FPN_Weights

from otalab.detect.checkpoint import load_model
from otalab.detect.config import TrainConfig
from otalab.detect.foreign import COCO_IDS, load_foreign
from otalab.detect.init import start_from
from otalab.detect.style import STYLES
from otalab.detect.train import train
from otalab.errors import InputError

from .elsewhere import SIZE, torchvisions
from .models import noise, target

MIXED = [(75, 61), (64, 64), (40, 180), (130, 90), (33, 50), (64, 96), (100, 101), (200, 52), (57, 57), (90, 128)]


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    return torchvisions()


@pytest.fixture(scope="module")
def torchvision_file(theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "torchvision.pth"
    torch.save(theirs.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def ours(torchvision_file):
    model = load_model(torchvision_file)[0]
    assert model.image_size == [800, 1333]
    model.image_size = SIZE
    return model


@pytest.fixture(scope="module")
def exact(theirs, ours) -> tuple[nn.Module, nn.Module]:
    """Both in float64, where only what is computed can differ, not how sums round."""
    return copy.deepcopy(theirs).double(), copy.deepcopy(ours).double()


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_raw_outputs_are_torchvisions_on_images_of_any_size(theirs, ours, exact, dtype, atol):
    theirs, ours = exact if dtype == torch.float64 else (theirs, ours)
    for image in noise(*MIXED):
        seen, _ = theirs.transform([image.to(dtype)])
        features = list(theirs.backbone(seen.tensors).values())
        raw = theirs.head(features)
        anchors = theirs.anchor_generator(seen, features)[0]
        boxes = theirs.head.box_coder.decode(raw["bbox_regression"][0], anchors)
        _, (found,) = ours.predict([ours.resize(image.to(dtype))])
        torch.testing.assert_close(found.logits, raw["cls_logits"][0][:, COCO_IDS], rtol=0, atol=atol)
        torch.testing.assert_close(found.quality, raw["bbox_ctrness"][0, :, 0], rtol=0, atol=atol)
        close = ((found.boxes - boxes).abs() / ours.head.strides[-1]).amax()  # sides are in strides, the last 128 px
        assert close < atol


@torch.inference_mode()
def test_detections_are_torchvisions_and_those_of_a_batch_are_those_of_each_image(exact):
    theirs, ours = exact
    images = [image.double() for image in noise(*MIXED, seed=1)]
    together = ours(images[:4])
    for i, image in enumerate(images):
        (wanted,), (found,) = theirs([image]), ours([image])
        assert len(wanted["boxes"]) > 20
        for other in (found, together[i]) if i < 4 else (found,):
            assert torch.equal(torch.tensor(COCO_IDS)[other["labels"]], wanted["labels"])
            torch.testing.assert_close(other["boxes"], wanted["boxes"], rtol=0, atol=1e-5)
            torch.testing.assert_close(other["scores"], wanted["scores"], rtol=0, atol=1e-6)


def test_names_of_the_fpn_may_be_those_before_torchvision_0_14(theirs, ours, tmp_path):
    state = {name.replace("_blocks.0.0.", "_blocks.0."): value for name, value in theirs.state_dict().items()}
    assert state.keys() != theirs.state_dict().keys()
    torch.save(state, tmp_path / "old.pth")
    for old, new in zip(load_foreign(tmp_path / "old.pth")[0].parameters(), ours.parameters(), strict=True):
        assert torch.equal(old, new)


def test_torchvisions_name_stands_for_its_weights_read_without_running_code(theirs, ours, monkeypatch):
    asked = {}

    def get_state_dict(self, **options):
        asked.update(options)
        return theirs.state_dict()

    monkeypatch.setattr(FCOS_ResNet50_FPN_Weights, "get_state_dict", get_state_dict)
    model, description = load_model("torchvision-coco")
    assert asked["weights_only"] and asked["check_hash"]
    assert torch.equal(model.head.logits.weight, ours.head.logits.weight)
    assert description["class_names"][16] == "dog" and description["category_ids"][16] == 18


def test_fine_tuning_starts_from_known_classes_and_names_the_others(torchvision_file, ours, caplog):
    settings = {"backbone": "resnet50", "num_classes": 3, "assigner": "ota", "balance": 1.0, "image_size": None}
    model, kept = start_from(str(torchvision_file), settings, ["dog", "unicorn", "person"])
    assert "does not know unicorn" in caplog.text
    assert kept == {**settings, "weights_backbone": "IMAGENET1K_V1", "style": "torchvision"}
    assert model.balance == 1
    assert torch.equal(model.head.logits.weight[[0, 2]], ours.head.logits.weight[[16, 0]])
    assert model.head.logits.bias[1].item() == pytest.approx(-4.595, abs=1e-3)  # of a probability of 0.01
    before = {name: value.clone() for name, value in model.named_parameters()}
    losses = model.train()(noise((96, 64), (64, 70)), [target((8.0, 8.0, 50.0, 60.0)), target()])
    sum(losses.values()).backward()
    torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.01).step()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert {
        "head.logits.weight",
        "head.scales",
        "head.class_tower.0.bias",
        "backbone.body.layer2.0.conv1.weight",
    } <= moved
    assert not any(name.startswith(("backbone.body.layer1.", "backbone.body.conv1.")) for name in moved)


def test_a_detector_from_elsewhere_brings_its_backbone_and_refuses_another(torchvision_file, train_flags, refused):
    with pytest.raises(InputError, match="has the backbone resnet50, not tiny"):
        start_from(str(torchvision_file), {"backbone": "tiny"}, [])
    said = refused(*train_flags(init=torchvision_file, backbone="resnet18"))
    assert "has the backbone resnet50, not resnet18 (--backbone)" in said
    assert TrainConfig.from_recipe("laptop", init="x.pth").backbone == "resnet50"


def test_a_run_starts_from_it_and_leaves_a_detector_of_its_style(torchvision_file, setup):
    changes = {"init": str(torchvision_file), "backbone": "resnet50", "assigner": "fcos"}
    config = setup(**changes, epochs=1, steps=1, batch_size=2, max_images=2, lr=1e-4)
    train(config, progress=False)
    model, description = load_model(config.out)
    assert model.style is STYLES["torchvision"] and description["settings"]["style"] == "torchvision"
    assert len(description["class_names"]) == model.num_classes == 6
