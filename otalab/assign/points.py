"""Where labels can go: the anchor points of an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from otalab.assign.upload import upload
from otalab.errors import InputError


@dataclass(frozen=True)
class Grid:
    """How anchor points lie: on (height, width) cells a level, at (i + offset) * stride."""

    maps: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    offset: float


@dataclass(frozen=True)
class AnchorPoints:
    """The locations that can learn an object: all cells of all FPN levels, finest level first, row-major.

    xy:     (n, 2) float, position in image px
    stride: (n,) float, px step of the point's level
    level:  (n,) int64, index of the level, 0 is the finest
    grid:   how they lie, if known: then a prior finds a gt's points by arithmetic and looks at no other
    """

    xy: Float[Tensor, "n 2"]
    stride: Float[Tensor, " n"]
    level: Int[Tensor, " n"]
    grid: Grid | None = None

    @classmethod
    def for_image(
        cls,
        size: tuple[int, int],
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        offset: float = 0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "AnchorPoints":
        """Points of an image of `size` (height, width) px: ceil(H/s) x ceil(W/s) a level, at (i + offset) * s.

        Raises InputError if a size or stride is not positive.
        """
        if any(s <= 0 for s in strides):
            raise InputError(f"strides {list(strides)} must be positive")
        maps = [(-(-size[0] // s), -(-size[1] // s)) for s in strides]
        return cls.for_feature_maps(maps, strides, offset, device, dtype)

    @classmethod
    def for_feature_maps(
        cls,
        maps: Sequence[tuple[int, int]],
        strides: Sequence[int],
        offset: float = 0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "AnchorPoints":
        """Points of feature maps of the given (height, width) in cells, one for each stride.

        Raises InputError if there are not as many maps as strides, or a size or stride is not positive.
        """
        if len(maps) != len(strides):
            raise InputError(f"{len(maps)} feature maps but {len(strides)} strides")
        if any(h < 1 or w < 1 or s <= 0 for (h, w), s in zip(maps, strides, strict=True)):
            raise InputError(f"feature maps {list(maps)} and strides {list(strides)} must be positive")
        make = {"device": device, "dtype": dtype}
        xy, stride, level = [], [], []
        for index, ((h, w), s) in enumerate(zip(maps, strides, strict=True)):
            y, x = torch.meshgrid(torch.arange(h, **make), torch.arange(w, **make), indexing="ij")
            xy.append((torch.stack((x, y), dim=-1).reshape(-1, 2) + offset) * s)
            stride.append(torch.full((h * w,), s, **make))
            level.append(torch.full((h * w,), index, device=device, dtype=torch.int64))
        grid = Grid(tuple((h, w) for h, w in maps), tuple(strides), offset)
        return cls(torch.cat(xy), torch.cat(stride), torch.cat(level), grid)

    def __len__(self) -> int:
        return len(self.stride)

    @cached_property
    def grid_tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Stride (float64), width, height and first point of each level of the grid, (levels, 1) each."""
        starts = [0]
        for h, w in self.grid.maps:
            starts.append(starts[-1] + h * w)
        rows = [[w for _, w in self.grid.maps], [h for h, _ in self.grid.maps], starts[:-1], list(self.grid.strides)]
        width, height, start, stride = upload(rows, self.xy.device)[..., None]
        return stride.double(), width, height, start

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "AnchorPoints":
        """The same points on another device or in another float dtype."""
        return AnchorPoints(
            self.xy.to(device=device, dtype=dtype),
            self.stride.to(device=device, dtype=dtype),
            self.level.to(device=device),
            self.grid,
        )

    def boxes(self, scale: float | int = 8) -> Float[Tensor, "n 4"]:
        """A square box of `scale` strides a side on every point, for the assigners that compare anchor boxes."""
        half = self.stride[:, None] * (scale / 2)
        return torch.cat((self.xy - half, self.xy + half), dim=-1)
