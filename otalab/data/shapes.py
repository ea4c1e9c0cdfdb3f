"""Shapes: a seeded synthetic detection set in COCO format, made in seconds without a network.

Six kinds of shape on textured grounds, at sizes spread over a log scale, rotated, overlapping, sometimes in
clusters of one kind. Small enough for a laptop, hard enough that assignment matters.
"""

import json
import math
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from otalab.errors import InputError
from otalab.files import write_whole

CLASS_NAMES = ("circle", "square", "triangle", "star", "ring", "cross")
SPLITS = ("train", "val")
VERSION = 1  # of the drawing: raised when the same configuration would give other pictures

_SUPERSAMPLING = 4  # masks are drawn at this many sub-pixels a side and averaged
_TRIES = 24  # placements tried for one object before it is left out
_PALETTE = np.array(
    [
        [0xE4, 0x57, 0x4B], [0xF2, 0x8F, 0x3B], [0xF4, 0xC9, 0x5D], [0x8F, 0xB3, 0x55], [0x3C, 0x91, 0x6E],
        [0x2F, 0xA8, 0xA8], [0x4A, 0x90, 0xD9], [0x34, 0x4E, 0x86], [0x7A, 0x5C, 0xA8], [0xC9, 0x6B, 0xA1],
        [0xF3, 0xE9, 0xD8], [0x8C, 0x6A, 0x56], [0x6F, 0x7C, 0x8A], [0x2B, 0x2D, 0x3A],
    ],
    dtype=np.float32,
) / 255  # fmt: skip


def _spokes(count: int, *radii: float) -> np.ndarray:
    """`count` points about the origin, the radii taking turns, the first point up."""
    turns = np.arange(count) * (2 * np.pi / count)
    return np.stack([np.sin(turns), -np.cos(turns)], 1) * np.resize(radii, count)[:, None]


_ARM = [(-0.34, -1), (0.34, -1), (0.34, -0.34), (1, -0.34), (1, 0.34), (0.34, 0.34)]
_OUTLINES = {  # diameter about 2; each outline with its fill: 255 covers, 0 cuts a hole
    "circle": [(_spokes(48, 0.95), 255)],
    "square": [(_spokes(4, 1.2), 255)],
    "triangle": [(_spokes(3, 1.15), 255)],
    "star": [(_spokes(10, 1.1, 0.48), 255)],
    "ring": [(_spokes(48, 1.0), 255), (_spokes(48, 0.52), 0)],
    "cross": [(np.array(_ARM + [(-x, -y) for x, y in _ARM]), 255)],
}


@dataclass(frozen=True)
class ShapesConfig:
    """How hard the pictures are. Sizes are in pixels of the finished image, probabilities and strengths in 0..1.

    Raises InputError for a value outside its range.
    """

    image_size: int = 128
    """Side of the square image, px."""
    min_objects: int = 2
    """Fewest objects drawn for a scene."""
    max_objects: int = 11
    """Most objects drawn for a scene; a scene too full to place them all keeps fewer."""
    min_size: float = 10.0
    """Smallest diameter of a shape, px. Diameters are log-uniform, so small shapes are common."""
    max_size: float = 64.0
    """Largest diameter of a shape, px."""
    crowd: float = 0.3
    """Probability that a scene holds a cluster of overlapping shapes of one class."""
    min_visible: float = 0.3
    """Least visible share of a shape, in 0..1; a placement that would leave less is drawn anew."""
    aspect: float = 1.3
    """Largest ratio of a shape's stretch along its two axes, at least 1."""
    contrast: float = 0.12
    """Least RGB distance (unit cube) between a shape's colour and the mean ground; 0 asks for none."""
    texture: float = 0.5
    """Strength of the ground's texture and of the stripes on shapes, in 0..1."""
    noise: float = 3.0
    """Standard deviation of the pixel noise, in 8-bit grey levels."""
    seed: int = 0
    """Seed of the set. Image i of a split depends on (seed, split, i) and this configuration alone."""

    def __post_init__(self) -> None:
        def check(ok: bool, message: str) -> None:
            if not ok:
                raise InputError(f"ShapesConfig: {message}")

        numbers = [value for value in asdict(self).values()]
        check(all(math.isfinite(value) for value in numbers), f"values must be finite, got {asdict(self)}")
        check(self.image_size >= 16, f"image_size must be at least 16 px, got {self.image_size}")
        check(
            1 <= self.min_objects <= self.max_objects,
            f"need 1 <= min_objects <= max_objects, got {self.min_objects} and {self.max_objects}",
        )
        check(
            6 <= self.min_size <= self.max_size <= self.image_size,
            "need 6 <= min_size <= max_size <= image_size, "
            f"got {self.min_size:g}, {self.max_size:g} and {self.image_size}",
        )
        check(self.aspect >= 1, f"aspect must be at least 1, got {self.aspect:g}")
        check(self.noise >= 0, f"noise must not be negative, got {self.noise:g}")
        check(0 < self.min_visible <= 1, f"min_visible must lie in (0, 1], got {self.min_visible:g}")
        for name in ("crowd", "contrast", "texture"):
            check(0 <= getattr(self, name) <= 1, f"{name} must lie in 0..1, got {getattr(self, name):g}")
        check(self.seed >= 0, f"seed must not be negative, got {self.seed}")


class Scene(NamedTuple):
    """A picture and its truth, objects from back to front."""

    image: UInt8[np.ndarray, "h w 3"]
    boxes: Float[np.ndarray, "m 4"]
    """xyxy px, float32: the tight box of the visible pixels."""
    labels: Int[np.ndarray, " m"]
    """int64, an index into CLASS_NAMES."""
    masks: Bool[np.ndarray, "m h w"]
    """The visible pixels: those that the object covers by half or more."""
    visible: Float[np.ndarray, " m"]
    """float32 in 0..1: visible pixels over all pixels of the shape, those outside the image included."""


@dataclass
class _Shape:
    """One placed shape: its anti-aliased mask, float32 in 0..1, with (left, top) of its patch in the image."""

    label: int
    size: float
    alpha: np.ndarray
    left: int
    top: int
    colour: np.ndarray

    @property
    def pixels(self) -> int:
        """Pixels of the whole shape, those outside the image included."""
        return int((self.alpha >= 0.5).sum())

    def window(self, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Index of the patch in the image, and of that part in the patch."""
        high, wide = self.alpha.shape
        rows = slice(*np.clip([self.top, self.top + high], 0, side).tolist())
        columns = slice(*np.clip([self.left, self.left + wide], 0, side).tolist())
        inner = (
            slice(rows.start - self.top, rows.stop - self.top),
            slice(columns.start - self.left, columns.stop - self.left),
        )
        return (rows, columns), inner


def draw_scene(config: ShapesConfig, rng: np.random.Generator) -> Scene:
    """Draw one scene: arrange shapes back to front, paint them, and read the boxes off the visible pixels."""
    ground = _ground(config, rng)
    shapes, coverage = _arrange(config, ground.mean((0, 1)), rng)
    light = rng.uniform(0, 2 * np.pi)
    for shape in shapes:
        _paint(ground, shape, light, config, rng)
    grain = rng.standard_normal(ground.shape[:2], dtype=np.float32) * config.noise  # grey, as film has
    image = (ground * 255 + (grain + 0.5)[..., None]).clip(0, 255).astype(np.uint8)

    masks = coverage >= 0.5
    boxes = np.array([_box(mask) for mask in masks], dtype=np.float32).reshape(-1, 4)
    labels = np.array([shape.label for shape in shapes], dtype=np.int64)
    whole = np.array([shape.pixels for shape in shapes], dtype=np.float32)
    return Scene(image, boxes, labels, masks, masks.sum((1, 2)).astype(np.float32) / whole)


def make_shapes(
    folder: str | Path,
    train: int = 2000,
    val: int = 300,
    config: ShapesConfig | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write `folder/{train,val}/instances.json` and `folder/{train,val}/images/*.png`; return the folder.

    The set is made beside `folder` and renamed onto it, so that a set is whole or absent. A folder that holds
    this very set is reused; one with another set raises InputError unless `overwrite`; one with files that are
    not a shapes set is never touched and raises InputError. `folder/shapes.json` states configuration and counts.
    """
    folder, config = Path(folder), config or ShapesConfig()
    counts = {"train": train, "val": val}
    if min(counts.values()) < 1:
        raise InputError(f"shapes needs at least one image in each split, got train={train} and val={val}")
    statement = {"version": VERSION, "config": asdict(config), **counts}
    if _holds(folder, statement, overwrite):
        return folder
    with write_whole(folder.parent / f".{folder.name}.probe") as probe:  # makes the parent or says why it cannot
        pass
    (folder.parent / f".{folder.name}.probe").unlink()
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for index, split in enumerate(SPLITS):
            _write_split(partial / split, index, counts[split], config, progress)
        with write_whole(partial / "shapes.json") as path:
            path.write_text(json.dumps(statement, indent=1) + "\n")
        partial.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _holds(folder: Path, statement: dict, overwrite: bool) -> bool:
    """Whether the folder holds this very set; raises InputError when it must not be written either."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        held = json.loads((folder / "shapes.json").read_text())
    except (OSError, ValueError):
        raise InputError(f"{folder} exists and is not a shapes set; choose another folder") from None
    if overwrite:
        return False
    if held != statement:
        raise InputError(
            f"{folder} holds another shapes set ({_difference(held, statement)}); overwrite it or choose another folder"
        )
    for split in SPLITS:
        found = len(list((folder / split / "images").glob("*.png")))
        if found != statement[split] or not (folder / split / "instances.json").is_file():
            raise InputError(f"{folder / split} has {found} of its {statement[split]} images; overwrite it")
    return True


def _difference(held: dict, wanted: dict) -> str:
    old = {**held, **held.get("config", {})}
    new = {**wanted, **wanted["config"]}
    keys = [key for key in new if key != "config" and old.get(key) != new[key]]
    return ", ".join(f"{key} {old.get(key)}, asked {new[key]}" for key in keys)


def _write_split(folder: Path, split: int, count: int, config: ShapesConfig, progress: bool) -> None:
    """Write `count` images, then the annotation file that makes them a data set."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in tqdm(range(count), desc=f"shapes {folder.name}", unit="image", disable=not progress):
        scene = draw_scene(config, np.random.default_rng([config.seed, split, i]))
        name = f"{i:06d}.png"
        Image.fromarray(scene.image).save(folder / "images" / name, compress_level=1)
        side = config.image_size
        images.append({"id": i + 1, "file_name": name, "width": side, "height": side})
        for box, label, mask in zip(scene.boxes.tolist(), scene.labels.tolist(), scene.masks, strict=True):
            x1, y1, x2, y2 = box
            row = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": label + 1, "iscrowd": 0}
            annotations.append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(mask.sum())})
    categories = [{"id": i + 1, "name": name, "supercategory": "shape"} for i, name in enumerate(CLASS_NAMES)]
    info = {"description": f"otalab shapes, seed {config.seed}, {folder.name}", "version": str(VERSION)}
    with write_whole(folder / "instances.json") as path:
        content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(content))


def _arrange(config: ShapesConfig, ground: np.ndarray, rng: np.random.Generator) -> tuple[list[_Shape], np.ndarray]:
    """Place shapes back to front; return them with their visible coverage (m, H, W), float32 in 0..1."""
    side = config.image_size
    count = int(rng.integers(config.min_objects, config.max_objects + 1))
    crowd = min(int(rng.integers(3, 7)), count) if rng.random() < config.crowd else 0
    shapes: list[_Shape] = []
    coverage = np.zeros((count, side, side), dtype=np.float32)
    seen = np.zeros(count)  # visible pixels of each shape
    need = np.zeros(count)  # and the least it must keep
    for i in range(count):
        for _ in range(_TRIES):
            m = len(shapes)
            shape = _propose(config, ground, shapes[0] if shapes and i < crowd else None, rng)
            window, inner = shape.window(side)
            alpha = shape.alpha[inner]
            below = coverage[:m, window[0], window[1]]
            covered = below * (1 - alpha)
            left = seen[:m] - (below >= 0.5).sum((1, 2)) + (covered >= 0.5).sum((1, 2))
            own, least = (alpha >= 0.5).sum(), max(config.min_visible * shape.pixels, 1)
            if own >= least and (left >= need[:m]).all():
                below[:] = covered
                coverage[m, window[0], window[1]] = alpha
                seen[:m], seen[m], need[m] = left, own, least
                shapes.append(shape)
                break
    return shapes, coverage[: len(shapes)]


def _propose(config: ShapesConfig, ground: np.ndarray, leader: _Shape | None, rng: np.random.Generator) -> _Shape:
    """One random shape; with a leader, one of its class, near its size, colour and place."""
    label = int(rng.integers(len(CLASS_NAMES)))
    size = float(np.exp(rng.uniform(np.log(config.min_size), np.log(config.max_size))))
    centre = rng.uniform(0, config.image_size, 2)
    colour = _colour(rng)
    while np.linalg.norm(colour - ground) < config.contrast:
        colour = _colour(rng)
    if leader is not None:
        label = leader.label
        size = float(np.clip(leader.size * rng.uniform(0.8, 1.25), config.min_size, config.max_size))
        middle = np.array([leader.left, leader.top]) + np.array(leader.alpha.shape[::-1]) / 2
        turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.3) * leader.size
        centre = middle + far * np.array([np.cos(turn), np.sin(turn)])
        colour = (leader.colour + rng.normal(0, 0.06, 3)).clip(0, 1)
    alpha, left, top = _mask(label, size, centre, config.aspect, rng)
    return _Shape(label, size, alpha, left, top, colour.astype(np.float32))


def _mask(label: int, size: float, centre: np.ndarray, aspect: float, rng: np.random.Generator):
    """The shape's anti-aliased mask with the left and top of its patch."""
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(aspect))
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    margin = 3
    half = size / 2 * max(stretch, 1 / stretch) * 1.21 + margin
    left, top = math.floor(centre[0] - half), math.floor(centre[1] - half)
    side = math.ceil(2 * half) + 1
    canvas = Image.new("L", (side * _SUPERSAMPLING,) * 2)
    draw = ImageDraw.Draw(canvas)
    for outline, fill in _OUTLINES[CLASS_NAMES[label]]:
        points = outline * [stretch, 1 / stretch] @ rotation.T * size / 2 + centre - [left, top]
        draw.polygon((points * _SUPERSAMPLING).ravel().tolist(), fill=fill)
    alpha = np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float32) / 255
    return alpha, left, top


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A palette colour, a little off."""
    colour = _PALETTE[rng.integers(len(_PALETTE))] * rng.uniform(0.8, 1.12) + rng.normal(0, 0.03, 3)
    return colour.clip(0, 1).astype(np.float32)


def _ground(config: ShapesConfig, rng: np.random.Generator) -> np.ndarray:
    """A textured ground (H, W, 3), float32 in 0..1: two muted colours mixed by smooth noise, with soft stripes."""
    side = config.image_size
    first, second = (0.65 * _colour(rng) + 0.35 * rng.uniform(0.1, 0.9) for _ in range(2))
    mix = 0.5 + 0.5 * _ramp((side, side), rng.uniform(0, 2 * np.pi), side)
    for cells in (4, 9, 24):
        coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        mix += config.texture * 0.5 / math.sqrt(cells) * smooth
    if rng.random() < 0.6:
        waves = 2 * np.pi * rng.uniform(4, 16) * _ramp((side, side), rng.uniform(0, np.pi), side)
        mix += config.texture * rng.uniform(0.1, 0.35) * np.tanh(3 * np.sin(waves))
    return first + mix.clip(0, 1)[..., None] * (second - first)


def _ramp(shape: tuple[int, int], turn: float, length: float) -> np.ndarray:
    """A plane through the middle of a picture that rises by 1 over `length` px in the direction `turn`; float32."""
    y, x = (np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in shape)
    return (y * (math.sin(turn) / length))[:, None] + x * (math.cos(turn) / length)


def _paint(canvas: np.ndarray, shape: _Shape, light: float, config: ShapesConfig, rng: np.random.Generator) -> None:
    """Paint the shape onto the canvas in place: a soft shadow, a fill shaded away from the light, a darker rim."""
    window, inner = shape.window(config.image_size)
    mask = Image.fromarray((shape.alpha * 255).astype(np.uint8))
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(1.2)), dtype=np.float32) / 255
    shift = (round(1.5 * math.sin(light)), round(1.5 * math.cos(light)))
    shadow = 0.45 * np.roll(soft, shift, (0, 1))[inner]

    shade = 1.0 - 0.35 * _ramp(soft.shape, light, shape.size) - 0.45 * (1 - soft)
    if rng.random() < 0.3:
        pitch = max(shape.size / rng.uniform(3, 6), 4)
        wave = np.sin(2 * np.pi * _ramp(soft.shape, rng.uniform(0, np.pi), pitch))
        shade += 0.3 * config.texture * np.tanh(2 * wave)
    fill = shape.colour * shade[inner][..., None]
    alpha = shape.alpha[inner][..., None]
    canvas[window] = canvas[window] * ((1 - shadow)[..., None] * (1 - alpha)) + fill * alpha


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight xyxy box of a mask, in pixel edges."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
