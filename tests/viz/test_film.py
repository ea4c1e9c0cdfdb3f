import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from otalab.errors import InputError
from otalab.viz import PALETTE
from otalab.viz.film import Moment, film, film_frames, film_strip

from .scenes import assigned, rendered, scene, texts


def moments(s, count=3):
    return [Moment(10 * i, assigned(s, k=1 + i)) for i in range(count)]


def frames(count=3):
    s = scene()
    return film_frames(s.image, s.points, s.targets, moments(s, count))


def read(data):
    """Each frame of a GIF as RGB pixels, and how long it stays in ms."""
    found = []
    with Image.open(io.BytesIO(data)) as gif:
        for i in range(gif.n_frames):
            gif.seek(i)
            found.append((np.asarray(gif.convert("RGB")), gif.info["duration"]))
    return found


def plain(colour, size=(1, 1)):
    figure = Figure(figsize=size, facecolor=colour)
    figure.add_axes((0.4, 0.4, 0.2, 0.2)).set_axis_off()
    return figure


def test_a_film_shows_each_frame_in_order_and_holds_the_last():
    shown = read(film([plain("#0072B2"), plain("#D55E00"), plain("#009E73")], seconds=0.2, hold=1.5, dpi=40))
    assert [duration for _, duration in shown] == [200, 200, 1500]
    for (pixels, _), colour in zip(shown, ("0072B2", "D55E00", "009E73"), strict=True):
        assert np.abs(pixels[5, 5].astype(int) - list(bytes.fromhex(colour))).max() <= 8


def test_what_does_not_change_does_not_flicker():
    shown = [pixels for pixels, _ in read(film(frames()))]
    s = scene()
    drawn = [rendered(figure)[..., :3].astype(int) for figure in film_frames(s.image, s.points, s.targets, moments(s))]
    still = (drawn[0] == drawn[1]).all(axis=-1) & (drawn[0] == drawn[2]).all(axis=-1)
    assert still.mean() > 0.5 and not still.all()
    for pixels in shown[1:]:
        assert (pixels[still] == shown[0][still]).all()


def test_a_film_repeats_for_ever():
    with Image.open(io.BytesIO(film([plain("#0072B2"), plain("#D55E00")]))) as gif:
        assert gif.info["loop"] == 0


def test_a_film_of_one_frame_is_a_picture():
    assert len(read(film(frames(1)))) == 1


def test_frames_say_the_step_and_the_positives_and_are_of_one_size():
    shown = frames()
    counts = [int(moment.assignment.positive.sum()) for moment in moments(scene())]
    for figure, step, count in zip(shown, (0, 10, 20), counts, strict=True):
        assert f"step {step}: {count} positives" in texts(figure)
    assert len({rendered(figure).shape for figure in shown}) == 1


def test_the_strip_shows_the_first_and_the_last_moment():
    s = scene()
    written = texts(film_strip(s.image, s.points, s.targets, moments(s, 5), count=3, title="It grows"))
    assert {"step 0", "step 20", "step 40", "It grows"} <= written and "step 10" not in written
    assert any(text.startswith("stride") for text in written), "what large and small dots are"


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_strip_of_few_moments_shows_them_all(count):
    s = scene()
    written = texts(film_strip(s.image, s.points, s.targets, moments(s, count), count=6))
    assert {f"step {10 * i}" for i in range(count)} <= written


def test_each_gt_keeps_its_colour_exactly_however_colourful_the_image_is():
    figure = Figure(figsize=(3, 3), dpi=100)
    noise = np.random.default_rng(0).random((300, 300, 3))
    figure.figimage(noise)
    for i, colour in enumerate(PALETTE):
        figure.patches.append(Rectangle((20 * i, 10), 8, 8, facecolor=colour, linewidth=0, antialiased=False))
    pixels = read(film([figure, figure]))[0][0]
    for i, colour in enumerate(PALETTE):
        assert pixels[300 - 14, 20 * i + 4].tolist() == list(bytes.fromhex(colour[1:])), i


def test_no_moment_no_frame_and_unequal_frames_are_refused():
    s = scene()
    with pytest.raises(InputError, match="at least one moment"):
        film_frames(s.image, s.points, s.targets, [])
    with pytest.raises(InputError, match="at least one moment"):
        film_strip(s.image, s.points, s.targets, [])
    with pytest.raises(InputError, match="at least one frame"):
        film([])
    with pytest.raises(InputError, match="of one size, not 100 x 100, 200 x 100"):
        film([plain("red"), plain("red", (2, 1))], dpi=100)


def test_making_films_leaves_no_setting_behind():
    before = dict(matplotlib.rcParams)
    film(frames(2))
    assert dict(matplotlib.rcParams) == before


def test_a_strip_shows_a_moment_at_least():
    s = scene()
    with pytest.raises(InputError, match="count must be a whole number of at least 1, not 0"):
        film_strip(s.image, s.points, s.targets, moments(s), count=0)
