"""Shapes: a seeded synthetic detection set in COCO format, made in seconds without a network.

Small enough for a laptop, hard enough that assignment matters. `otalab.data.scene` draws the pictures.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from otalab.data.outlines import CLASS_NAMES
from otalab.data.scene import ShapesConfig, draw_scene
from otalab.errors import InputError
from otalab.files import folder_beside
from otalab.progress import progress_bar

SPLITS = ("train", "val")
VERSION = 1  # of the drawing; raise it when the same configuration gives other pictures


def make_shapes(
    folder: str | Path,
    train: int = 2000,
    val: int = 300,
    config: ShapesConfig | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write `folder/{train,val}/instances.json` and `folder/{train,val}/images/*.png`; return the folder.

    The set is made beside `folder` and renamed onto it, so that it is whole or absent. What killed processes left
    beside it is removed. A folder that holds exactly this set is reused. One that holds another set, or a part of one,
    raises InputError. With `overwrite`, any shapes set there is replaced. A folder that holds anything else raises
    InputError and is never touched. `folder/shapes.json` states the configuration and the counts.
    """
    folder, config = Path(folder), config or ShapesConfig()
    target = folder.absolute()
    if train < 1 or val < 1:
        raise InputError(f"shapes needs at least one image in each split, got train={train} and val={val}")
    statement = {"version": VERSION, "config": asdict(config), "train": train, "val": val}
    if _holds(target, statement, overwrite):
        return folder
    with folder_beside(folder) as partial:
        whole = partial / "whole"
        for index, split in enumerate(SPLITS):
            _write_split(whole / split, index, statement[split], config, progress)
        (whole / "shapes.json").write_text(json.dumps(statement, indent=1) + "\n")
        if overwrite and target.exists():
            target.rename(partial / "old")  # in one step: a half-removed set would not pass for a shapes set
        try:
            whole.rename(target)
        except OSError:  # another process may have made the same set meanwhile
            if not _holds(target, statement, overwrite=False):
                raise
    return folder


def _holds(folder: Path, statement: dict, overwrite: bool) -> bool:
    """Whether the folder holds exactly this set. Raises InputError if it holds anything that must not be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        held = dict(json.loads((folder / "shapes.json").read_text()))
        held["config"] = asdict(ShapesConfig()) | held["config"]  # an older set without a setting has its default
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"{folder} exists and is not a shapes set; choose another folder") from None
    if overwrite:
        foreign = {entry.name for entry in folder.iterdir()} - {*SPLITS, "shapes.json"}
        if foreign:
            raise InputError(f"{folder} also holds {', '.join(sorted(foreign))}; it will not be overwritten")
        return False
    if held != statement:
        old = held | held["config"]
        new = {key: value for key, value in (statement | statement["config"]).items() if key != "config"}
        differ = ", ".join(f"{key} {old.get(key)}, asked {new[key]}" for key in new if old.get(key) != new[key])
        raise InputError(f"{folder} holds another shapes set ({differ}); overwrite it or choose another folder")
    for split in SPLITS:
        found = len(list((folder / split / "images").glob("*.png")))
        if found != statement[split] or not (folder / split / "instances.json").is_file():
            raise InputError(f"{folder / split} has {found} of its {statement[split]} images; overwrite it")
    return True


def _write_split(folder: Path, split: int, count: int, config: ShapesConfig, progress: bool) -> None:
    """Write `count` images, then the annotation file that makes them a data set."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in progress_bar(range(count), desc=f"shapes {folder.name}", unit="image", disable=not progress):
        scene = draw_scene(config, np.random.default_rng([config.seed, split, i]))
        name = f"{i:06d}.png"
        Image.fromarray(scene.image).save(folder / "images" / name, compress_level=1)
        images.append({"id": i + 1, "file_name": name, "width": config.image_size, "height": config.image_size})
        for (x1, y1, x2, y2), label, mask in zip(scene.boxes.tolist(), scene.labels.tolist(), scene.masks, strict=True):
            row = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": label + 1}
            annotations.append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(mask.sum()), "iscrowd": 0})
    categories = [{"id": i + 1, "name": name, "supercategory": "shape"} for i, name in enumerate(CLASS_NAMES)]
    info = {"description": f"otalab shapes, seed {config.seed}, {folder.name}", "version": str(VERSION)}
    content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
