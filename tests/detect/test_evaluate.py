import copy
import json

import numpy as np
import pytest
import torch

from otalab.data import CLASS_NAMES, CocoDataset
from otalab.detect import Detector, build_detector
from otalab.detect.evaluate import NAMES, coco_metrics, detect, evaluate, open_split, precision_curves
from otalab.errors import InputError

from .models import eager_detector

BACKENDS = ["pycocotools", "faster-coco-eval"]


class Oracle(Detector):
    """A detector that says what it was told about the images, in their order."""

    def __init__(self, answers: list[dict]) -> None:
        parts = build_detector(num_classes=6, channels=16, num_convs=1)
        super().__init__(parts.backbone, parts.head, parts.assigner)
        self.answers = list(answers)

    def forward(self, images, targets=None):
        said, self.answers = self.answers[: len(images)], self.answers[len(images) :]
        return said


def truth_as_answers(dataset: CocoDataset) -> list[dict]:
    answers = []
    for _, target in dataset:
        scores = torch.linspace(0.9, 0.5, len(target["labels"]))
        answers.append({"boxes": target["boxes"], "labels": target["labels"], "scores": scores})
    return answers


def noisy(seed: int, images: int = 6, crowds: bool = True) -> tuple[dict, list[dict]]:
    """A ground truth of four categories with ids that are no range, the last without a gt, and detections of it:
    jittered, of wrong classes, repeated, and made up."""
    rng = np.random.default_rng(seed)
    categories = [{"id": i, "name": name} for i, name in ((3, "cat"), (5, "dog"), (17, "owl"), (90, "elk"))]
    truth = {"info": {}, "categories": categories, "annotations": []}
    truth["images"] = [
        {"id": 10 * i, "width": 300, "height": 300, "file_name": f"{i}.png"} for i in range(1, images + 1)
    ]
    results = []
    for image in truth["images"]:
        for _ in range(rng.integers(1, 12)):
            size = rng.uniform(8, 150, 2)
            box = [*rng.uniform(0, 300 - size), *size]
            crowd = int(crowds and rng.random() < 0.15)
            row = {"id": len(truth["annotations"]) + 1, "image_id": image["id"], "bbox": [float(v) for v in box]}
            row |= {"category_id": int(rng.choice([3, 5, 17])), "area": float(size[0] * size[1]), "iscrowd": crowd}
            truth["annotations"].append(row)
            for _ in range(rng.integers(0, 4)):
                jitter = rng.normal(0, 0.08, 4) * [size[0], size[1], size[0], size[1]]
                category = row["category_id"] if rng.random() < 0.8 else int(rng.choice([3, 5, 17, 90]))
                results.append(detection(image["id"], category, np.maximum(np.array(box) + jitter, 1), rng.random()))
        for _ in range(rng.integers(0, 6)):
            box = [*rng.uniform(0, 200, 2), *rng.uniform(5, 100, 2)]
            results.append(detection(image["id"], int(rng.choice([3, 5, 17, 90])), box, rng.random()))
    return truth, results


def detection(image: int, category: int, box, score: float) -> dict:
    return {"image_id": image, "category_id": category, "bbox": [float(v) for v in box], "score": float(score)}


@pytest.mark.parametrize("seed", range(6))
def test_both_backends_give_the_same_numbers(seed):
    truth, results = noisy(seed)
    reference, faster = (coco_metrics(copy.deepcopy(truth), results, backend) for backend in BACKENDS)
    assert list(reference) == list(faster) and set(NAMES) <= set(reference)
    assert {name for name in reference if name.startswith("AP/")} == {"AP/cat", "AP/dog", "AP/owl"}
    assert faster == pytest.approx(reference, rel=1e-9, abs=1e-12, nan_ok=True)
    assert 0 < reference["AP"] < 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_numbers_are_pycocotools_own(backend, capsys):
    """Against a plain use of the reference, category by category."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = noisy(7)
    metrics = coco_metrics(copy.deepcopy(truth), results, backend)
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    for name, ids in [("", [3, 5, 17, 90]), ("/cat", [3]), ("/dog", [5]), ("/owl", [17])]:
        run = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        run.params.catIds = ids
        run.evaluate()
        run.accumulate()
        run.summarize()
        assert metrics[f"AP{name}"] == pytest.approx(run.stats[0], rel=1e-9)
        assert metrics[f"AP50{name}"] == pytest.approx(run.stats[1], rel=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_perfect_detections_have_an_average_precision_of_one(backend, shapes):
    dataset = CocoDataset.from_folder(shapes, "val")
    metrics = evaluate(Oracle(truth_as_answers(dataset)), dataset, batch_size=3, progress=False, backend=backend)
    measured = {name: value for name, value in metrics.items() if not np.isnan(value) and name not in ("AR1", "AR10")}
    assert measured == pytest.approx(dict.fromkeys(measured, 1.0)) and {"AP", "APs"} <= measured.keys()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_detected_is_an_average_precision_of_nought(backend, shapes):
    dataset = CocoDataset.from_folder(shapes, "val")
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    metrics = evaluate(Oracle([nothing] * len(dataset)), dataset, progress=False, backend=backend)
    assert metrics["AP"] == metrics["AP50"] == metrics["AR100"] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_crowd_neither_rewards_nor_punishes(backend):
    truth, _ = noisy(1, images=1, crowds=False)
    first = truth["annotations"][0]
    found = [detection(10, a["category_id"], a["bbox"], 0.8) for a in truth["annotations"]]

    def measure(results: list[dict]) -> dict[str, float]:
        metrics = coco_metrics(copy.deepcopy(truth), results, backend)
        return {k: v for k, v in metrics.items() if k not in ("AR1", "AR10")}  # of the best one or ten, crowd's or not

    without = measure(found)
    crowd = first | {"id": 999, "iscrowd": 1, "bbox": [200.0, 200.0, 90.0, 90.0], "area": 8100.0}
    inside = [detection(10, first["category_id"], [210.0, 210.0, 30.0, 30.0], 0.99)] * 5
    truth["annotations"].append(crowd)
    assert measure(found + inside) == pytest.approx(without, nan_ok=True)
    assert measure(found) == pytest.approx(without, nan_ok=True)  # missing it is no fault either
    truth["annotations"].pop()
    assert measure(found + inside)["AP"] < without["AP"]  # without the crowd they are false


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_the_curves_is_the_average_precision(seed, backend):
    truth, results = noisy(seed)
    metrics, curves = coco_metrics(truth, results, backend), precision_curves(truth, results, backend)
    assert curves.precision.shape == (10, 101, 4)
    assert curves.iou == pytest.approx(np.arange(0.5, 1, 0.05)) and curves.recall == pytest.approx(np.arange(101) / 100)
    assert curves.mean().mean() == pytest.approx(metrics["AP"], rel=1e-12)
    assert curves.mean()[0].mean() == pytest.approx(metrics["AP50"], rel=1e-12)
    assert curves.mean()[5].mean() == pytest.approx(metrics["AP75"], rel=1e-12)
    for name, values in zip(curves.class_names, curves.precision.transpose(2, 0, 1), strict=True):
        if name == "elk":
            assert np.isnan(values).all()
        else:
            assert values.mean() == pytest.approx(metrics[f"AP/{name}"], rel=1e-12)
            assert (np.diff(values, axis=1) <= 0).all(), "interpolated precision never rises with recall"


@pytest.mark.parametrize("backend", BACKENDS)
def test_curves_of_no_detection_are_0_and_of_no_gt_nan(backend):
    truth, results = noisy(0)
    assert (precision_curves(truth, [], backend).mean() == 0).all()
    nothing = precision_curves({**truth, "annotations": []}, results, backend)
    assert np.isnan(nothing.mean()).all() and nothing.mean().shape == (10, 101)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_category_of_crowds_alone_is_absent(backend):
    truth, results = noisy(2, crowds=False)
    for row in truth["annotations"]:
        row["iscrowd"] = int(row["category_id"] == 5)
    metrics = coco_metrics(truth, results, backend)
    assert "AP/dog" not in metrics and "AP/elk" not in metrics and "AP/cat" in metrics


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_size_without_gts_is_nan_and_never_minus_one(backend):
    truth, results = noisy(3)
    for row in truth["annotations"]:
        row["area"] = 50.0
    metrics = coco_metrics(truth, results, backend)
    assert np.isnan(metrics["APl"]) and np.isnan(metrics["ARm"]) and metrics["APs"] >= 0


def test_results_are_not_written_into():
    truth, results = noisy(4)
    before = copy.deepcopy(results)
    for backend in BACKENDS:
        coco_metrics(truth, results, backend)
    assert results == before


def test_detections_are_coco_results_with_the_ids_of_the_file(edit_annotations):
    def renumber(content):
        for row in content["categories"]:
            row["id"] = 100 - 10 * row["id"]
        for row in content["annotations"]:
            row["category_id"] = 100 - 10 * row["category_id"]
        for row in content["images"]:
            row["id"] += 500
        for row in content["annotations"]:
            row["image_id"] += 500

    dataset = CocoDataset.from_folder(edit_annotations(renumber, "val"), "val")
    assert dataset.class_names == list(reversed(CLASS_NAMES))  # in the order of their ids
    results = detect(Oracle(truth_as_answers(dataset)), dataset, batch_size=3, progress=False)
    said = {(r["image_id"], r["category_id"], *np.round(r["bbox"], 3)) for r in results}
    content = json.loads(dataset.annotations.read_text())
    true = {(a["image_id"], a["category_id"], *np.round(a["bbox"], 3)) for a in content["annotations"]}
    assert said == true and len(true) > 10


def test_a_detector_is_evaluated_in_evaluation_mode_without_gradients(shapes):
    model = eager_detector(num_classes=6).train()
    results = detect(model, CocoDataset.from_folder(shapes, "val"), progress=False)
    assert not model.training and len(results) > 100
    assert {type(r["score"]) for r in results} == {float} and {type(r["image_id"]) for r in results} == {int}


def test_an_unknown_backend_is_named(shapes):
    with pytest.raises(InputError, match="'coco' is neither pycocotools nor faster-coco-eval"):
        coco_metrics(*noisy(0), backend="coco")


def test_a_backend_that_is_not_installed_is_named_and_not_needed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    truth, results = noisy(0)
    with pytest.raises(InputError, match="faster-coco-eval is not installed"):
        coco_metrics(truth, results, backend="faster-coco-eval")
    assert coco_metrics(truth, results) == pytest.approx(coco_metrics(truth, results, "pycocotools"), nan_ok=True)


def test_a_split_whose_labels_would_mean_something_else_is_refused(shapes):
    assert open_split(shapes, "val", ["circle", "ring"]).class_names == ["circle", "ring"]
    with pytest.raises(InputError, match="has 'circle' where the detector has 'ring'"):
        open_split(shapes, "val", ["ring", "circle"])
    with pytest.raises(InputError, match="no category 'hexagon'"):
        open_split(shapes, "val", ["circle", "hexagon"])
