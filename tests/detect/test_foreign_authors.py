"""Weights of the OTA authors' code: their detector is told again in `elsewhere`, their rule here."""

import json

import pytest
import torch
from command_line import otalab
from PIL import Image
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

from otalab.detect.checkpoint import load_model
from otalab.detect.foreign import COCO_IDS, COCO_NAMES, load_foreign

from .elsewhere import Authors, the_authors
from .models import noise


@pytest.fixture(scope="module")
def authors() -> Authors:
    return the_authors()


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


def test_otalab_eval_takes_the_file_on_a_folder_of_cocos_classes(authors_file, tmp_path):
    folder = tmp_path / "data" / "val"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (48, 32)).save(folder / "images" / "1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 48, "height": 32}],
        "categories": [{"id": i, "name": COCO_NAMES[i]} for i in COCO_IDS],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 90, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    results = tmp_path / "results.json"
    assert otalab("eval", authors_file, "--data", tmp_path / "data", "--results", results) == 0
    found = {row["category_id"] for row in json.loads(results.read_text())}
    assert found and found <= set(COCO_IDS)
