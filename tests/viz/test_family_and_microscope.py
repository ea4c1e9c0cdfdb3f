import sys
from dataclasses import replace

import pytest
import torch

from otalab.assign import build_assigner
from otalab.errors import InputError
from otalab.lab.compare_assigners import compare_assigners
from otalab.viz import family_figure, microscope, microscope_figure, microscope_strip
from otalab.viz.microscope import SLIDERS, STRIP, Knobs
from otalab.viz.style import plural

from .scenes import NAMES, assigned, rendered, scene, texts


def compared(num_gt: int = 3, names=("ota", "fcos", "ota-paper")):
    s = scene(num_gt)
    assigners = {name: build_assigner(name) for name in names}
    return s, compare_assigners(s.points, s.predictions, s.targets, assigners)


def test_the_family_has_a_panel_for_each_assigner_and_rings_the_ambiguous_points():
    s, family = compared()
    figure = family_figure(s.image, s.points, s.targets, family, NAMES, note="Made up.")
    rendered(figure)
    said = texts(figure)
    for row in family.rows:
        assert row.name in said
        assert f"{row.positives} positives, {row.agreement:.0%} as the optimum" in said
    count = len(family.ambiguous)
    assert count > 0
    assert f"Rings: {count} ambiguous points, in the centre priors of several objects. Made up." in said
    assert "1 cat" in said
    rings = [ax.collections[-1].get_offsets() for ax in figure.axes[1:4]]
    assert all(torch.allclose(torch.as_tensor(r).float(), s.points.xy[family.ambiguous]) for r in rings)


def test_a_gt_that_goes_without_is_named():
    s, family = compared()
    row = family.rows[1]
    starved = type(family)(
        [*family.rows[:1], type(row)(**vars(row) | {"empty": (0, 2)})],
        {name: family.assignments[name] for name in ("ota", "fcos")},
        family.ambiguous,
        family.optimum,
    )
    said = texts(family_figure(s.image, s.points, s.targets, starved))
    assert "none for 1, 3" in said
    assert any("1 leave an object without any" in text for text in said)


def test_a_picture_of_refusals_says_so():
    s, family = compared()
    refusing = type(family.rows[0])("ota", fault="not this one")
    some = type(family)(
        [refusing, family.rows[1]], {"fcos": family.assignments["fcos"]}, family.ambiguous, family.optimum
    )
    assert any(text.endswith("; 1 refuse") for text in texts(family_figure(s.image, s.points, s.targets, some)))
    none = type(family)([refusing], {}, family.ambiguous, family.optimum)
    figure = family_figure(s.image, s.points, s.targets, none)
    rendered(figure)
    assert "No assigner takes this image" in texts(figure)


def test_the_microscope_shows_both_solvers_at_the_knobs_and_counts_what_differs():
    s = scene()
    knobs = Knobs(r=1.5, alpha=3.0, q=5, eps=2.0, iterations=3)
    figure = microscope_figure(*s, knobs)
    rendered(figure)
    soft, exact = (assigner(s.points, s.predictions, s.targets) for assigner in knobs.assigners())
    off = int((soft.matched_gt != exact.matched_gt).sum())
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[0] == f"Sinkhorn: {plural(int(soft.positive.sum()), 'positive')}, {plural(off, 'label')} off"
    assert titles[1] == f"exact: {plural(int(exact.positive.sum()), 'positive')}"
    assert off > 0


def test_each_knob_reaches_the_assigner():
    s = scene()
    for name, value in {"r": 0.5, "q": 3, "alpha": 6.0}.items():
        _, exact = Knobs(**{name: value}).assigners()
        labels = exact(s.points, s.predictions, s.targets).matched_gt
        assert not torch.equal(labels, assigned(s).matched_gt), name
    soft, _ = Knobs(eps=3.0, iterations=7).assigners()
    assert (soft.eps, soft.max_iter, soft.solver) == (3.0, 7, "sinkhorn")


def test_the_strip_turns_one_knob_a_panel():
    figure = microscope_strip(*scene())
    rendered(figure)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [title for title, _ in STRIP]
    assert all(len(turned) <= 1 and turned.keys() <= vars(Knobs()).keys() for _, turned in STRIP)
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told[0].startswith("stride") and told[-2:] == ["background", "Sinkhorn's label is not the exact one"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sliders_cover_every_knob_and_start_at_its_value():
    box = microscope(*scene())
    sliders = {slider.description: slider for slider in box.children[0].children}
    assert sliders.keys() == vars(Knobs()).keys() == SLIDERS.keys()
    for name, value in vars(Knobs()).items():
        assert sliders[name].value == pytest.approx(value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_slider_that_moves_draws_the_microscope_anew():
    s = scene()
    box = microscope(*s)
    sliders, view = {slider.description: slider for slider in box.children[0].children}, box.children[1]
    knobs = Knobs()
    for name, value in {"q": 5, "r": 1.0, "alpha": 3.0, "iterations": 1, "eps": 10.0}.items():
        before = view.value
        sliders[name].value = value
        knobs = replace(knobs, **{name: value})
        assert view.value != before, name
    titles = [ax.get_title(loc="left") for ax in microscope_figure(*s, knobs).axes]
    assert f'alt="{"; ".join(titles)}"' in view.value
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_without_ipywidgets_the_microscope_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(InputError, match=r"needs ipywidgets.*microscope_strip"):
        microscope(*scene())
