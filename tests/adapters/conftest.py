"""Frameworks as the tests import them, where they are installed, and scenes as files of theirs."""

import importlib.util
import os
import sys
import tempfile
import warnings
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from PIL import Image
from torchvision.ops import box_convert

from .scenes import shapes_batch

os.environ |= {"YOLO_CONFIG_DIR": tempfile.gettempdir(), "YOLO_OFFLINE": "true"}  # before it is imported
with warnings.catch_warnings(action="ignore"):  # they warn of what has become old, and the tests make that an error
    for name, module in {"ultralytics": "ultralytics", "mmdet": "mmdet.models", "yolox": "yolox.models"}.items():
        if name == "mmdet" and importlib.util.find_spec("mmcv") and not importlib.util.find_spec("mmcv._ext"):
            sys.modules["mmcv._ext"] = MagicMock()  # mmcv-lite has no compiled operators; training a head needs none
        if importlib.util.find_spec(name):
            importlib.import_module(module)


@pytest.fixture
def shapes_yaml(tmp_path) -> Path:
    """Eight scenes of 64 px as Ultralytics' files: class, centre and size in shares of the image."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i, (image, target) in enumerate(zip(*shapes_batch(range(8)), strict=True)):
        Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy()).save(tmp_path / f"images/{i}.png")
        boxes = box_convert(target["boxes"] / image.shape[-1], "xyxy", "cxcywh")
        rows = zip(target["labels"].tolist(), boxes.tolist(), strict=True)
        (tmp_path / f"labels/{i}.txt").write_text("\n".join(f"{label} {x} {y} {w} {h}" for label, (x, y, w, h) in rows))
    names = "\n".join(f"  {i}: '{i}'" for i in range(6))
    (tmp_path / "shapes.yaml").write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames:\n{names}\n")
    return tmp_path / "shapes.yaml"
