"""Images with random boxes, and gradients, for what the adapters must leave as it is."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from otalab.assign import Assignment
from otalab.data import ShapesConfig, draw_scene

BATCHES = 20


def random_batch(
    seed: int, size: int = 64, least: float = 6.0, num_images: int = 2, classes: int = 6
) -> tuple[list[Tensor], list[dict]]:
    """Noise with boxes of sides from `least` to the image's; one image of each batch of an even seed has none."""
    g = torch.Generator().manual_seed(seed)
    targets = []
    for i in range(num_images):
        m = 0 if (seed % 2, i) == (0, num_images - 1) else int(torch.randint(1, 7, (), generator=g))
        sides = least + (size - least) * torch.rand(m, 2, generator=g) ** 2
        corner = (size - sides) * torch.rand(m, 2, generator=g)
        labels = torch.randint(0, classes, (m,), generator=g)
        targets.append({"boxes": torch.cat((corner, corner + sides), dim=1), "labels": labels})
    return [torch.rand(3, size, size, generator=g) for _ in range(num_images)], targets


def shapes_batch(seeds: range, size: int = 64) -> tuple[list[Tensor], list[dict]]:
    """Drawn scenes, crowded."""
    config = ShapesConfig(image_size=size, max_objects=5, min_size=size / 8, max_size=size / 2)
    scenes = [draw_scene(config, np.random.default_rng(seed)) for seed in seeds]
    images = [torch.from_numpy(s.image).permute(2, 0, 1) / 255 for s in scenes]
    return images, [{"boxes": torch.from_numpy(s.boxes), "labels": torch.from_numpy(s.labels)} for s in scenes]


def gradients(model: nn.Module, loss: Tensor) -> Tensor:
    """Of all parameters, as one vector."""
    weights = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for w, g in zip(weights, found, strict=True)])


def assert_alike(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` of the largest number."""
    ours, theirs = ours.detach(), theirs.detach()
    assert float((ours - theirs).abs().max()) <= tolerance * float(theirs.abs().max())


def assert_learns(model: nn.Module, loss: Callable[[], Tensor], seen: list[Assignment], lr: float = 1e-3) -> None:
    """Thirty steps on a batch of four images: the loss falls, no gt is left out; `seen` is what `watch` was told."""
    optimizer, totals = torch.optim.Adam(model.parameters(), lr=lr), []
    for _ in range(30):
        total = loss()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert sum(totals[-5:]) < 0.8 * sum(totals[:5])
    assert len(seen) == 30 * 4
    assert_none_is_left_out(seen)


def assert_none_is_left_out(assignments: list[Assignment]) -> None:
    """Each gt has a positive, or there is none to get: every point that it may have is another's only one."""
    assert any(len(a.counts) for a in assignments)
    for a in assignments:
        for gt in (a.counts == 0).nonzero()[:, 0].tolist():
            takers = a.matched_gt[a.cost[gt].isfinite()]
            assert (takers >= 0).all() and (a.counts[takers] == 1).all()
