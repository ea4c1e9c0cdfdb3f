"""Which assigners leave a gt without a positive, and how often: on crowded synthetic scenes, and on a folder of photos.

python -m benchmarks.starved [--images N] [--data FOLDER [--split SPLIT] [--checkpoint RUN [--by-class]]]

Predictions are those of an untrained detector, simulated ones, and those of the checkpoint, if there is one. The row
"fewest possible" is the least number of gts that any labels from `ota`'s candidates must leave empty, because a point
can learn only one gt. With --by-class it prints instead how many positives a gt of each class gets from the
checkpoint's predictions.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from torch import Tensor
from tqdm import tqdm

from benchmarks.common import FOLDER
from otalab.assign import ASSIGNERS, AnchorPoints, RadiusPrior, Targets, build_assigner
from otalab.data import CLASS_NAMES, CocoDataset, ShapesConfig
from otalab.detect import build_detector
from otalab.detect.checkpoint import load_model
from otalab.detect.detector import as_targets
from otalab.errors import InputError
from otalab.files import write_json
from otalab.lab.simulate import Scene, simulate_predictions, simulate_scene

CROWD = ShapesConfig(crowd=1.0, min_objects=8, max_objects=14, min_size=14.0, max_size=40.0, min_visible=0.2)
SKILL = 0.7


@dataclass(frozen=True)
class Row:
    """Number of gts left without a positive, of images with such a gt, and of images that the assigner refused."""

    assigner: str
    empty: int
    images: int
    refused: int = 0


@dataclass(frozen=True)
class Table:
    name: str
    images: int
    gts: int
    without_candidate: int
    rows: list[Row]

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.gts} gts in {self.images} images, {self.without_candidate} without a candidate"]
        lines.append(f"{'assigner':<20}{'gts left empty':>16}{'images with one':>18}")
        for row in self.rows:
            share = f"{row.empty} ({row.empty / self.gts:.1%})"
            lines.append(
                f"{row.assigner:<20}{share:>16}{row.images:>18}" + f"  {row.refused} refused" * (row.refused > 0)
            )
        return "\n".join(lines)


def crowds(count: int) -> list[tuple[Tensor, Targets]]:
    """Synthetic scenes of overlapping objects."""
    return [simulate_scene(CROWD, [0, number]) for number in range(count)]


def photos(folder: str, split: str, count: int, categories: Sequence[str] | None) -> list[tuple[Tensor, Targets]]:
    """The first images of a COCO-format folder that have gts."""
    dataset = CocoDataset.from_folder(folder, split, categories=categories, background=0)
    items = (dataset[i] for i in range(min(count, len(dataset))))
    return [(image, as_targets(target)) for image, target in items]


def detected(model, images: Iterable[tuple[Tensor, Targets]]) -> Iterable[Scene]:
    """Yield a detector's predictions for each image."""
    for image, targets in images:
        with torch.inference_mode():
            points, (predictions,) = model.predict([image])
        yield Scene(points, predictions, targets)


def simulated(images: Iterable[tuple[Tensor, Targets]], num_classes: int) -> Iterable[Scene]:
    """Yield simulated predictions for each image, as in the middle of training."""
    generator = torch.Generator().manual_seed(0)
    for image, targets in images:
        points = AnchorPoints.for_image(tuple(image.shape[-2:]))
        yield Scene(points, simulate_predictions(points, targets, num_classes, generator, SKILL), targets)


def untrained(num_classes: int):
    """A detector with random weights."""
    torch.manual_seed(0)
    return build_detector(num_classes=num_classes).eval()


def starved(name: str, seen: Iterable[Scene], total: int) -> Table:
    """Count the gts that each assigner leaves empty, print the table and return it."""
    assigners = {name: build_assigner(name) for name in ASSIGNERS}
    empty: dict[str, list[int]] = {name: [] for name in [*assigners, "fewest possible"]}
    refused = dict.fromkeys(assigners, 0)
    gts = without = 0
    for points, predictions, targets in tqdm(seen, total=total, desc=name, leave=False, disable=None):
        gts += len(targets)
        mask = RadiusPrior().candidates(points, targets.boxes).or_nearest(points, targets.boxes).mask(len(points))
        without += int((~mask.any(dim=1)).sum())
        matched = maximum_bipartite_matching(csr_array(mask.numpy()), perm_type="column")
        empty["fewest possible"].append(int((matched < 0).sum()))
        for assigner, assign in assigners.items():
            try:
                empty[assigner].append(int((assign(points, predictions, targets).counts == 0).sum()))
            except InputError:
                refused[assigner] += 1
    rows = [
        Row(assigner, sum(each), sum(one > 0 for one in each), refused.get(assigner, 0))
        for assigner, each in empty.items()
    ]
    table = Table(name, total, gts, without, rows)
    print(table, end="\n\n", flush=True)
    return table


def by_class(seen: Iterable[Scene], class_names: Sequence[str]) -> dict[str, list[float]]:
    """Positives per gt of each class, by assigner, and the number of gts of each class under "gts"."""
    assigners = {name: build_assigner(name) for name in ASSIGNERS}
    sums = {name: torch.zeros(len(class_names), dtype=torch.float64) for name in ["gts", *assigners]}
    for points, predictions, targets in seen:
        found = {name: assign(points, predictions, targets).counts for name, assign in assigners.items()}
        for name, counts in ({"gts": torch.ones_like(targets.labels)} | found).items():
            sums[name].index_add_(0, targets.labels, counts.double())
    return {name: (s if name == "gts" else s / sums["gts"]).tolist() for name, s in sums.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Count, print the tables and write them to a file."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.starved", description=__doc__.splitlines()[0])
    flags.add_argument("--images", type=int, default=200, help="scenes, and photos, at most (default: %(default)s)")
    flags.add_argument("--data", help="COCO-format folder")
    flags.add_argument("--split", default="val", help="which split of it (default: %(default)s)")
    flags.add_argument("--checkpoint", help="a run's folder: also its detector's predictions for the photos")
    flags.add_argument("--by-class", action="store_true", help="positives per gt by class, printed; needs --checkpoint")
    flags.add_argument("--json", type=Path, default=FOLDER / "starved.json", help="(default: %(default)s)")
    given = flags.parse_args(argv)
    if given.by_class:
        if not (given.data and given.checkpoint):
            flags.error("--by-class needs --data and --checkpoint")
        model, about = load_model(given.checkpoint)
        names = about["class_names"]
        found = by_class(detected(model, photos(given.data, given.split, given.images, names)), names)
        print(f"{'positives per gt':<20}" + "".join(f"{name[:13]:>14}" for name in names))
        for assigner, values in found.items():
            print(f"{assigner:<20}" + "".join(f"{value:>14.1f}" for value in values))
        return 0
    scenes, classes = crowds(given.images), len(CLASS_NAMES)
    tables = [
        starved("crowded shapes, untrained detector", detected(untrained(classes), scenes), len(scenes)),
        starved(f"crowded shapes, simulated at skill {SKILL}", simulated(scenes, classes), len(scenes)),
    ]
    if given.data:
        model, about = load_model(given.checkpoint) if given.checkpoint else (None, {"class_names": None})
        images = photos(given.data, given.split, given.images, about["class_names"])
        classes = 1 + max(int(targets.labels.max()) for _, targets in images)
        tables.append(starved("photos, untrained detector", detected(untrained(classes), images), len(images)))
        tables.append(starved(f"photos, simulated at skill {SKILL}", simulated(images, classes), len(images)))
        if model is not None:
            tables.append(starved("photos, trained detector", detected(model, images), len(images)))
    asked = (
        f"--images {given.images}" + " --data FOLDER" * bool(given.data) + " --checkpoint RUN" * bool(given.checkpoint)
    )
    write_json(given.json, {"command": f"python -m benchmarks.starved {asked}", "tables": [asdict(t) for t in tables]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
