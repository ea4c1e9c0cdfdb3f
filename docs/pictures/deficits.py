"""The picture of the deficit policies: `python -m docs.pictures.deficits OUT.png`."""

import argparse
import sys
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from otalab.assign import AnchorPoints, Assignment, RadiusPrior, build_assigner
from otalab.cli.flag_parts import picture
from otalab.data.scene import CLASS_NAMES, ShapesConfig
from otalab.errors import InputError
from otalab.lab.simulate import simulate_predictions, simulate_scene
from otalab.viz.boxes import draw_assignment, draw_boxes, ring_points, show_image, tally
from otalab.viz.output import save_figure
from otalab.viz.style import plural, style, title_figure

# objects crowded into one place and each predicted well: all want many points, and the same ones
SCENE = ShapesConfig(
    crowd=1.0, min_objects=6, max_objects=6, min_size=40.0, max_size=60.0, texture=0.2, noise=1.0, min_visible=0.12
)
SEED = 34  # chosen because there is a deficit and the boxes do not hide each other


def deficits_figure(seed: int = SEED) -> Figure:
    """Draw a crowd whose objects want more points than their priors hold, and how "drop" and "relax" resolve it."""
    image, targets = simulate_scene(SCENE, seed)
    points = AnchorPoints.for_image(tuple(image.shape[-2:]), strides=(12, 24))
    late = torch.Generator().manual_seed(seed)
    predictions = simulate_predictions(points, targets, len(CLASS_NAMES), late, skill=0.95)
    dropped, relaxed = (
        build_assigner("ota", deficits=policy)(points, predictions, targets) for policy in ("drop", "relax")
    )
    wanted = (dropped.counts + dropped.deficit).tolist()
    inside = RadiusPrior()(points, targets.boxes)
    with style():
        figure = Figure(figsize=(10.7, 4.3), dpi=150)
        axes = figure.subplots(1, 3)
        figure.subplots_adjust(left=0.01, right=0.99, bottom=0.13, top=0.79, wspace=0.04)
        headline = f"{len(targets)} objects want more points than their priors hold: share, or look outside"
        title_figure(figure, headline, 0.01, 0.258)
        show_image(axes[0], image)
        draw_boxes(axes[0], targets.boxes, numbered=True)
        draw_assignment(axes[1], image, points, dropped, targets, legend=False)
        draw_assignment(axes[2], image, points, relaxed, targets, legend=False)
        bought = ring_outside(axes[2], points, relaxed, inside)
        titles = (
            f"{sum(wanted)} points wanted, {int(inside.any(dim=0).sum())} in a prior",
            f"drop: an even share, {int(dropped.deficit.sum())} labels left out",
            f"relax: {plural(bought, 'point')} bought outside the priors",
        )
        numbers = wanted, dropped.counts.tolist(), relaxed.counts.tolist()
        for ax, title, counts, verb in zip(axes, titles, numbers, ("wants", "gets", "gets"), strict=True):
            ax.set_title(title, fontsize=10, fontweight="normal")
            tally(ax, counts, verb)
    return figure


def ring_outside(ax: Axes, points: AnchorPoints, assignment: Assignment, inside: torch.Tensor) -> int:
    """Ring the points that a gt got outside its prior, and return their number."""
    owner = assignment.matched_gt
    outside = (owner >= 0) & ~inside[owner.clamp(min=0), torch.arange(len(owner))]
    ring_points(ax, points, outside)
    return int(outside.sum())


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the picture. Returns 0, or 2 for faulty input, with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m docs.pictures.deficits", description=__doc__)
    parser.add_argument("out", type=picture, metavar="OUT.png", help="the picture to write")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the scene (default %(default)s)")
    options = parser.parse_args(arguments)
    try:
        save_figure(deficits_figure(options.seed), options.out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
