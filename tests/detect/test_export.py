"""Exported detectors compute what the detector does, anywhere; nothing else is kept."""

import importlib.util
import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from command_line import otalab
from PIL import Image

from otalab.data import CLASS_NAMES
from otalab.detect.checkpoint import load_model, save_model
from otalab.detect.export import CheckFailed, DenseDetector, compare, expected, export
from otalab.errors import InputError

from .models import eager_detector, noise

ROOT = Path(__file__).parents[2]
SIZE = (64, 88)  # height, width: no multiple of 32


@pytest.fixture(scope="module")
def onnx_file(detector_folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "shapes.onnx"
    assert otalab("export", detector_folder, "--out", path, "--size", *SIZE) == 0
    return path


@pytest.fixture(scope="module")
def torch_file(detector_folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("torch") / "shapes.pt2"
    assert otalab("export", detector_folder, "--format", "torch", "--out", path, "--size", *SIZE, "--batch", 2) == 0
    return path


@pytest.fixture(scope="module")
def docs_program() -> dict:
    """What the program of docs/use.md defines."""
    (text,) = re.findall(r"```python\n(import json\n.*?)```", (ROOT / "docs" / "use.md").read_text(), flags=re.DOTALL)
    names = {"__name__": "use"}
    exec(compile(text, "use.md", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("backbone", "assigner", "size"),
    [
        ("tiny", "ota", (33, 47)),
        ("tiny", "freeanchor", (64, 64)),
        ("tiny", "ota", (1, 1)),
        ("mobilenet_v2", "fcos", (100, 130)),
        ("resnet18", "ota", (65, 30)),
    ],
)
@torch.inference_mode()
def test_dense_outputs_are_the_detectors_at_any_size(backbone, assigner, size):
    model = eager_detector(backbone, assigner=assigner)
    images = torch.stack(noise(size, size))
    found = DenseDetector(model, size).eval()(images)
    told = compare(found, expected(model, images), images)
    points = sum(-(-size[0] // s) * -(-size[1] // s) for s in model.backbone.strides)
    assert told.boxes == (2, points, 4) and told.scores == (2, points, 3)
    assert told.relative < 1e-4


def test_an_onnx_file_is_one_file_that_names_its_classes_and_nothing_of_this_machine(onnx_file):
    assert os.listdir(onnx_file.parent) == [onnx_file.name]
    assert str(ROOT).encode() not in onnx_file.read_bytes()
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    assert [opset.domain for opset in model.opset_import] == [""]  # no operator that a runtime could lack
    kept = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert kept == {
        "class_names": list(CLASS_NAMES),
        "category_ids": [1, 2, 3, 4, 5, 6],
        "score_threshold": 0.05,
        "nms_iou": 0.6,
        "per_image": 100,
    }


def test_onnx_runtime_computes_what_the_detector_does(onnx_file, detector_folder):
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    images = torch.stack(noise(SIZE, seed=5))
    found = tuple(map(torch.from_numpy, session.run(["boxes", "scores"], {"images": images.numpy()})))
    model, _ = load_model(detector_folder)
    assert compare(found, expected(model, images), images).relative < 1e-4


def test_a_torch_program_needs_torch_alone_and_knows_its_classes(torch_file, detector_folder):
    extra = {"class_names": "", "nms_iou": ""}
    program = torch.export.load(torch_file, extra_files=extra)
    assert json.loads(extra["class_names"]) == list(CLASS_NAMES) and json.loads(extra["nms_iou"]) == 0.6
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert {call.namespace for call in calls if isinstance(call, torch._ops.OpOverload)} == {"aten"}
    assert str(ROOT).encode() not in torch_file.read_bytes()
    images = torch.stack(noise(SIZE, SIZE, seed=5))
    with torch.inference_mode():
        found = program.module()(images)
    model, _ = load_model(detector_folder)
    assert compare(found, expected(model, images), images).relative < 1e-4


def test_the_program_of_the_docs_detects_what_the_detector_does(onnx_file, detector_folder, docs_program):
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(onnx_file)
    boxes, names, scores = docs_program["detect"](session, Image.fromarray(pixels), threshold=0.05)
    model, description = load_model(detector_folder)
    with torch.inference_mode():
        (wanted,) = model([torch.from_numpy(pixels).permute(2, 0, 1) / 255])
    assert len(boxes) == len(wanted["boxes"]) > 20
    assert np.allclose(scores, wanted["scores"], atol=1e-4)
    assert np.allclose(boxes, wanted["boxes"], atol=0.02)
    assert names == [description["class_names"][label] for label in wanted["labels"]]


def test_the_program_of_the_docs_scales_boxes_back_to_a_photo_of_another_size(onnx_file, docs_program):
    session = onnxruntime.InferenceSession(onnx_file)
    large = Image.effect_noise((352, 128), 80).convert("RGB")  # fits as 88 x 32
    boxes, _, _ = docs_program["detect"](session, large, threshold=0.05)
    small, _, _ = docs_program["detect"](session, large.resize((88, 32), Image.Resampling.BICUBIC), threshold=0.05)
    assert boxes.max() > 128 and (boxes[:, 1::2] <= 128).all() and (boxes[:, ::2] <= 352).all()
    assert np.allclose(boxes, 4 * small, atol=1.0)


def test_a_detector_that_resizes_is_exported_at_its_own_side(tmp_path):
    settings = {"backbone": "tiny", "num_classes": 3, "image_size": [48, 480]}
    save_model(tmp_path / "model.safetensors", eager_detector(image_size=[48, 480]), settings, list("abc"), [1, 2, 3])
    told = export(tmp_path, tmp_path / "small.pt2", "torch")
    assert told.images == (1, 3, 48, 48) and (tmp_path / "small.pt2").is_file()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda boxes, scores: (boxes + 1, scores),
        lambda boxes, scores: (boxes, scores * 0.99),
        lambda boxes, scores: (boxes * torch.nan, scores),
        lambda boxes, scores: (boxes[:, 1:], scores[:, 1:]),
    ],
)
def test_other_outputs_than_the_detectors_are_refused(spoil):
    images = torch.stack(noise((32, 32)))
    wanted = expected(eager_detector(), images)
    assert compare(wanted, wanted, images).relative == 0
    with pytest.raises(CheckFailed, match="exported model"):
        compare(spoil(*wanted), wanted, images)


def test_a_file_that_computes_something_else_is_not_kept(detector_folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "wrong.pt2"
    out.write_text("an earlier export")
    monkeypatch.setattr(
        DenseDetector, "forward", lambda self, images: (images.new_ones(1, 85, 4), images.new_ones(1, 85, 6))
    )
    assert otalab("export", detector_folder, "--format", "torch", "--out", out, "--size", 32, 32) == 1
    said = capsys.readouterr()
    assert said.out == "" and re.match("otalab: error: the exported model differs .*; nothing was written\n$", said.err)
    assert os.listdir(tmp_path) == ["wrong.pt2"] and out.read_text() == "an earlier export"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.onnx", "coreml", (32, 32)), "format 'coreml' is none of onnx, torch"),
        (("a.pt", "onnx", (32, 32)), "a.pt: the name of a file of format onnx ends in .onnx"),
        (("a.onnx", "torch", (32, 32)), "a.onnx: the name of a file of format torch ends in .pt2"),
        (("a.pt2", "torch", None), "images of any size; choose that of the exported one: --size HEIGHT WIDTH"),
        (("a.pt2", "torch", (4096, 4096), 2), "2 images of 4096 x 4096 px are 33,554,432 px, more than the 16,777,216"),
    ],
)
def test_what_cannot_be_exported_is_told_and_nothing_is_written(arguments, said, detector_folder, tmp_path):
    out, *others = arguments
    with pytest.raises(InputError, match=said):
        export(detector_folder, tmp_path / out, *others)
    assert os.listdir(tmp_path) == []


def test_packages_that_are_not_installed_are_named(detector_folder, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name))
    with pytest.raises(InputError, match=r"onnx, onnxscript, onnxruntime .*the extra 'export'"):
        export(detector_folder, tmp_path / "a.onnx", "onnx", (32, 32))
