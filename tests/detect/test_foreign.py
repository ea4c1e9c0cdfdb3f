"""Weights from elsewhere: torchvision's detector is its own oracle, the authors' is told again here."""

import copy
import os
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.models.detection import FCOS_ResNet50_FPN_Weights, fcos_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d, clip_boxes_to_image, nms

from otalab.detect.checkpoint import load_model
from otalab.detect.config import TrainConfig
from otalab.detect.foreign import COCO_IDS, CVPODS, TORCHVISION, load_foreign
from otalab.detect.init import start_from
from otalab.detect.style import STYLES
from otalab.detect.train import train
from otalab.errors import InputError

from .models import noise, target

SIZE = (64, 120)  # px: shorter and longer side, in place of 800 and 1333
MIXED = [(75, 61), (64, 64), (40, 180), (130, 90), (33, 50), (64, 96), (100, 101), (200, 52), (57, 57), (90, 128)]


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


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's detector of random weights that never finds what is no class."""
    torch.manual_seed(0)
    model = fcos_resnet50_fpn(weights=None, weights_backbone=None, min_size=SIZE[0], max_size=SIZE[1])
    classes, boxes = model.head.classification_head, model.head.regression_head
    fill(model, [classes.cls_logits, boxes.bbox_reg, boxes.bbox_ctrness])
    nothing = torch.ones(91, dtype=torch.bool).index_fill(0, torch.tensor(COCO_IDS), False)
    classes.cls_logits.bias.data[nothing] = -30
    return model


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
    settings = {"backbone": "resnet50", "num_classes": 3, "assigner": "ota", "image_size": None}
    model, kept = start_from(str(torchvision_file), settings, ["dog", "unicorn", "person"])
    assert "does not know unicorn" in caplog.text
    assert kept == {**settings, "weights_backbone": "IMAGENET1K_V1", "style": "torchvision"}
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


@pytest.fixture(scope="module")
def authors() -> Authors:
    torch.manual_seed(2)
    model = Authors()
    fill(model, [model.cls_score, model.bbox_pred, model.ious_pred])
    model.body.conv1.weight.data /= 60  # for pixels in 0..255
    return model


@pytest.fixture(scope="module")
def authors_file(authors, tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "model_final.pth"
    torch.save({"model": authors.state(), "iteration": 89999}, path)
    return path


@torch.inference_mode()
def test_the_authors_layout_computes_what_their_detector_does(authors, authors_file):
    model, description = load_model(authors_file)
    assert description["settings"]["assigner"] == "ota" and len(description["class_names"]) == 80
    for image in noise((64, 96), (75, 61), (130, 40)):
        logits, boxes, quality = authors(image)
        _, (found,) = model.predict([image])
        torch.testing.assert_close(found.logits, logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.boxes, boxes, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(found.quality, quality, rtol=1e-4, atol=1e-4)
    model.image_size = None
    (detections,) = model([image])
    boxes, labels, scores = authors_rule(logits, boxes, quality)
    seen = clip_boxes_to_image(boxes, image.shape[1:])
    seen = (seen[:, 2:] > seen[:, :2]).all(dim=1)
    assert seen.sum() > 20 and torch.equal(detections["labels"], labels[seen])
    torch.testing.assert_close(detections["scores"], scores[seen], rtol=0, atol=1e-4)


def authors_rule(logits: Tensor, boxes: Tensor, quality: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and scores before clipping: threshold 0.05, NMS 0.6 within each class, the best 100."""
    scores = (logits.sigmoid() * quality.sigmoid()[:, None]).sqrt()
    kept = []
    for label in range(80):
        point = (scores[:, label] > 0.05).nonzero()[:, 0]
        chosen = point[nms(boxes[point], scores[point, label], 0.6)]
        kept += [(scores[p, label].item(), label, boxes[p]) for p in chosen]
    score, label, box = zip(*sorted(kept, key=lambda row: -row[0])[:100], strict=True)
    return torch.stack(box), torch.tensor(label), torch.tensor(score)


def test_the_authors_quality_branch_may_be_called_centerness(authors, tmp_path):
    state = {name.replace("ious_pred", "centerness"): value for name, value in authors.state().items()}
    torch.save(state, tmp_path / "model.pth")
    assert torch.equal(load_foreign(tmp_path / "model.pth")[0].head.quality.weight, authors.ious_pred.weight)


@pytest.mark.parametrize("layout", [TORCHVISION, CVPODS])
def test_tensors_at_fault_are_named_in_one_line(layout, torchvision_file, authors_file, tmp_path):
    source = torchvision_file if layout is TORCHVISION else authors_file
    state = torch.load(source, weights_only=True)
    state = dict(state.get("model", state))
    sides, quality = layout.name("head.sides.weight"), layout.name("head.quality.bias")
    del state[quality]
    state |= {"head.extra": torch.zeros(1), sides: torch.zeros(4, 2)}
    path = tmp_path / "odd.pth"
    torch.save(state, path)
    with pytest.raises(InputError) as error:
        load_foreign(path)
    said = str(error.value)
    assert f"no {quality}; unknown head.extra; {sides} is (4, 2), not (4, 256, 3, 3)" in said and str(path) in said
    torch.save({**state, "head.extra": 1}, path)
    with pytest.raises(InputError, match="holds no dict of tensors"):
        load_foreign(path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="is no detector that otalab knows"):
        load_foreign(path)


def test_numbers_that_are_not_finite_are_named(authors, tmp_path):
    state = authors.state()
    state["head.scales.3.scale"] = torch.tensor([float("nan")])
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(InputError, match=r"head\.scales\.3\.scale holds numbers that are not finite"):
        load_foreign(tmp_path / "nan.pth")


class Malicious:
    """A pickle that makes a folder as soon as it is read."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(zipped, tmp_path, refused, shapes):
    path, made = tmp_path / "trap.pth", tmp_path / "made"
    torch.save({"model": Malicious(made)}, path, _use_new_zipfile_serialization=zipped)
    said = refused("eval", path, "--data", shapes)
    assert "trap.pth is refused, and none of it was run" in said
    path.write_bytes(pickle.dumps(Malicious(made), protocol=2))
    assert "trap.pth is refused, and none of it was run" in refused("eval", path, "--data", shapes)
    assert not made.exists()
    pickle.loads(path.read_bytes())  # elsewhere it does run
    assert made.exists()


def test_a_missing_or_damaged_file_is_told_in_one_line(tmp_path, torchvision_file):
    with pytest.raises(InputError, match=r"no checkpoint at .*none.pth"):
        load_foreign(tmp_path / "none.pth")
    (tmp_path / "cut.pth").write_bytes(torchvision_file.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"cut\.pth"):
        load_foreign(tmp_path / "cut.pth")


def test_a_run_starts_from_it_and_leaves_a_detector_of_its_style(torchvision_file, setup):
    changes = {"init": str(torchvision_file), "backbone": "resnet50", "assigner": "fcos"}
    config = setup(**changes, epochs=1, steps=1, batch_size=2, max_images=2, lr=1e-4)
    train(config, progress=False)
    model, description = load_model(config.out)
    assert model.style is STYLES["torchvision"] and description["settings"]["style"] == "torchvision"
    assert len(description["class_names"]) == model.num_classes == 6
