from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from otalab.lab.convergence import FACTORS, Convergence, Course
from otalab.viz.convergence import EARLY, SETTLED, convergence_figure, draw_errors, draw_wrong_labels
from otalab.viz.style import style

from .scenes import axes, rendered, texts

EARLY_WRONG = (30, 20, 10, 5, 4, 10, 20, 40)
SETTLED_WRONG = (30, 20, 10, 5, 3, 2, 1, 0)


def convergence(newton: bool = True, early=EARLY_WRONG, settled=SETTLED_WRONG, positives=50) -> Convergence:
    """Eight courses, errors 1 / iterations, the smaller eps the larger."""
    courses = [
        Course(
            eps=0.1 * factor,
            errors=(1 + index) / np.arange(1.0, 501),
            checkpoints=np.array([1, 50, 500]),
            wrong=np.array([49, early[index], settled[index]]),
            settled=settled[index],
            newton=10.0 ** -np.arange(1, 10) if newton else np.zeros(0),
        )
        for index, factor in enumerate(FACTORS)
    ]
    return Convergence(0.1, 50, positives, courses)


def line(ax, colour):
    (found,) = [line for line in ax.lines if to_hex(line.get_color()) == colour.lower() and len(line.get_xdata()) == 8]
    return found


def test_axes_are_returned_with_names_and_units():
    left, right = Figure().subplots(1, 2)
    assert draw_errors(left, convergence()) is left and draw_wrong_labels(right, convergence()) is right
    assert (left.get_xlabel(), left.get_ylabel()) == ("iterations", "largest error of a sum (relative)")
    assert (right.get_xlabel(), right.get_ylabel()) == ("eps (units of cost)", "labels wrong (% of positives)")
    assert (left.get_xscale(), left.get_yscale(), right.get_xscale()) == ("log", "log", "log")


def test_wrong_labels_are_shown_in_percent_of_the_positives():
    ax = draw_wrong_labels(axes(), convergence())
    assert line(ax, EARLY).get_ydata().tolist() == [2 * wrong for wrong in EARLY_WRONG]
    assert line(ax, SETTLED).get_ydata().tolist() == [2 * wrong for wrong in SETTLED_WRONG]
    assert line(ax, EARLY).get_xdata() == pytest.approx([0.1 * factor for factor in FACTORS])
    assert {"after 50 iterations", "at convergence (Newton)"} <= texts(ax.figure)


def test_errors_are_shown_against_iterations_counted_from_one():
    ax = draw_errors(axes(), convergence())
    first = next(line for line in ax.lines if line.get_label() == "eps 1")
    assert first.get_xdata().tolist() == list(range(1, 501))
    assert first.get_ydata().tolist() == (1 / np.arange(1.0, 501)).tolist()
    assert {"eps 1", "eps 0.1", "eps 0.02", "eps 0.005", "Newton", "50"} <= texts(ax.figure)
    assert "Newton" not in texts(draw_errors(axes(), convergence(newton=False)).figure)


def test_titles_say_what_the_figures_say():
    assert (
        draw_wrong_labels(axes(), convergence()).get_title("left") == ""
    )  # outside the house style titles are centred
    title = draw_wrong_labels(axes(), convergence()).get_title()
    assert title == "50 iterations: 80 % wrong at eps 0.005, 8 % at 0.05"
    falling = convergence(early=SETTLED_WRONG)
    assert draw_wrong_labels(axes(), falling).get_title() == "50 iterations: labels are best at the least eps, 0.005"
    assert draw_errors(axes(), convergence()).get_title() == "eps 0.005: 500 iterations reach 2e-02, Newton 1e-09"
    plain = convergence(newton=False)
    assert draw_errors(axes(), plain).get_title() == "50 iterations: eps 0.005 is 8 times as far off as 1"
    level = replace(plain, courses=[replace(course, errors=plain.courses[0].errors) for course in plain.courses])
    assert draw_errors(axes(), level).get_title() == "50 iterations: a small eps is no further off than a large one"


def test_newton_that_did_not_converge_is_no_success():
    stuck = convergence()
    stuck = replace(stuck, courses=[replace(course, settled=None) for course in stuck.courses])
    assert "Newton" not in draw_errors(axes(), stuck).get_title()
    ax = draw_wrong_labels(axes(), stuck)
    assert np.isnan(line(ax, SETTLED).get_ydata()).all()
    rendered(ax.figure)


@pytest.mark.parametrize("newton", [True, False])
def test_titles_fit_their_axes_at_the_size_of_the_readme(newton):
    figure = convergence_figure(convergence(newton), "image")
    rendered(figure)
    assert figure.get_size_inches()[0] == pytest.approx(10.7)
    left, right = (
        text.get_window_extent() for text in figure.findobj(Text) if text.get_text() and text.get_fontweight() == "bold"
    )
    assert left.x1 < right.x0 and right.x1 < figure.bbox.x1
    assert "image; 50 positive labels" in texts(figure)


@pytest.mark.parametrize(
    "drawn",
    [
        convergence(positives=0, early=(0,) * 8, settled=(0,) * 8),
        replace(convergence(), courses=[replace(c, errors=np.zeros(500)) for c in convergence().courses]),
        replace(convergence(), max_iter=1, courses=[replace(c, errors=c.errors[:10], checkpoints=np.array([1, 10, 20]))
                                                    for c in convergence().courses]),
    ],
    ids=["nothing is wrong", "no error is left", "one iteration"],
)  # fmt: skip
def test_extremes_render(drawn):
    assert len(np.unique(rendered(convergence_figure(drawn)).reshape(-1, 4), axis=0)) > 2


def test_curves_can_be_told_apart_without_colour():
    """Their lightness differs, from the largest eps to the smallest."""
    with style():
        ax = draw_errors(axes(), convergence(newton=False))
    shades = [line.get_color() for line in ax.lines if line.get_label().startswith("eps")]
    grey = [sum(w * int(shade[i : i + 2], 16) for w, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5))) for shade in shades]
    assert all(lighter > darker + 20 for lighter, darker in pairwise(grey))
