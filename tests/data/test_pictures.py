"""Image files of every kind that people have, read one by one."""

import os
import warnings

import numpy as np
import pytest
from coco_files import fault, image, load, write
from PIL import Image

from otalab.data.images import open_image, read_image
from otalab.errors import InputError

GREY = (102, 102, 102)  # a colour of the web palette


def saved(tmp_path, source: Image.Image, name: str = "1.png", **options):
    source.save(tmp_path / name, **options)
    return tmp_path / name


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def refusal(path) -> str:
    with pytest.raises(InputError, match=r"cannot read image|is not a regular file|is a folder") as caught:
        read_image(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *((mode, "1.png") for mode in ("L", "P", "LA", "RGB", "RGBA")),
        *((mode, "1.tif") for mode in ("L", "P", "LA", "RGBA", "CMYK", "YCbCr", "LAB")),
        *((mode, "1.jpg") for mode in ("L", "RGB", "CMYK")),
        ("P", "1.gif"),
        ("RGB", "1.webp"),
        ("RGB", "1.bmp"),
    ],
)
def test_every_mode_is_read_as_rgb(tmp_path, mode, name):
    source = Image.new("RGB", (40, 30), GREY)
    source = Image.new("LAB", (40, 30), (110, 128, 128)) if mode == "LAB" else source.convert(mode)
    pixels = read_image(saved(tmp_path, source, name))
    assert pixels.shape == (30, 40, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - 102).max() <= 5


def test_one_bit_is_black_or_white(tmp_path):
    bits = Image.fromarray(np.eye(8, dtype=bool))
    for name in ("1.png", "1.tif"):
        assert (read_image(saved(tmp_path, bits, name))[..., 0] == 255 * np.eye(8)).all()


@pytest.mark.parametrize(
    ("mode", "name"), [("I;16", "1.png"), ("I;16", "1.tif"), ("I;16B", "1.tif"), ("I;16", "1.pgm")]
)
def test_sixteen_bits_are_scaled_by_their_range(tmp_path, mode, name):
    levels = np.array([[0, 257 * 102, 65535, 128, 129]], dtype=np.uint16)
    source = Image.frombytes(mode, (5, 1), levels.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    pixels = read_image(saved(tmp_path, source, name))
    assert pixels[0, :, 0].tolist() == [0, 102, 255, 0, 1]
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "floats"), (np.int32, "signed or 32-bit numbers")])
def test_pixels_without_a_defined_range_are_refused(tmp_path, dtype, kind):
    said = refusal(saved(tmp_path, Image.fromarray(np.ones((4, 4), dtype=dtype)), "1.tif"))
    assert f"its pixels are {kind}, which have no defined range" in said


def test_a_palette_with_transparency_keeps_its_colours(tmp_path):
    source = Image.new("RGB", (40, 30), "red").convert("P", palette=Image.Palette.ADAPTIVE)
    assert read_image(saved(tmp_path, source, transparency=b"\x80\x40"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("name", ["1.gif", "1.tif", "1.png", "1.webp"])
def test_the_first_of_several_frames_is_read(tmp_path, name):
    frames = [Image.new("RGB", (40, 30), (value,) * 3) for value in (250, 0, 0)]
    pixels = read_image(saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:]))
    assert pixels.shape == (30, 40, 3) and pixels.min() >= 249


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 1)])
def test_narrow_images_are_read(tmp_path, size):
    assert read_image(saved(tmp_path, Image.new("RGB", size))).shape == (*size[::-1], 3)


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_pixels_lie_as_stored_unless_they_shall_be_upright(tmp_path, orientation, mode):
    corner = np.zeros((30, 40), dtype=np.uint16)
    corner[:10, :10] = 65535  # where the photo has it, as it is stored
    source = (
        Image.fromarray(corner) if mode == "I;16" else Image.fromarray((corner >> 8).astype(np.uint8)).convert(mode)
    )
    path = saved(tmp_path, source, "1.png", exif=turned(orientation))
    stored, upright = read_image(path), read_image(path, upright=True)
    assert stored.shape == (30, 40, 3) and stored[0, 0, 0] == 255
    assert upright.shape == ((40, 30, 3) if orientation >= 5 else (30, 40, 3))
    place = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert upright[place[orientation]][0] == 255 and (upright == 255).sum() == 300


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_a_damaged_exif_says_nothing(tmp_path, exif):
    path = saved(tmp_path, Image.new("RGB", (40, 30), GREY), "1.jpg", exif=exif)
    assert read_image(path, upright=True).shape == (30, 40, 3)


def test_a_set_annotated_upright_is_told_apart_from_a_wrong_size(tmp_path):
    root = write(tmp_path, images=[image(1, file_name="1.jpg", width=30, height=40)], draw=False)
    path = root / "train" / "images" / "1.jpg"
    Image.new("RGB", (40, 30)).save(path, exif=turned(6))
    with pytest.raises(
        InputError, match=r"1.jpg is 40 x 30 px, but its annotation says 30 x 40 px, as EXIF turns it: "
    ):
        load(root)[0]
    Image.new("RGB", (40, 30)).save(path)
    with pytest.raises(InputError, match=r"its annotation says 30 x 40 px$"):
        load(root)[0]


# Files that are no images, and large ones


def test_what_is_no_image_is_named_in_a_line(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = saved(tmp_path, Image.fromarray(noise), "whole.jpg").read_bytes()
    for name, content in (("none.jpg", b""), ("text.jpg", b"not a picture"), ("cut.jpg", whole[:2000])):
        (tmp_path / name).write_bytes(content)
        refusal(tmp_path / name)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "is a folder" in refusal(tmp_path / "folder.jpg")
    assert "symbolic links" in refusal(tmp_path / "loop.jpg")
    assert "is not a regular file" in refusal(tmp_path / "pipe.jpg")  # and does not wait for a writer
    assert "No such file" in refusal(tmp_path / "absent.jpg")
    with pytest.raises(InputError, match=r"two\\nlines\.jpg: No such file"):
        read_image(tmp_path / "two\nlines.jpg")


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8))
    for name in ("1.jpg", "1.png", "1.gif", "1.tif", "1.webp", "1.bmp"):
        whole = np.frombuffer(saved(tmp_path, noise, name).read_bytes(), dtype=np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            damaged[rng.integers(0, min(len(whole), 300), 4)] = rng.integers(0, 256, 4)
            (tmp_path / name).write_bytes(damaged.tobytes()[: rng.integers(1, len(whole))])
            try:
                pixels = read_image(tmp_path / name, upright=True)
            except InputError as error:
                assert "\n" not in str(error)
            else:
                assert pixels.ndim == 3 and pixels.dtype == np.uint8


def test_a_png_whose_checksum_is_wrong_is_refused_though_it_could_be_decoded(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (8, 8), GREY))
    damaged = bytearray(path.read_bytes())
    damaged[-13] ^= 1  # the last byte of the checksum of the pixels: IEND takes the twelve after it
    path.write_bytes(damaged)
    with Image.open(path) as image:
        assert image.getpixel((0, 0)) == GREY
    assert "checksum" in refusal(path)


def test_an_image_beyond_the_bound_is_refused_and_a_large_one_is_not_warned_of(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("1", (12000, 9000)), "1.png")  # 108 megapixels: Pillow warns from 89
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_image(path) as opened:
            assert opened.size == (12000, 9000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)  # Pillow refuses twice as many
    assert "(10100 pixels) exceeds limit of 10000 pixels" in refusal(saved(tmp_path, Image.new("L", (101, 100))))
    assert read_image(saved(tmp_path, Image.new("L", (100, 100)))).shape == (100, 100, 3)


def test_a_cache_that_memory_cannot_hold_is_refused_before_it_is_made(tmp_path, monkeypatch):
    root = write(tmp_path)
    monkeypatch.setattr("otalab.data.coco.free_memory", lambda: 2 * 3 * 40 * 30 - 1)
    assert "2 decoded images need 0.0 GB of memory, but 0.0 GB are free" in fault(root, cache=True)
    assert len(load(root)) == 2
    for free in (2 * 3 * 40 * 30, None):
        monkeypatch.setattr("otalab.data.coco.free_memory", lambda free=free: free)
        assert len(load(root, cache=True)) == 2
