"""The page of a run, from the files of a run that was trained, and its figures."""

import json
import re

import pytest

from otalab.data import CocoDataset
from otalab.errors import InputError
from otalab.lab.gt_bins import CROWDING, GtBin
from otalab.lab.run_record import PARTS, read_run
from otalab.viz import run_report
from otalab.viz.compare_runs import compare_report, draw_ap_courses
from otalab.viz.evaluation import draw_crowding
from otalab.viz.run_report import as_detection, headline_cards, write_run_report
from otalab.viz.steps import draw_empty, draw_positives, draw_time

from .scenes import axes, rendered, texts
from .test_report import Page

SECTIONS = ["How it learnt", "What it finds", "Precision and crowding", "Mistakes", "Labels", "Where the time goes"]
SECONDS = dict(zip(PARTS.values(), (1.0, 4.0, 1.0, 14.0), strict=True))
NAN = float("nan")


def step(number: int, **counts) -> dict:
    return {"step": number, "epoch": 0, "loss": 2 / number, "seconds": 2.0 * number} | counts


def full_log(metrics: dict) -> list[dict]:
    steps = [step(i, gts=10, positives=10 * i, empty_gts=i % 2, **SECONDS) for i in range(1, 9)]
    return [*steps, {"step": 8, "epoch": 0, "metrics": metrics}]


METRICS = {
    "AP": 0.4,
    "AP50": 0.6,
    "AP75": 0.5,
    "APs": 0.3,
    "APm": 0.5,
    "APl": None,
    "ARs": 0.4,
    "ARm": 0.6,
    "ARl": None,
}
METRICS |= {"AP/circle": 0.7, "AP50/circle": 0.8, "AP/ring": 0.1, "AP50/ring": 0.2}


@pytest.fixture
def run_folder(shapes, tmp_path):
    """`run_folder(log, results)`: the folder of a run on the shapes."""

    def make(log: list[dict], results: list[dict] | None = None, name: str = "run", **settings):
        folder = tmp_path / name
        folder.mkdir()
        content = {"data": str(shapes), "out": str(folder), "assigner": "ota", "epochs": 1} | settings
        (folder / "config.json").write_text(json.dumps(content))
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
        if results is not None:
            (folder / "detections.json").write_text(json.dumps(results))
        return folder

    return make


@pytest.fixture
def found(shapes) -> list[dict]:
    """A detection of each gt but every third, which is missed, and each fifth of them of a wrong class."""
    results = []
    for i, row in enumerate(CocoDataset.from_folder(shapes, "val").ground_truth()["annotations"]):
        category = 1 + row["category_id"] % 6 if i % 5 == 0 else row["category_id"]
        if i % 3:
            place = {key: row[key] for key in ("image_id", "bbox")}
            results.append(place | {"category_id": category, "score": 0.9 - i / 1000})
    return results


def headings(path) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", path.read_text())


def test_a_page_has_all_sections_and_loads_nothing(run_folder, found):
    path = write_run_report(run_folder(full_log(METRICS), found))
    page = Page(path.read_text())
    assert path.name == "report.html" and headings(path) == [*SECTIONS, "Settings"]
    assert len(page.named("img")) == 6
    assert all(image["src"].startswith("data:") and image["alt"] for image in page.named("img"))


def test_an_old_run_has_a_page_without_what_its_files_do_not_hold(run_folder):
    path = write_run_report(run_folder([step(i) for i in range(1, 4)] + [full_log(METRICS)[-1]]))
    assert headings(path) == ["How it learnt", "What it finds", "Settings"]


def test_a_run_that_was_not_evaluated_has_a_page(run_folder):
    path = write_run_report(run_folder(full_log(METRICS)[:-1]))
    assert headings(path) == ["How it learnt", "Labels", "Where the time goes", "Settings"]


def test_a_set_without_gts_and_a_detector_that_is_silent_have_a_page(run_folder, edit_annotations):
    def empty(content):
        content["annotations"] = []

    nothing = {name: None for name in METRICS if "/" not in name}
    path = write_run_report(run_folder(full_log(nothing), [], data=str(edit_annotations(empty, "val"))))
    assert "Precision and crowding" in headings(path) and "What it finds" not in headings(path)


def test_a_detector_that_is_silent_has_a_page(run_folder):
    assert "Mistakes" in headings(write_run_report(run_folder(full_log(METRICS), [])))


def test_classes_come_best_first_and_unknown_sizes_are_dashes(run_folder, found):
    text = " ".join(Page(write_run_report(run_folder(full_log(METRICS), found)).read_text()).text.split())
    assert "Best at circle, worst at ring." in text
    assert "circle 0.700 0.800 ring 0.100 0.200 all 0.400 0.600" in text
    assert "over 96 px – –" in text


def test_many_classes_are_cut_to_the_best_and_the_worst(run_folder):
    many = METRICS | {f"AP{kind}/c{i}": i / 100 for i in range(40) for kind in ("", "50")}
    page = Page(write_run_report(run_folder(full_log(many))).read_text())
    assert "the 12 best and the 12 worst of 42" in page.text and "c39" in page.text and "c20" not in page.text


def test_cards_say_the_last_and_the_best_evaluation_and_the_time(run_folder):
    lines = [*full_log(METRICS), {"step": 9, "epoch": 0, "metrics": METRICS | {"AP": 0.25}}]
    cards = {label: (value, remark) for label, value, remark in headline_cards(read_run(run_folder(lines)))}
    assert cards["AP"][0] == "0.250" and cards["best step"] == ("8", "AP 0.400, of 2 evaluated")
    assert cards["training"] == ("2.7 min", "8 steps, epoch 1 of 1")  # 8 steps of 20 s


def test_a_data_set_that_is_given_is_not_opened_again(run_folder, found, shapes, monkeypatch):
    monkeypatch.setattr(run_report, "open_heldout", lambda settings: pytest.fail("opened"))
    folder = run_folder(full_log(METRICS), found)
    assert write_run_report(folder, CocoDataset.from_folder(shapes, "val")).is_file()


def test_data_that_moved_away_are_named(run_folder):
    folder = run_folder(full_log(METRICS), [], data="nowhere")
    with pytest.raises(InputError, match="no folder nowhere"):
        write_run_report(folder)
    assert not (folder / "report.html").exists()


def test_a_run_on_some_classes_is_measured_on_these(run_folder, found):
    settings = read_run(run_folder(full_log(METRICS), found, categories=["ring", "circle"])).settings
    assert run_report.open_heldout(settings).class_names == ["circle", "ring"]


def test_results_are_told_as_a_detector_tells_them():
    rows = [{"image_id": 1, "category_id": 7, "bbox": [10, 20, 5, 6], "score": 0.5}]
    told = as_detection(rows, [3, 7])
    assert (told["boxes"].tolist(), told["labels"].tolist(), told["scores"].tolist()) == (
        [[10, 20, 15, 26]],
        [1],
        [0.5],
    )
    assert as_detection([], [3])["boxes"].shape == (0, 4)


def test_positives_and_empty_gts_are_drawn_a_gt():
    lines = [step(1, gts=4, positives=8, empty_gts=1), step(2, gts=0, positives=0, empty_gts=0), step(3)]
    lines += [step(4, gts=10, positives=40, empty_gts=0)]
    ax = draw_positives(axes(), lines)
    assert ax.lines[0].get_xdata().tolist() == [1, 4] and ax.lines[0].get_ydata().tolist() == [2, 4]
    ax = draw_empty(axes(), lines)
    assert ax.lines[0].get_ydata().tolist() == [25, 0]
    assert ax.get_title() == "12.5 % of the gts of a step are left empty"
    rendered(ax.figure)


@pytest.mark.parametrize("draw", [draw_positives, draw_empty, draw_time])
def test_steps_that_count_nothing_are_drawn_as_nothing(draw):
    assert "nothing to show" in texts(draw(axes(), [step(1)]).figure)


def test_the_bar_of_time_is_made_of_shares():
    ax = draw_time(axes(), [step(1, **SECONDS), step(2, **SECONDS), step(3)])
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([5, 20, 5, 70])
    assert ax.get_title() == "Backward takes most of the time; assignment takes 5.0 %"
    assert {"data 5.0 %", "backward 70.0 %"} <= texts(ax.figure)
    rendered(ax.figure)


def test_bins_without_a_gt_are_not_drawn():
    bins = [GtBin(CROWDING[0], 9, 0.9, 0.5, 0.6), GtBin(CROWDING[1], 0, NAN, NAN, NAN)]
    bins.append(GtBin(CROWDING[2], 4, 0.25, 0.1, 0.2))
    ax = draw_crowding(axes(), bins)
    assert [bar.get_height() for bar in ax.patches] == [90, 25, 50, 10]
    assert ax.get_title() == "Least found: 25 % of the gts at IoU 0.2 to 0.5"
    assert {"0\n9 gts", "0.2 to 0.5\n4 gts"} <= texts(ax.figure)
    rendered(ax.figure)


def test_runs_are_compared_by_a_curve_each_and_a_row_each(run_folder):
    first = read_run(run_folder(full_log(METRICS), name="a$b$", lr=0.5))
    second = read_run(run_folder(full_log(METRICS | {"AP": 0.1}), name="c", lr=0.25))
    idle = read_run(run_folder([step(1)], name="idle", lr=0.125))
    ax = draw_ap_courses(axes(), [first, second, idle])
    assert [line.get_ydata().tolist() for line in ax.lines] == [[40], [10]]
    assert ax.get_title() == "Highest at the end: a$b$, 40.0 %"
    rendered(ax.figure)
    page = Page(compare_report([first, second, idle]).html())
    assert len(page.named("tr")) == 4 and all(
        word in page.text for word in ("a$b$", "0.25", "0.125", "0.400", "2.7 min")
    )


def test_runs_that_were_not_evaluated_are_compared_too(run_folder):
    runs = [read_run(run_folder([step(1)], name=name)) for name in "ab"]
    assert "No run was evaluated" in texts(draw_ap_courses(axes(), runs).figure)
    Page(compare_report(runs).html())
