"""Data sets: the synthetic shapes, COCO-format folders, their augmentation and download."""

from otalab.data.annotations import find_split
from otalab.data.coco import CocoDataset, collate
from otalab.data.coco_download import COCO_URLS, fetch_coco
from otalab.data.download import fetch, safe_extract
from otalab.data.scene import CLASS_NAMES, Scene, ShapesConfig, draw_scene
from otalab.data.shapes import make_shapes
from otalab.data.transforms import STRENGTHS, eval_transforms, train_transforms

__all__ = [
    "CLASS_NAMES",
    "COCO_URLS",
    "STRENGTHS",
    "CocoDataset",
    "Scene",
    "ShapesConfig",
    "collate",
    "draw_scene",
    "eval_transforms",
    "fetch",
    "fetch_coco",
    "find_split",
    "make_shapes",
    "safe_extract",
    "train_transforms",
]
