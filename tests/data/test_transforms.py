import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from otalab.data import STRENGTHS, eval_transforms, train_transforms
from otalab.data.transforms import CropResize
from otalab.errors import InputError


def sample(boxes, labels=None, shape=(96, 128)) -> tuple[Tensor, dict]:
    """A black uint8 image with each box painted white, as the data set hands it to a transform."""
    picture = torch.zeros(3, *shape, dtype=torch.uint8)
    for x1, y1, x2, y2 in boxes:
        picture[:, y1:y2, x1:x2] = 255
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else torch.tensor(labels)
    return tv_tensors.Image(picture), {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=shape),
        "labels": labels,
        "image_id": torch.tensor(5),
        "size": torch.tensor(shape),
    }


def geometry(pipeline: v2.Compose) -> v2.Compose:
    """The pipeline without its changes of colour, which would hide the paint."""
    return v2.Compose([step for step in pipeline.transforms if not isinstance(step, v2.ColorJitter)])


def painted(picture: Tensor) -> list[float] | None:
    """The box of the painted pixels: brighter than half way from the grey of a zoomed-out margin to the brightest."""
    grey = picture.float().mean(0)
    rows, columns = torch.nonzero(grey > (114 + grey.max()) / 2, as_tuple=True)
    if not len(rows):
        return None
    return [columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1]


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize(("size", "max_size"), [(None, None), (60, 200), ([48, 60, 72], 200), (200, 220)])
def test_boxes_stay_on_what_they_bound(strength, size, max_size):
    pipeline = geometry(train_transforms(size, strength, max_size))
    kept = 0
    for seed in range(25):
        torch.manual_seed(seed)
        picture, target = pipeline(*sample([(30, 20, 70, 60)]))
        if len(target["boxes"]):
            kept += 1
            least = 0.3 if strength == "strong" else 0.6  # share of the image that is enlarged to the whole
            blur = picture.shape[-1] / 128 / least  # new pixels to an old one
            assert target["boxes"][0].tolist() == pytest.approx(painted(picture), abs=0.5 + 0.5 * blur)
    assert kept >= 15


def test_a_flip_mirrors_half_of_the_images_and_nothing_else():
    pipeline, seen = train_transforms(None, "flip"), {}
    for seed in range(60):
        torch.manual_seed(seed)
        picture, target = pipeline(*sample([(30, 20, 70, 60)]))
        box = tuple(target["boxes"][0].tolist())
        seen[box] = seen.get(box, 0) + 1
        assert painted(picture) == list(box)
    assert set(seen) == {(30.0, 20.0, 70.0, 60.0), (58.0, 20.0, 98.0, 60.0)}
    assert min(seen.values()) > 15


@pytest.mark.parametrize("pipeline", [train_transforms(None, "none"), eval_transforms()])
def test_without_a_size_an_image_passes_unharmed(pipeline):
    before, truth = sample([(30, 20, 70, 60), (0, 0, 2, 3)], labels=[4, 2])
    picture, target = pipeline(before, dict(truth))
    assert torch.equal(picture, before)
    assert all(torch.equal(target[key], truth[key]) for key in truth)


@pytest.mark.parametrize(
    ("shape", "size", "max_size", "expected"),
    [
        ((96, 128), 60, None, (60, 80)),
        ((128, 96), 60, None, (80, 60)),
        ((480, 640), 800, 1333, (800, 1066)),
        ((427, 640), 800, 1333, (800, 1199)),
        ((200, 640), 800, 1333, (416, 1333)),  # the longer side limits
    ],
)
def test_the_shorter_side_becomes_size_unless_the_longer_would_pass_max_size(shape, size, max_size, expected):
    for pipeline in (eval_transforms(size, max_size), train_transforms(size, "none", max_size)):
        picture, target = pipeline(*sample([(10, 20, 30, 60)], shape=shape))
        assert picture.shape[1:] == expected
        scale = np.array(expected)[::-1] / np.array(shape)[::-1]
        assert target["boxes"][0].tolist() == pytest.approx([*(scale * [10, 20]), *(scale * [30, 60])], rel=1e-5)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("shape", [(4000, 1), (1, 4000), (1, 1), (2, 300)])
@pytest.mark.parametrize(("size", "max_size"), [(None, None), (32, 100), ([16, 24], 24)])
def test_narrow_images_come_out_with_a_pixel_at_least(strength, shape, size, max_size):
    for seed in range(3):
        torch.manual_seed(seed)
        picture, target = train_transforms(size, strength, max_size)(*sample([(0, 0, 1, 1)], shape=shape))
        assert min(picture.shape) >= 1 and max(picture.shape) <= (max_size or 4000)
        assert len(target["boxes"]) == len(target["labels"])


def test_sizes_are_drawn_from_those_given():
    pipeline, seen = train_transforms((48, 72), "none", 200), set()
    for seed in range(20):
        torch.manual_seed(seed)
        seen.add(pipeline(*sample([]))[0].shape[1])
    assert seen == {48, 72}


def test_a_box_is_dropped_when_the_window_keeps_less_than_a_quarter_of_it():
    high, wide = 96, 128
    boxes = [(x, y, x + 24, y + 18) for x in range(0, 104, 26) for y in range(0, 78, 20)]
    _, target = sample(boxes, labels=list(range(len(boxes))))
    ramp = torch.stack(  # pixels that tell where they came from
        [torch.arange(wide).repeat(high, 1), torch.arange(high)[:, None].repeat(1, wide), torch.zeros(high, wide)]
    )
    dropped = kept = 0
    for seed in range(40):
        torch.manual_seed(seed)
        crop = CropResize(0.3, p=1.0)
        picture, after = crop(tv_tensors.Image(ramp), dict(target))
        assert picture.shape == (3, high, wide)
        left, right = picture[0].min() - 0.5, picture[0].max() + 1.5  # within half a pixel: the resize interpolates
        top, bottom = picture[1].min() - 0.5, picture[1].max() + 1.5
        for label, (x1, y1, x2, y2) in enumerate(boxes):
            across = max(0.0, min(x2, right.item()) - max(x1, left.item()))
            down = max(0.0, min(y2, bottom.item()) - max(y1, top.item()))
            share = across * down / (24 * 18)
            if label in after["labels"]:
                kept += 1
                assert share >= 0.25 - 1e-6  # the window is over-estimated: safe
            elif share < 0.15:
                dropped += 1
            else:
                assert share < 0.25 + (across + down) / (24 * 18)
    assert kept > 100 and dropped > 100


def test_crowd_regions_travel_and_stay_however_little_is_left_of_them():
    for seed in range(40):
        torch.manual_seed(seed)
        before = sample([(0, 0, 128, 96), (40, 30, 80, 70)], labels=[-1, 3])
        _, target = CropResize(0.3, p=1.0)(*before)
        assert target["labels"][0] == -1
        assert target["boxes"][0].tolist() == pytest.approx([0, 0, 128, 96])  # it filled the image and does so still
    torch.manual_seed(0)
    _, target = train_transforms(None, "flip")(*sample([(0, 0, 10, 96), (40, 30, 80, 70)], labels=[-1, 3]))
    assert target["labels"].tolist() == [-1, 3] and len(target["boxes"]) == 2


@pytest.mark.parametrize("strength", STRENGTHS)
def test_an_image_without_boxes_and_one_that_loses_them_stay_valid(strength):
    for boxes in ([], [(0, 0, 128, 1)], [(5, 5, 6, 6)]):
        for seed in range(10):
            torch.manual_seed(seed)
            picture, target = train_transforms(24, strength, 48)(*sample(boxes))
            assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,)  # under 1 px: dropped
            assert picture.shape == (3, 24, 32)
            assert target["image_id"] == 5


@settings(deadline=None, max_examples=60)
@given(st.integers(20, 300), st.integers(20, 300), st.integers(16, 200), st.integers(0, 999))
def test_a_box_that_touches_the_border_survives_rounding(high, wide, size, seed):
    torch.manual_seed(seed)
    boxes = [(0, 0, wide, high), (wide - 15, high - 15, wide, high)]
    for pipeline in (eval_transforms(size), v2.Compose([CropResize(0.5, p=1.0), *train_transforms(size).transforms])):
        _, target = pipeline(*sample(boxes, labels=[-1, 0], shape=(high, wide)))
        assert target["labels"][0] == -1


@pytest.mark.parametrize("strength", STRENGTHS)
def test_boxes_stay_inside_the_image_and_rows_stay_together(strength):
    boxes = [(x, y, x + 20, y + 20) for x in range(0, 100, 25) for y in range(0, 70, 25)]
    for seed in range(25):
        torch.manual_seed(seed)
        picture, target = train_transforms(None, strength)(*sample(boxes, labels=list(range(len(boxes)))))
        found = target["boxes"]
        assert len(found) == len(target["labels"])
        assert (found[:, :2] >= 0).all() and (found[:, 2:] <= torch.tensor([128, 96])).all()
        assert ((found[:, 2:] - found[:, :2]) >= 1).all()
        assert picture.shape == (3, 96, 128) and picture.dtype == torch.uint8


def test_the_same_seed_augments_alike():
    pipeline = train_transforms(None, "strong")
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(pipeline(*sample([(30, 20, 70, 60)])))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1]["boxes"], results[1][1]["boxes"])


def test_unknown_strengths_and_sizes_are_named():
    with pytest.raises(InputError, match="strength must be one of none, flip, light, strong, got 'hard'"):
        train_transforms(None, "hard")
    for make in (lambda: eval_transforms(800, 600), lambda: train_transforms(800, "flip", 600)):
        with pytest.raises(InputError, match="need 1 <= size <= max_size, got 800 and 600"):
            make()
    with pytest.raises(InputError, match="got 0 and None"):
        eval_transforms(0)
