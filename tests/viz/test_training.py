import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.figure import Figure

from otalab.detect.run_folder import read_log
from otalab.errors import InputError
from otalab.viz import draw_ap, draw_losses, draw_training, training_figure
from otalab.viz.training import labels_figure, smooth

from .scenes import axes, rendered, texts


def log(steps=40, every=20, ap=(0.1, 0.3)):
    lines = []
    for step in range(1, steps + 1):
        loss = 2 / step**0.5
        lines.append(
            {"step": step, "epoch": 0, "loss": loss, "classification": loss / 2, "box": loss / 4, "quality": loss / 4}
        )
        if step % every == 0:
            value = ap[step // every - 1]
            lines.append({"step": step, "epoch": 0, "metrics": {"AP": value, "AP50": value * 2, "AP75": value}})
    return lines


def test_both_axes_are_returned_with_units_and_findings():
    pair = Figure().subplots(1, 2)
    assert draw_training(pair, log()) is pair
    assert [ax.get_xlabel() for ax in pair] == ["step", "step"]
    assert [ax.get_ylabel() for ax in pair] == ["loss", "average precision (%)"]
    assert pair[0].get_title().startswith("Loss went from 2.00 to 0.3")
    assert pair[1].get_title() == "AP reaches 30.0 %"


def test_ap_is_shown_in_percent_at_its_steps():
    curve = draw_ap(axes(), log()).lines[0]
    assert curve.get_xdata().tolist() == [20, 40]
    assert curve.get_ydata() == pytest.approx([10, 30])


def test_a_worse_end_is_not_called_a_success():
    assert draw_ap(axes(), log(ap=(0.4, 0.3))).get_title() == "AP ends at 30.0 %, after a best of 40.0 %"


def test_every_loss_is_drawn_and_named():
    ax = draw_losses(axes(), log())
    assert {"total", "classification", "box", "quality"} <= texts(ax.figure)
    assert len(ax.lines) == 5  # the total as it was, and four smoothed


@pytest.mark.parametrize(
    "lines",
    [
        [],
        log(1, 99),
        log(40, 99),
        [{"step": 5, "metrics": {"AP": 0.2}}],
        [{"step": 5, "metrics": {"AP": float("nan")}}],
    ],
    ids=["empty", "one step", "no evaluation", "no step", "AP is NaN"],
)
def test_a_log_that_lacks_something_renders(lines):
    figure = training_figure(lines)
    rendered(figure)
    if not any(np.isfinite(line.get("metrics", {}).get("AP", np.nan)) for line in lines):
        assert "Not evaluated yet" in texts(figure)


@given(arrays(np.float64, st.integers(1, 300), elements=st.floats(0, 100)))
def test_smoothing_keeps_length_range_and_constants(values):
    smoothed = smooth(values)
    assert smoothed.shape == values.shape
    assert (smoothed >= values.min() - 1e-9).all() and (smoothed <= values.max() + 1e-9).all()
    assert np.allclose(smooth(np.full_like(values, 3.0)), 3)


@pytest.mark.parametrize("steps", [30, 150, 500, 525])  # windows of 5, 5 (of 6), 19 (of 20) and 21
def test_smoothing_does_not_lag(steps):
    line = np.arange(float(steps))
    assert np.allclose(smooth(line)[10:-10], line[10:-10])


def test_a_log_is_read_from_the_file_or_the_folder(tmp_path):
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log()))
    assert read_log(tmp_path) == read_log(tmp_path / "log.jsonl") == log()


def test_an_ap_that_was_not_measured_is_null_in_the_file_nan_when_read_and_not_drawn(tmp_path):
    lines = [{"step": step, "metrics": {"AP": ap}} for step, ap in ((1, None), (2, 0.5))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = (line["metrics"]["AP"] for line in read_log(tmp_path))
    assert np.isnan(first) and second == 0.5
    assert draw_ap(axes(), read_log(tmp_path)).lines[0].get_xdata().tolist() == [2]


def test_a_last_line_that_is_being_written_is_left_out(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_log(tmp_path) == [{"step": 1, "loss": 2.0}]


def test_a_damaged_or_missing_log_is_named(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        read_log(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(InputError, match="line 1"):
        read_log(tmp_path)


def test_labels_over_training_are_drawn_from_the_second_look_on_and_in_percent():
    changed = {"ota": [0.5, 0.25], "fcos": [0.0, 0.0]}
    figure = labels_figure([0, 4, 8], [2.0, 3.0, 6.0], [0.4, 0.5, 0.61], changed, "A finding")
    left, middle, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [2, 3, 6] and middle.lines[0].get_ydata().tolist() == [0.4, 0.5, 0.61]
    ota, fcos = right.lines
    assert ota.get_xdata().tolist() == [4, 8] and ota.get_ydata().tolist() == [50, 25]
    assert ota.get_color() != fcos.get_color() and not fcos.get_ydata().any()
    assert {"From 2.0 to 6.0 positives a gt ...", "... as IoU goes from 0.40 to 0.61", "A finding"} <= texts(figure)
    rendered(figure)
