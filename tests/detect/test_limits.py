import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otalab.detect import build_detector
from otalab.detect import limits as limits_module
from otalab.detect.limits import (
    BATCH_PIXELS,
    STEP_PIXELS,
    evaluation_batch,
    require_steps_fit,
    resized,
    shrunk_size,
)
from otalab.errors import InputError

sides = st.integers(1, 40_000)


@given(sides, sides, st.integers(1, 2**22))
def test_a_shrunk_image_has_at_most_the_pixels_asked_for_and_its_shape(height, width, most):
    h, w = shrunk_size((height, width), most)
    assert h >= 1 and w >= 1 and h * w <= most and h <= height and w <= width
    if height * width <= most:
        assert (h, w) == (height, width)
    elif min(h, w) >= 100:
        assert w / h == pytest.approx(width / height, rel=0.02)


@given(sides, sides, st.integers(1, 1000), st.integers(1, 2000))
def test_a_resized_image_fits_both_sides_asked_for_and_keeps_its_shape(height, width, shorter, longer):
    ((h, w),) = resized(np.array([(height, width)]), (shorter, longer)).tolist()
    assert 1 <= min(h, w) <= shorter and max(h, w) <= max(longer, 1)
    ratio = min(shorter / min(height, width), longer / max(height, width))
    assert abs(h - height * ratio) <= 1 and abs(w - width * ratio) <= 1


def test_sizes_are_foretold_as_the_detector_resizes():
    model, sizes = build_detector(num_classes=1, image_size=(64, 200)), [(300, 7), (64, 64), (100, 250), (1, 1)]
    foretold = resized(np.array(sizes), (64, 200)).tolist()
    assert foretold == [list(model.resize(torch.zeros(3, *size)).shape[-2:]) for size in sizes]


CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_batch_that_no_device_holds_is_refused_before_it_is_made():
    phone = np.array([(3000, 4000)] * 20)
    with pytest.raises(InputError, match=r"a batch of 16 padded to 4000 x 3000 px needs 115 GB .*--batch-size, --size"):
        require_steps_fit(phone, None, 16, CUDA)
    require_steps_fit(phone, None, STEP_PIXELS // 12_000_000, CUDA)
    require_steps_fit(phone, (800, 1333), 16, CUDA)
    require_steps_fit(phone[:5], None, 16, CUDA)  # a batch has no more images than there are
    with pytest.raises(InputError, match="a batch of 8 padded to 4000 x 4000 px"):
        require_steps_fit(np.array([(1, 4000), (4000, 1)] * 4), None, 8, CUDA)


def test_a_batch_that_the_free_memory_cannot_hold_is_refused(monkeypatch):
    sizes = np.array([(1000, 1000)] * 4)
    monkeypatch.setattr(limits_module, "free_memory", lambda: 2_000_000_000)
    require_steps_fit(sizes, None, 3, CPU)
    require_steps_fit(sizes, None, 4, CUDA)
    with pytest.raises(InputError, match=r"a batch of 4 .* needs 2 GB of memory or more, and 2.0 GB are free"):
        require_steps_fit(sizes, None, 4, CPU)
    monkeypatch.setattr(limits_module, "free_memory", lambda: None)
    require_steps_fit(sizes, None, 4, CPU)


def test_evaluation_takes_as_many_images_at_a_time_as_fit():
    large = np.array([(9000, 12_000), (10, 10)])
    assert evaluation_batch(large, (320, 3200), 16) == BATCH_PIXELS // 108_000_000 == 2
    assert evaluation_batch(np.array([(480, 640)]), None, 16) == 16
    assert evaluation_batch(np.array([(6000, 8000)]), None, 16) == 1
    assert evaluation_batch(np.array([(10_000, 1000), (1000, 10_000)]), None, 16) == 1  # one by one, both fit
    with pytest.raises(InputError, match="images of up to 12000 x 9000 px are too large to evaluate on"):
        evaluation_batch(large, None, 16)
