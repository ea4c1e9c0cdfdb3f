"""`otalab compare-assigners`: its flags, and what it does with them."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from otalab.assign import ASSIGNERS, AnchorPoints, Predictions, Targets, build_assigner
from otalab.cli.flags import count, picture
from otalab.data.coco import CocoDataset
from otalab.data.scene import CLASS_NAMES, ShapesConfig
from otalab.detect import Detector, build_detector
from otalab.detect.checkpoint import load_model
from otalab.detect.detector import as_targets
from otalab.detect.limits import PREDICT_PIXELS, shrunk_size
from otalab.errors import InputError, one_line
from otalab.files import write_json
from otalab.lab.compare_assigners import FamilyComparison, compare_assigners
from otalab.lab.simulate import seeded, simulate_predictions, simulate_scene

DESCRIPTION = """Let every assigner label one image from the same predictions: how many positives each object gets, who
gets none, what becomes of points that several objects may claim, and how far each is from the exact optimum."""
EPILOG = """Annotations are looked for where COCO-format folders have them: SPLIT/instances.json beside SPLIT/images/,
or annotations/instances_SPLIT2017.json beside SPLIT2017/."""


def add_compare_flags(command: argparse.ArgumentParser) -> None:
    """The flags of `compare-assigners`."""
    command.description, command.epilog = DESCRIPTION, EPILOG
    add = command.add_argument
    add("image", help='an image file of a COCO-format folder, or "shapes" for a drawn scene')
    add("--annotations", type=Path, metavar="FILE", help="COCO annotations of the image (default: found, see below)")
    add("--checkpoint", help="a run's folder: predictions of its detector (default: an untrained detector's)")
    add("--skill", type=float, metavar="S", help="simulated predictions instead, 0 (wild) to 1 (perfect)")
    add("--assigners", nargs="+", metavar="NAME", help="which (default: all)")
    add("--objects", type=count, default=8, help="with shapes: objects, as far as they fit (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the scene, weights and simulation (default: %(default)s)")
    add("--picture", type=picture, metavar="FILE", help="also draw all of them, as .png or .svg")
    add("--json", type=Path, help="also write the figures here")


MOST_OBJECTS = 100  # each that does not fit costs many tries


@dataclass(frozen=True)
class Subject:
    """An image with its gts.

    image: (3, H, W) float in 0..1
    """

    title: str
    image: Tensor
    targets: Targets
    class_names: list[str]


@dataclass(frozen=True)
class Seen:
    """An image as a detector sees it: resized, with its points, predictions and gts; `origin` says whose they are."""

    image: Tensor
    points: AnchorPoints
    predictions: Predictions
    targets: Targets
    origin: str


def run_compare(a: argparse.Namespace) -> int:
    """Compare, print, write what was asked for; the exit status."""
    if a.checkpoint and a.skill is not None:
        raise InputError("--skill simulates predictions and --checkpoint makes them; choose one")
    if a.skill is not None and not 0 <= a.skill <= 1:
        raise InputError(f"skill is {a.skill}; it lies in 0..1")
    generator = seeded(a.seed)
    if a.objects > MOST_OBJECTS:
        raise InputError(f"{a.objects} objects do not fit into a scene; {MOST_OBJECTS} are the most to try")
    assigners = {name: build_assigner(name) for name in a.assigners or ASSIGNERS}
    model, description = load_model(a.checkpoint) if a.checkpoint else (None, {"class_names": None})
    if a.image == "shapes":
        if description["class_names"] not in (None, list(CLASS_NAMES)):
            raise InputError(f"the detector in {a.checkpoint} does not know the classes of shapes")
        subject = drawn(a.objects, a.seed)
    else:
        subject = photo(Path(a.image), a.annotations, description["class_names"])
    if len(subject.targets) == 0:
        raise InputError(f"{subject.title} has no object to assign")
    seen = simulated(subject, a.skill, generator) if a.skill is not None else detected(subject, model, a)
    family = compare_assigners(seen.points, seen.predictions, seen.targets, assigners)
    print(f"{one_line(subject.title)}: {len(seen.points)} anchor points, predictions {seen.origin}")
    print(family)
    if a.picture:
        draw(a.picture, seen, subject.class_names, family)
        print(f"picture  {a.picture}")
    if a.json:
        write_json(a.json, {"image": a.image, "predictions": seen.origin, "seed": a.seed} | family.as_dict())
    return 0


def simulated(subject: Subject, skill: float, generator: torch.Generator) -> Seen:
    """The image with made-up predictions."""
    points = AnchorPoints.for_image(tuple(subject.image.shape[-2:]))
    predictions = simulate_predictions(points, subject.targets, len(subject.class_names), generator, skill)
    return Seen(subject.image, points, predictions, subject.targets, f"simulated, skill {skill:g}")


def detected(subject: Subject, model: Detector | None, a: argparse.Namespace) -> Seen:
    """The image with the predictions of a detector, an untrained one if there is no other."""
    origin = f"of {a.checkpoint}"
    if model is None:
        with torch.random.fork_rng():
            torch.manual_seed(a.seed)
            model = build_detector(num_classes=len(subject.class_names)).eval()
        origin = "of an untrained detector"
    image = model.resize(subject.image)
    with torch.inference_mode():
        points, (predictions,) = model.predict([image])
    if not model.assigner.trains_quality:
        predictions = replace(predictions, quality=None)
    ratio = (torch.tensor(image.shape[-2:]).flip(0) / torch.tensor(subject.image.shape[-2:]).flip(0)).repeat(2)
    ignore = subject.targets.ignore_boxes
    ignore = None if ignore is None else ignore * ratio
    targets = Targets(subject.targets.boxes * ratio, subject.targets.labels, ignore)
    return Seen(image, points, predictions, targets, origin)


def draw(path: Path, seen: Seen, class_names: list[str], family: FamilyComparison) -> None:
    """Write the picture."""
    from otalab.viz.output import save_figure  # Matplotlib takes its time to load
    from otalab.viz.story import family_figure

    note = f"Predictions {seen.origin}."
    save_figure(family_figure(seen.image, seen.points, seen.targets, family, class_names, note), path, dpi=100)


def drawn(objects: int, seed: int) -> Subject:
    """A crowded synthetic scene."""
    image, targets = simulate_scene(ShapesConfig(crowd=0.8, min_objects=objects, max_objects=objects), seed)
    return Subject(f"shapes scene, seed {seed}", image, targets, list(CLASS_NAMES))


def photo(path: Path, annotations: Path | None, categories: list[str] | None) -> Subject:
    """An image of a COCO-format folder. Raises InputError where it or its annotations are missing."""
    if not path.is_file():
        raise InputError(f"no image {path}")
    dataset = CocoDataset(annotations or find_annotations(path), path.parent, small_enough, categories=categories)
    image, target = dataset[dataset.index_of(path.name)]
    (height, width), (low, narrow) = target["size"].tolist(), image.shape[-2:]
    note = "" if (height, width) == (low, narrow) else f" ({width} x {height} px, looked at in {narrow} x {low} px)"
    return Subject(path.name + note, image, as_targets(target), list(dataset.class_names))


def small_enough(image: Tensor, target: dict) -> tuple[Tensor, dict]:
    """A transform of the data set: shrinks a large image, with its boxes, before it becomes float32."""
    size = list(shrunk_size(tuple(image.shape[-2:]), PREDICT_PIXELS))
    return resize(image, size), {**target, "boxes": resize(target["boxes"], size)}


def find_annotations(image: Path) -> Path:
    """The annotation file that lies where the image's folder says. Raises InputError naming where it was looked for."""
    folder = image.parent.resolve()
    places = [folder.parent / "instances.json", folder.parent / "annotations" / f"instances_{folder.name}.json"]
    for place in places:
        if place.is_file():
            return place
    raise InputError(
        f"no annotations of {image}: looked for {' and '.join(map(str, places))}; name them (--annotations)"
    )
