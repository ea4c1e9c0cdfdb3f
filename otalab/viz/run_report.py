"""The page of a training run: its losses and AP, what it finds and misses, its labels and its time."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from otalab.data.annotations import choose_categories, find_split, read_annotations
from otalab.data.coco import CocoDataset
from otalab.detect.evaluate import open_split, precision_curves
from otalab.lab.gt_bins import crowding_bins
from otalab.lab.mistakes import as_tensors, by_image, mistakes_by_image, total_mistakes, worst_images
from otalab.lab.photos import SHOWN_IOU, even_score
from otalab.lab.run_record import RunRecord, duration, part_seconds, read_run
from otalab.viz.detections import detection_grid
from otalab.viz.evaluation import draw_crowding, draw_mistakes, draw_precision_recall
from otalab.viz.report import Column, Report
from otalab.viz.steps import draw_empty, draw_positives, draw_time
from otalab.viz.style import page_figure, plural, style
from otalab.viz.training import training_figure

MOST_CLASSES = 24  # most rows in the table of classes
WORST = 3  # images with mistakes that are shown
SIZES = {"s": "under 32 px", "m": "32 to 96 px", "l": "over 96 px"}  # by suffix of COCO's metric names


def write_run_report(folder: str | Path, heldout: CocoDataset | None = None) -> Path:
    """Write `folder/report.html` from a run's config.json, log.jsonl and, if there is one, detections.json.

    detections.json holds the COCO results of the last evaluation on the validation split of the run's data. `heldout`
    is that split; it is opened if not given. Sections for which the files hold no data are left out. Returns the path
    of the page. Raises InputError if the folder is not that of a run, if its data are not where config.json says, or if
    the page cannot be written.
    """
    run = read_run(folder)
    about = ", ".join(f"{key} {run.settings[key]}" for key in ("assigner", "backbone", "data", "seed"))
    report = Report(f"Run {run.folder.resolve().name}", about).add_cards(headline_cards(run))
    add_run_sections(report, run, heldout)
    return report.write(run.folder / "report.html")


def headline_cards(run: RunRecord) -> list[tuple[str, str, str]]:
    """The AP, AP50, best step and training time of a run, for `Report.add_cards`."""
    ap, ap50 = (run.metrics.get(name, math.nan) for name in ("AP", "AP50"))
    best, step = run.best
    epochs, of = len({line["epoch"] for line in run.steps}), run.settings["epochs"]
    return [
        ("AP", f"{ap:.3f}", "COCO's, at the last evaluation"),
        ("AP50", f"{ap50:.3f}", "IoU at least 0.5"),
        ("best step", "–" if step is None else f"{step:,}", f"AP {best:.3f}, of {len(run.evaluations)} evaluated"),
        ("training", duration(run.seconds), f"{plural(len(run.steps), 'step')}, epoch {epochs} of {of}"),
    ]


@style()
def add_run_sections(report: Report, run: RunRecord, heldout: CocoDataset | None = None) -> None:
    """Add all sections of a run's page, from top to bottom; see `write_run_report`."""
    add_training(report, run)
    add_metrics(report, run.metrics)
    if (run.folder / "detections.json").is_file():
        heldout = heldout or open_heldout(run.settings)
        truth, results = heldout.ground_truth(), json.loads((run.folder / "detections.json").read_bytes())
        add_precision(report, truth, results)
        add_mistakes(report, heldout, truth, results)
    if any("positives" in line for line in run.steps):
        add_labels(report, run)
    if any(part_seconds(run.steps).values()):
        add_time(report, run)
    report.add_section("Settings")
    report.add_table([{"setting": key, "value": str(value)} for key, value in run.settings.items()])


def open_heldout(settings: dict) -> CocoDataset:
    """Open the validation split of a run's data folder, with the classes that the run was trained on."""
    annotations, _ = find_split(settings["data"], "train")
    names, _ = choose_categories(read_annotations(annotations), settings["categories"], annotations)
    return open_split(settings["data"], "val", names)


def add_training(report: Report, run: RunRecord) -> None:
    """Add losses and AP over steps."""
    report.add_section("How it learnt", f"{plural(len(run.evaluations), 'evaluation')} on held-out images.")
    report.add_figure(training_figure(run.log), "Losses and held-out AP during training.", "Losses and AP over steps.")


def add_metrics(report: Report, metrics: dict[str, float]) -> None:
    """Add the AP of the last evaluation by class and by object size."""
    names = [name[3:] for name in metrics if name.startswith("AP/")]
    if not names:
        return
    rows = [{"class": name, "AP": metrics[f"AP/{name}"], "AP50": metrics[f"AP50/{name}"]} for name in names]
    rows.sort(key=lambda row: -row["AP"])
    report.add_section("What it finds", f"Best at {rows[0]['class']}, worst at {rows[-1]['class']}.")
    caption = "Average precision by class"
    if len(rows) > MOST_CLASSES:
        caption += f": the {MOST_CLASSES // 2} best and the {MOST_CLASSES // 2} worst of {len(rows)}"
        rows = rows[: MOST_CLASSES // 2] + rows[-MOST_CLASSES // 2 :]
    rows.append({"class": "all", "AP": metrics["AP"], "AP50": metrics["AP50"]})
    columns = ["class", Column("AP", format=".3f"), Column("AP50", format=".3f")]
    report.add_table(rows, columns, caption, lambda row: row is rows[-1])
    sizes = [{"size": size, "AP": metrics[f"AP{end}"], "AR": metrics[f"AR{end}"]} for end, size in SIZES.items()]
    caption = "Average precision and recall by object size (side of a square of equal area)"
    report.add_table(sizes, ["size", Column("AP", format=".3f"), Column("AR", format=".3f")], caption)


def add_precision(report: Report, truth: dict, results: Sequence[dict]) -> None:
    """Add precision over recall, and recall and AP by crowding."""
    curves = precision_curves(truth, results)
    shown = {f"IoU {iou}": curves.mean()[round((iou - 0.5) / 0.05)] for iou in SHOWN_IOU}
    reached = 100 * curves.recall[shown["IoU 0.5"] >= 0.1].max(initial=0)
    figure = page_figure(4.0, wspace=0.06)
    left, right = figure.subplots(1, 2)
    draw_precision_recall(left, curves.recall, shown, f"10 % precision up to {reached:.0f} % recall")
    draw_crowding(right, crowding_bins(truth, results))
    report.add_section(
        "Precision and crowding",
        "A detector may be sure of some gts and blind for others: crowded ones are harder to find and to tell apart.",
    )
    report.add_figure(
        figure,
        "Left: precision over recall, the mean over classes. Right: recall and AP by the overlap with another gt. "
        "For AP the gts of other bins are ignored, but false detections count in every bin: few gts make a low AP.",
        "Curves of precision over recall, and bars of recall and AP by crowding.",
    )


def add_mistakes(report: Report, heldout: CocoDataset, truth: dict, results: Sequence[dict]) -> None:
    """Add the kinds of mistakes, and the images with the most mistakes."""
    score = math.floor(1000 * even_score(truth, results)) / 1000
    each = mistakes_by_image(truth, results, score)
    total = total_mistakes(each.values())
    figure = page_figure(4.0, hspace=0.1)
    above, below = figure.subplots(2, 1)
    found, right = (100 * part.found / max(1, part.total) for part in (total.gts, total.detections))
    draw_mistakes(above, {"held out": total.gts}, f"{found:.0f} % of the gts are found")
    draw_mistakes(below, {"held out": total.detections}, f"{right:.0f} % of the detections are right")
    report.add_section(
        "Mistakes", f"Detections of a score of at least {score:g}: about as many as there are gts. IoU 0.5 is found."
    )
    report.add_figure(figure, "What became of every gt and of every detection.", "Stacked bars of kinds of mistakes.")
    ids = worst_images(each, WORST)
    if ids:
        report.add_figure(
            worst_figure(heldout, results, ids, score),
            "The images with the most gts not found and false detections: ground truth above, detections beneath.",
            f"{plural(len(ids), 'image')}, each with its true boxes above and the detected boxes beneath.",
            dpi=120,
        )


def worst_figure(heldout: CocoDataset, results: Sequence[dict], ids: Sequence[int], score: float) -> Figure:
    """A `detection_grid` of the images with these ids, of detections with a score of at least `score`."""
    said = by_image(results)
    images, targets = zip(*(heldout[heldout.image_ids.index(i)] for i in ids), strict=True)
    detections = [as_detection(said[i], heldout.category_ids) for i in ids]
    return detection_grid(images, targets, detections, heldout.class_names, 3, score)


def as_detection(rows: Sequence[dict], category_ids: Sequence[int]) -> dict[str, Tensor]:
    """Convert COCO results of one image to a detector's output: boxes (d, 4) xyxy in px, labels and scores."""
    boxes, _ = as_tensors(rows)
    labels = torch.tensor([category_ids.index(row["category_id"]) for row in rows], dtype=torch.int64)
    return {"boxes": boxes, "labels": labels, "scores": torch.tensor([row["score"] for row in rows])}


def add_labels(report: Report, run: RunRecord) -> None:
    """Add positives per gt and the share of gts without a positive, over steps."""
    figure = page_figure(3.4, wspace=0.06)
    left, right = figure.subplots(1, 2)
    draw_positives(left, run.steps)
    draw_empty(right, run.steps)
    report.add_section(
        "Labels", f"How many anchor points {run.settings['assigner']} lets learn a gt, and how many gts get none."
    )
    report.add_figure(
        figure, "Each step pale, their course in blue.", "Positives per gt, and gts left empty, over steps."
    )


def add_time(report: Report, run: RunRecord) -> None:
    """Add how the time of the steps divides into their parts."""
    figure = page_figure(1.7)
    draw_time(figure.subplots(), run.steps)
    report.add_section("Where the time goes", "Forward is without assignment; backward holds the optimiser's step.")
    report.add_figure(figure, "All steps together, evaluation left out.", "One bar of shares of time.")
