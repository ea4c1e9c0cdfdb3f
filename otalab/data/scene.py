"""Draw one scene of the shapes set.

A scene shows six kinds of shape on a textured ground. Shapes are rotated, may overlap, have log-uniform sizes, and
sometimes form clusters of one kind. They are first arranged back to front as masks only, and then painted.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageFilter
from torchvision.ops import masks_to_boxes

from otalab.data.outlines import CLASS_NAMES, draw_mask
from otalab.errors import InputError

_TRIES = 24  # placements that are tried for an object before it is left out
_PALETTE = (  # red orange yellow leaf green teal blue, navy purple pink cream brown slate ink
    "e4574b f28f3b f4c95d 8fb355 3c916e 2fa8a8 4a90d9 344e86 7a5ca8 c96ba1 f3e9d8 8c6a56 6f7c8a 2b2d3a"
)
_COLOURS = np.array([list(bytes.fromhex(colour)) for colour in _PALETTE.split()], dtype=np.float32) / np.float32(255)


@dataclass(frozen=True)
class ShapesConfig:
    """How hard the pictures are. Sizes are in pixels of the final image, probabilities and strengths in 0..1.

    Raises InputError for a value outside its range.
    """

    image_size: int = 128
    """Side of the square image, px."""
    min_objects: int = 2
    """Fewest objects that are drawn for a scene; see `max_objects`."""
    max_objects: int = 11
    """Most objects that are drawn for a scene; a scene too full to place them all keeps fewer."""
    min_size: float = 10.0
    """Smallest diameter of a shape, px. Diameters are log-uniform, so small shapes are common."""
    max_size: float = 64.0
    """Largest diameter of a shape, px."""
    spread: float = 1.0
    """Side of the square in which a scene's shapes have their centres, as a share of the image's side; in (0, 1]. Below
    1, each scene has its square at a random place, and the shapes lie in a heap."""
    crowd: float = 0.3
    """Probability that a scene holds a cluster of overlapping shapes of one class."""
    min_visible: float = 0.3
    """Least visible share of a shape, in (0, 1]; a placement that would leave less is drawn again."""
    aspect: float = 1.3
    """Largest ratio of a shape's stretch along its two axes, in 1..3."""
    contrast: float = 0.12
    """Least RGB distance (unit cube) from a shape's colour to the mean ground, in 0..0.5; 0 sets no limit. In a
    cluster it limits the first shape's colour; those of the others vary around it."""
    texture: float = 0.5
    """Strength of the ground's texture and of the stripes on shapes, in 0..1."""
    noise: float = 3.0
    """Standard deviation of the pixel noise, in 8-bit grey levels, in 0..64."""
    seed: int = 0
    """Seed of the set. Image i of a split depends only on (seed, split, i) and this configuration."""

    def __post_init__(self) -> None:
        objects, sizes = (self.min_objects, self.max_objects), (self.min_size, self.max_size, self.image_size)
        limits = {"crowd": (0, 1), "texture": (0, 1), "contrast": (0, 0.5), "aspect": (1, 3), "noise": (0, 64)}
        rules = {
            f"image_size must lie in 16..4096 px, got {self.image_size}": 16 <= self.image_size <= 4096,
            f"need 1 <= min_objects <= max_objects, got {objects[0]} and {objects[1]}": 1 <= objects[0] <= objects[1],
            f"need 6 <= min_size <= max_size <= image_size, got {sizes[0]}, {sizes[1]}, {sizes[2]}": (
                6 <= sizes[0] <= sizes[1] <= sizes[2]
            ),
            f"min_visible must lie in (0, 1], got {self.min_visible}": 0 < self.min_visible <= 1,
            f"spread must lie in (0, 1], got {self.spread}": 0 < self.spread <= 1,
            f"seed must not be negative, got {self.seed}": self.seed >= 0,
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            rules[f"{name} must lie in {low}..{high}, got {value}"] = low <= value <= high
        for rule, kept in rules.items():
            if not kept:
                raise InputError(f"ShapesConfig: {rule}")


class Scene(NamedTuple):
    """A picture and its ground truth, with the objects from back to front."""

    image: UInt8[np.ndarray, "h w 3"]
    boxes: Float[np.ndarray, "m 4"]
    """xyxy px, float32: the tight box of the visible pixels."""
    labels: Int[np.ndarray, " m"]
    """int64, an index into CLASS_NAMES."""
    masks: Bool[np.ndarray, "m h w"]
    """The visible pixels: those that the object covers by half or more."""
    visible: Float[np.ndarray, " m"]
    """float32 in 0..1: visible pixels divided by all pixels of the shape, including those outside the image."""


@dataclass
class _Shape:
    """A shape in its place: an anti-aliased mask, float32 in 0..1, and the (left, top) of this patch in the image."""

    label: int
    size: float
    alpha: np.ndarray
    left: int
    top: int
    colour: np.ndarray
    pixels: int  # of the whole shape, including those outside the image

    def window(self, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Index of the patch's part inside the image: in the image, and in the patch."""
        high, wide = self.alpha.shape
        (rows, own_rows), (columns, own_columns) = _overlap(self.top, high, side), _overlap(self.left, wide, side)
        return (rows, columns), (own_rows, own_columns)


def _overlap(start: int, length: int, side: int) -> tuple[slice, slice]:
    low, high = np.clip([start, start + length], 0, side).tolist()
    return slice(low, high), slice(low - start, high - start)


def draw_scene(config: ShapesConfig, rng: np.random.Generator) -> Scene:
    """Draw one scene: arrange shapes back to front, paint them, and read the boxes off the visible pixels."""
    ground = _ground(config, rng)
    shapes, coverage = _arrange(config, ground.mean((0, 1)), rng)
    light = rng.uniform(0, 2 * np.pi)
    for shape in shapes:
        _paint(ground, shape, light, config, rng)
    grain = rng.standard_normal(ground.shape[:2], dtype=np.float32) * config.noise  # grey, like film grain
    image = (ground * 255 + (grain + 0.5)[..., None]).clip(0, 255).astype(np.uint8)

    masks = coverage >= 0.5
    labels = np.array([shape.label for shape in shapes], dtype=np.int64)
    whole = np.array([shape.pixels for shape in shapes], dtype=np.float32)
    boxes = masks_to_boxes(torch.from_numpy(masks)).numpy() + np.array([0, 0, 1, 1], dtype=np.float32)  # pixel edges
    return Scene(image, boxes, labels, masks, masks.sum((1, 2)).astype(np.float32) / whole)


def _arrange(config: ShapesConfig, ground: np.ndarray, rng: np.random.Generator) -> tuple[list[_Shape], np.ndarray]:
    """Place shapes back to front; return them with their visible coverage (m, H, W), float32 in 0..1."""
    side = config.image_size
    count = int(rng.integers(config.min_objects, config.max_objects + 1))
    crowd = min(int(rng.integers(3, 7)), count) if rng.random() < config.crowd else 0
    corner = rng.uniform(0, (1 - config.spread) * side, 2) if config.spread < 1 else np.zeros(2)
    shapes: list[_Shape] = []
    coverage = np.zeros((0, side, side), dtype=np.float32)
    for i in range(count):
        for _ in range(_TRIES):
            shape = _propose(config, ground, corner, shapes[0] if shapes and i < crowd else None, rng)
            window, inner = shape.window(side)
            layer = np.zeros((1, side, side), dtype=np.float32)
            layer[0][window] = shape.alpha[inner]
            tried = np.concatenate([coverage * (1 - layer), layer])
            least = [max(config.min_visible * s.pixels, 1) for s in (*shapes, shape)]  # pixels that must stay visible
            if ((tried >= 0.5).sum((1, 2)) >= least).all():
                shapes.append(shape)
                coverage = tried
                break
    return shapes, coverage


def _propose(
    config: ShapesConfig, ground: np.ndarray, corner: np.ndarray, leader: _Shape | None, rng: np.random.Generator
) -> _Shape:
    """One random shape in the square at `corner`; with a leader, one of its class, near its size, colour and place."""
    label = int(rng.integers(len(CLASS_NAMES)))
    size = float(np.exp(rng.uniform(np.log(config.min_size), np.log(config.max_size))))
    centre = corner + config.spread * rng.uniform(0, config.image_size, 2)
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
    stretch, turn = config.aspect ** rng.uniform(-0.5, 0.5), rng.uniform(0, 2 * np.pi)
    alpha, left, top = draw_mask(label, size, centre, stretch, turn)
    pixels = int(np.count_nonzero(alpha >= 0.5))
    return _Shape(label, size, alpha, left, top, colour.astype(np.float32), pixels)


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A palette colour, varied a little."""
    colour = _COLOURS[rng.integers(len(_COLOURS))] * rng.uniform(0.8, 1.12) + rng.normal(0, 0.03, 3)
    return colour.clip(0, 1).astype(np.float32)


def _ground(config: ShapesConfig, rng: np.random.Generator) -> np.ndarray:
    """A textured ground (H, W, 3), float32 in 0..1: two muted colours mixed by smooth noise, with soft stripes."""
    side = config.image_size
    first, second = (0.65 * _colour(rng) + 0.35 * rng.uniform(0.1, 0.9) for _ in range(2))
    mix = 0.5 + 0.5 * _ramp((side, side), rng.uniform(0, 2 * np.pi), float(side))
    for cells in (4, 9, 24):
        coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        mix += config.texture * 0.5 / math.sqrt(cells) * smooth
    if rng.random() < 0.6:
        waves = 2 * np.pi * rng.uniform(4, 16) * _ramp((side, side), rng.uniform(0, np.pi), float(side))
        mix += config.texture * rng.uniform(0.1, 0.35) * np.tanh(3 * np.sin(waves))
    return first + mix.clip(0, 1)[..., None] * (second - first)


def _ramp(shape: tuple[int, int], turn: float, length: float) -> np.ndarray:
    """A plane that is 0 in the middle of a picture and rises by 1 per `length` px in direction `turn`; float32."""
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
        pitch = max(shape.size / rng.uniform(3, 6), 4.0)
        wave = np.sin(2 * np.pi * _ramp(soft.shape, rng.uniform(0, np.pi), pitch))
        shade += 0.3 * config.texture * np.tanh(2 * wave)
    fill = shape.colour * shade[inner][..., None]
    alpha = shape.alpha[inner][..., None]
    canvas[window] = canvas[window] * ((1 - shadow)[..., None] * (1 - alpha)) + fill * alpha
