"""Figures of a study show every run, and say what is separated."""

from dataclasses import replace

import numpy as np
import pytest
from lab.cards import cards

from otalab.errors import InputError
from otalab.lab.contrasts import Difference, answers
from otalab.lab.plan import Contrast, Plan
from otalab.viz.study import (
    answers_figure,
    bins_figure,
    draw_bins,
    draw_differences,
    draw_epochs,
    draw_runs,
    epochs_figure,
    points,
    study_figure,
)
from otalab.viz.study_report import mean_rows, study_report

from .scenes import axes, rendered, texts

METHODS = {"ota": [0.3, 0.31, 0.32], "fcos": [0.25, 0.26, 0.27], "atss": [0.2, 0.21, 0.22]}
CARDS = cards({"heaped": {"ota": [0.2, 0.21, 0.23]}, "sparse": METHODS})
PLAN = Plan(
    "Which?",
    {"heaped": "y", "sparse": "x"},
    {name: {} for name in METHODS},
    3,
    contrasts=(Contrast("ota", "fcos", "Does it matter?", "+2.4 AP"), Contrast("fcos", "atss", "And this?")),
)


def dots(ax) -> list:
    return [line for line in ax.get_lines() if line.get_marker() == "o"]


def test_every_run_is_a_dot_in_percent():
    ax = draw_runs(axes(), CARDS, "sparse")
    assert [dot.get_xdata().tolist() for dot in dots(ax)] == [
        pytest.approx([30, 31, 32]), pytest.approx([25, 26, 27]), pytest.approx([20, 21, 22]),
    ]  # fmt: skip
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ota", "fcos", "atss"]
    assert "%" in ax.get_xlabel()
    assert len(dots(draw_runs(axes(), CARDS, "heaped"))) == 1  # what has no run there has no dot


def test_a_difference_that_may_be_none_is_hollow():
    ax = draw_differences(axes(), ["a", "b"], [Difference(0.02, 0.01, 0.03), Difference(0.02, -0.01, 0.05)])
    filled, hollow = dots(ax)
    assert filled.get_markerfacecolor() != "white" and hollow.get_markerfacecolor() == "white"


def test_bins_and_epochs_are_means_over_the_seeds():
    first, *_ = dots(draw_bins(axes(), CARDS, "sparse", "size"))
    assert first.get_ydata().tolist() == pytest.approx([31] * 4)
    ax = draw_epochs(axes(), CARDS, "sparse", "labels changed", 100.0)
    assert np.isnan(dots(ax)[0].get_ydata()[0]) and dots(ax)[0].get_ydata()[1] == pytest.approx(30)
    assert ax.get_ylabel() == "labels changed (%)"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: study_figure(PLAN, CARDS, "a title"),
        lambda: answers_figure(answers(PLAN, CARDS), "a title"),
        lambda: bins_figure(PLAN, CARDS, "crowding", "a title"),
        lambda: epochs_figure(CARDS, "sparse", "a title"),
    ],
)
def test_the_figures_are_drawn_and_name_methods_and_data(draw):
    figure = draw()
    assert np.ptp(rendered(figure)) > 0
    said = " ".join(texts(figure))
    assert "a title" in said and "fcos" in said


def test_lines_of_bins_lie_within_their_panels_and_all_have_names():
    heaped, sparse = bins_figure(PLAN, CARDS, "size", "a title").axes  # the second panel has the higher lines
    for ax in (heaped, sparse):
        assert ax.get_ylim()[0] == 0 and max(line.get_ydata().max() for line in ax.lines) < ax.get_ylim()[1]
    for data, names in (("heaped", {"ota"}), ("sparse", set(METHODS))):  # the other panel has no card yet
        figure = bins_figure(PLAN, [card for card in CARDS if card.data == data], "size", "a title")
        assert {text.get_text() for text in figure.axes[-1].get_legend().get_texts()} == names
        rendered(figure)


def test_the_page_says_question_answer_and_what_the_paper_says():
    page = study_report(PLAN, CARDS).html()
    assert all(word in page for word in ("Does it matter?", "ota is ahead", "+2.4 AP", "12 of 18 runs"))
    with pytest.raises(InputError, match="'Which\\?' has no card yet"):
        study_report(PLAN, [])


def test_means_leave_out_what_no_run_measured():
    without = [replace(card, metrics=card.metrics | {"APl": np.nan}) for card in CARDS]
    assert "APl" in mean_rows(PLAN, CARDS)[0] and "APl" not in mean_rows(PLAN, without)[0]
    assert ">APl<" in study_report(PLAN, CARDS).html() and ">APl<" not in study_report(PLAN, without).html()


def test_a_bin_of_hardly_any_gt_is_left_out():
    few = [replace(card, size=card.size | {"64 or more": card.size["64 or more"] | {"gts": 0.1}}) for card in CARDS]
    ticks = [label.get_text() for label in draw_bins(axes(), few, "sparse", "size").get_xticklabels()]
    assert [tick.split("\n")[0] for tick in ticks] == list(CARDS[0].size)[:-1]


def test_a_difference_that_is_not_quite_0_does_not_read_as_0():
    assert [points(d) for d in (0.0123, -0.0123, 0.0004, -0.0003, 0.0)] == ["+1.2", "-1.2", "+0.04", "-0.03", "+0.00"]
