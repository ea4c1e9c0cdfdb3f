"""`otalab compare-assigners`: one image, labelled by every assigner."""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from otalab.assign import ASSIGNERS, AnchorPoints, Targets, build_assigner
from otalab.data import CLASS_NAMES, CocoDataset, ShapesConfig
from otalab.detect import Detector, build_detector
from otalab.detect.checkpoint import load_model
from otalab.detect.detector import as_targets
from otalab.detect.limits import PREDICT_PIXELS, shrunk_size
from otalab.errors import InputError, one_line
from otalab.files import write_json
from otalab.lab.compare_assigners import compare_assigners
from otalab.lab.simulate import seeded, simulate_predictions, simulate_scene

MOST_OBJECTS = 100  # an object that does not fit costs many tries


def run(a: argparse.Namespace) -> None:
    """Compare the assigners, print the table, and write the picture and the JSON file if asked for."""
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
        names = list(CLASS_NAMES)
        if description["class_names"] not in (None, names):
            raise InputError(f"the detector in {a.checkpoint} does not know the classes of shapes")
        title = f"shapes scene, seed {a.seed}"
        config = ShapesConfig(crowd=0.8, min_objects=a.objects, max_objects=a.objects)
        image, targets = simulate_scene(config, a.seed)
    else:
        title, image, targets, names = photo(Path(a.image), a.annotations, description["class_names"])
    if len(targets) == 0:
        raise InputError(f"{title} has no object to assign")

    if a.skill is not None:
        origin = f"simulated, skill {a.skill:g}"
        points = AnchorPoints.for_image(tuple(image.shape[-2:]))
        predictions = simulate_predictions(points, targets, len(names), generator, a.skill)
    else:
        origin = f"of {a.checkpoint}" if a.checkpoint else "of an untrained detector"
        model = model or untrained(len(names), a.seed)
        image, targets = resized(model, image, targets)
        with torch.inference_mode():
            points, (predictions,) = model.predict([image])
        origin += ", whose own anchor boxes max-iou compares" if predictions.anchors is not None else ""
    family = compare_assigners(points, predictions, targets, assigners)
    print(f"{one_line(title)}: {len(points)} anchor points, predictions {origin}")
    print(family)
    if a.picture:
        from otalab.viz.output import save_figure
        from otalab.viz.story import family_figure  # slow: loads Matplotlib

        figure = family_figure(image, points, targets, family, names, note=f"Predictions {origin}.")
        save_figure(figure, a.picture, dpi=100)
        print(f"picture  {a.picture}")
    if a.json:
        write_json(a.json, {"image": a.image, "predictions": origin, "seed": a.seed} | family.as_dict())


def untrained(num_classes: int, seed: int) -> Detector:
    """A detector with random weights; the global random generator is left unchanged."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_detector(num_classes=num_classes).eval()


def resized(model: Detector, image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """Resize an image (3, H, W) as the detector does, and scale its gts to match."""
    small = model.resize(image)
    ratio = (torch.tensor(small.shape[-2:]).flip(0) / torch.tensor(image.shape[-2:]).flip(0)).repeat(2)  # xyxy
    ignore = None if targets.ignore_boxes is None else targets.ignore_boxes * ratio
    return small, Targets(targets.boxes * ratio, targets.labels, ignore)


def photo(path: Path, annotations: Path | None, categories: list[str] | None) -> tuple[str, Tensor, Targets, list[str]]:
    """Load an image of a COCO-format folder: its title, the image (3, H, W) in 0..1, gts and class names.

    Raises InputError if the image or its annotations are missing.
    """
    if not path.is_file():
        raise InputError(f"no image {path}")
    dataset = CocoDataset(annotations or find_annotations(path), path.parent, small_enough, categories=categories)
    image, target = dataset[dataset.index_of(path.name)]
    (height, width), (low, narrow) = target["size"].tolist(), image.shape[-2:]
    note = "" if (height, width) == (low, narrow) else f" ({width} x {height} px, looked at in {narrow} x {low} px)"
    return path.name + note, image, as_targets(target), list(dataset.class_names)


def small_enough(image: Tensor, target: dict) -> tuple[Tensor, dict]:
    """Data set transform that shrinks a large image and its boxes before the image becomes float32."""
    size = list(shrunk_size(tuple(image.shape[-2:]), PREDICT_PIXELS))
    return resize(image, size), {**target, "boxes": resize(target["boxes"], size)}


def find_annotations(image: Path) -> Path:
    """Find the annotation file for the image's folder. If there is none, raises InputError with the places searched."""
    folder = image.parent.resolve()
    places = [folder.parent / "instances.json", folder.parent / "annotations" / f"instances_{folder.name}.json"]
    for place in places:
        if place.is_file():
            return place
    raise InputError(
        f"no annotations of {image}: looked for {' and '.join(map(str, places))}; name them (--annotations)"
    )
