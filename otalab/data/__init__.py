"""Data sets: the synthetic shapes, COCO-format folders, their augmentation and download."""

from otalab.data.coco import CocoDataset, collate, find_split
from otalab.data.shapes import Scene, ShapesConfig, draw_scene, make_shapes
from otalab.data.transforms import STRENGTHS, eval_transforms, train_transforms

__all__ = [
    "STRENGTHS", "CocoDataset", "Scene", "ShapesConfig", "collate", "draw_scene", "eval_transforms", "find_split",
    "make_shapes", "train_transforms",
]  # fmt: skip
