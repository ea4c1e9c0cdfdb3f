"""Figures in a notebook: no pyplot, and a text for those who cannot see them."""

import io
from collections.abc import Sequence

import PIL.Image
from matplotlib.figure import Figure
from PIL.Image import Dither, Quantize

from otalab.errors import InputError
from otalab.viz.film import film
from otalab.viz.microscope import microscope, microscope_strip
from otalab.viz.save import as_png

DPI = 110  # of figures in notebooks: sharp at the width of a page, and small enough for a repository
WIDGET = "application/vnd.jupyter.widget-view+json"  # the mime type of live widgets


def show(figure: Figure, alt: str):
    """The figure as an IPython image whose alternative text is `alt`: what it shows, in a sentence."""
    from IPython.display import Image  # comes with Jupyter, which only the notebooks need

    return Image(few_colours(PIL.Image.open(io.BytesIO(as_png(figure, DPI)))), format="png", alt=alt)


def few_colours(image: PIL.Image.Image) -> bytes:
    """A PNG of at most 256 colours, a third of the bytes; small marks keep theirs, which a median cut would take."""
    small = io.BytesIO()
    few = image.convert("RGB").quantize(256, Quantize.MAXCOVERAGE, kmeans=2, dither=Dither.NONE)
    few.save(small, format="png", optimize=True)
    return small.getvalue()


def show_film(frames: Sequence[Figure], alt: str, seconds: float = 0.3, hold: float = 2.5):
    """The figures one after the other, as an IPython image (GIF) whose alternative text is `alt`; see `viz.film`."""
    from IPython.display import Image

    return Image(film(frames, seconds, hold), format="gif", alt=alt)


class Live:
    """A widget while the notebook runs; the picture where it is only read, or where there is no widget."""

    def __init__(self, picture, widget=None):
        self.picture, self.widget = picture, widget

    def _repr_mimebundle_(self, **_) -> tuple[dict, dict]:
        data, metadata = self.picture._repr_mimebundle_()
        if self.widget is not None:
            data |= {WIDGET: self.widget._repr_mimebundle_()[WIDGET]}
        return {"text/plain": self.picture.alt} | data, metadata


def show_microscope(image, points, predictions, targets, alt: str) -> Live:
    """The microscope's sliders where Jupyter and ipywidgets run; elsewhere six of its settings, with the text `alt`."""
    scene = (image, points, predictions, targets)
    strip = show(microscope_strip(*scene), alt)
    try:
        return Live(strip, microscope(*scene))
    except InputError:  # no ipywidgets
        return Live(strip)
