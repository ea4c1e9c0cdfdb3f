"""Films in a notebook."""

import base64
import io

from matplotlib.figure import Figure
from PIL import Image

from otalab.lessons import show_film


def test_a_film_is_shown_as_a_gif_with_an_alternative_text():
    frames = [Figure(figsize=(1, 1), facecolor=colour) for colour in ("#0072B2", "#D55E00")]
    data, metadata = show_film(frames, alt="a square that changes its colour", hold=1.0)._repr_mimebundle_()
    assert data.keys() == metadata.keys() == {"image/gif"}
    assert metadata["image/gif"]["alt"] == "a square that changes its colour"
    gif = Image.open(io.BytesIO(base64.b64decode(data["image/gif"])))
    assert gif.n_frames == 2
    gif.seek(1)
    assert gif.info["duration"] == 1000
