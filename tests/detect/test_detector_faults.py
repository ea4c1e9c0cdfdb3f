"""What no detector can take is told, and never answered by boxes."""

import pytest
import torch

from otalab.detect import build_detector
from otalab.errors import InputError

from .models import eager_detector, noise, target

NAN = float("nan")


@pytest.fixture
def detector():
    return eager_detector()


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_nan_in_an_image_is_an_error_and_never_an_empty_answer(mode, detector):
    images = noise((64, 64), (64, 64))
    images[1][0, 10, 10] = NAN
    with pytest.raises(InputError, match="non-finite"):
        getattr(detector, mode)()(images, [target((4, 4, 40, 30))] * 2)


def test_a_nan_in_the_weights_is_an_error(detector):
    with torch.no_grad():
        detector.head.logits.bias[1] = NAN
    with pytest.raises(InputError, match=r"logits: \d+ non-finite values, the first is nan at \(0, 1\)"):
        detector(noise((64, 64)))


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        torch.rand(1, 64, 64),
        torch.rand(64, 64),
        torch.rand(1, 3, 64, 64),
        torch.rand(3, 0, 64),
    ],
    ids=["bytes", "grey", "no channels", "a batch", "no pixels"],
)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_image_of_another_shape_or_dtype_is_an_error_and_never_converted(mode, image, detector):
    with pytest.raises(InputError, match=r"must be float \(3, H, W\)"):
        getattr(detector, mode)()([image], [target()])


def test_a_batch_of_no_images_is_an_error(detector):
    with pytest.raises(InputError, match="at least one image"):
        detector([])


def test_a_label_that_the_detector_does_not_have_is_an_error(detector):
    with pytest.raises(InputError, match=r"\[3\] are not all in 0..2"):
        detector.train()(noise((64, 64)), [target((4, 4, 40, 30), labels=[3])])


def test_an_unknown_assigner_is_an_error():
    with pytest.raises(InputError, match="'otta' is none of ota"):
        build_detector(assigner="otta")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_classes": 0}, "num_classes must be a whole number of at least 1, not 0"),
        ({"num_classes": -1}, "num_classes must be a whole number of at least 1, not -1"),
        ({"channels": 0}, "channels must be a whole number of at least 1, not 0"),
        ({"channels": 2}, "channels is 2; it must be a multiple of 4"),
        ({"channels": 50}, "channels is 50; it must be a multiple of 4"),
        ({"channels": 132}, "channels is 132; it must be a multiple of 4 up to 128, and of 32 beyond"),
        ({"num_convs": -1}, "num_convs must not be negative, not -1"),
        ({"image_size": (0, 10)}, "image_size must be the shorter and the longest side"),
        ({"image_size": (100, 10)}, r"in px, not \(100, 10\)"),
    ],
)
def test_a_detector_that_cannot_be_is_an_error(options, says):
    with pytest.raises(InputError, match=says):
        build_detector(**options)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_of_any_float_dtype_are_taken_in_that_of_the_detector(mode, dtype, detector):
    images = [image.to(dtype) for image in noise((40, 48), (32, 64))]
    getattr(detector, mode)()
    found, wanted = (detector(x, [target((4, 4, 40, 30))] * 2) for x in (images, [i.float() for i in images]))
    found, wanted = (x if mode == "eval" else [x] for x in (found, wanted))
    for some, like in zip(found, wanted, strict=True):
        assert all(torch.allclose(some[name].float(), like[name].float(), rtol=1e-3, atol=1e-3) for name in like)


def test_a_target_without_boxes_or_labels_is_an_error(detector):
    with pytest.raises(
        InputError, match=r"a target needs boxes and labels; labels missing, given \['boxes', 'masks'\]"
    ):
        detector.train()(noise((64, 64)), [{"boxes": torch.zeros(0, 4), "masks": None}])
