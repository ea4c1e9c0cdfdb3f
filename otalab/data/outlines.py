"""The outlines of the six shapes, and a function that draws one as an anti-aliased mask."""

import math

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

CLASS_NAMES = ("circle", "square", "triangle", "star", "ring", "cross")

_SUPERSAMPLING = 4  # sub-pixels along each side of a pixel, which are averaged


def _spokes(count: int, *radii: float) -> np.ndarray:
    """`count` points (x, y) at equal angles about the origin, from the top on, with the radii in turn."""
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


def draw_mask(
    label: int, size: float, centre: Float[np.ndarray, "2"], stretch: float, turn: float
) -> tuple[Float[np.ndarray, "h w"], int, int]:
    """Draw a shape: its coverage of each pixel, float32 in 0..1, and the left and top of that patch in the image.

    `size` is the nominal diameter of the shape, px, and `centre` its (x, y). `stretch` is a factor by which the upright
    shape gets wider and, at the same time, flatter. `turn` is the rotation in radians. An empty margin of at least 2 px
    around the shape leaves room for a shadow.
    """
    half = size / 2 * max(stretch, 1 / stretch) * 1.21 + 3
    corner = np.floor(centre - half)
    side = math.ceil(2 * half) + 1
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    canvas = Image.new("L", (side * _SUPERSAMPLING,) * 2)
    draw = ImageDraw.Draw(canvas)
    for outline, fill in _OUTLINES[CLASS_NAMES[label]]:
        points = outline * [stretch, 1 / stretch] @ rotation.T * size / 2 + centre - corner
        draw.polygon((points * _SUPERSAMPLING).ravel().tolist(), fill=fill)
    alpha = np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float32) / np.float32(255)
    return alpha, int(corner[0]), int(corner[1])
