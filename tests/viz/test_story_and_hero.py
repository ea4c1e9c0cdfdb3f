import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from docs.pictures.hero import hero, main
from otalab.detect import build_detector
from otalab.detect.checkpoint import save_model
from otalab.errors import InputError
from otalab.viz import assignment_story, gt_colour

from .scenes import NAMES, assigned, rendered, scene, texts


def count_near(pixels, colour, tolerance=12):
    distance = np.abs(pixels[..., :3].astype(int) - (np.array(to_rgb(colour)) * 255).round().astype(int))
    return int((distance.max(axis=-1) <= tolerance).sum())


def test_each_gt_has_one_colour_in_image_cost_plan_and_points():
    s = scene()
    figure = assignment_story(s.image, s.points, assigned(s), s.targets, NAMES)
    pixels = rendered(figure)
    height, width = pixels.shape[:2]
    for ax in figure.axes[:4]:
        box = ax.get_position()
        rows = slice(int((1 - box.y1) * height), int((1 - box.y0) * height))
        part = pixels[rows, int(box.x0 * width) : int(box.x1 * width)]
        for gt in range(3):
            assert count_near(part, gt_colour(gt)) > 30, (ax, gt)
        assert count_near(part, gt_colour(5)) == 0  # and no colour of a gt that is not there


def test_the_story_is_about_1600_by_600_px():
    s = scene()
    assert rendered(assignment_story(s.image, s.points, assigned(s), s.targets)).shape == (600, 1605, 4)


def test_the_story_counts_what_it_shows():
    s = scene()
    assignment = assigned(s)
    written = texts(assignment_story(s.image, s.points, assignment, s.targets, NAMES, note="made up"))
    several = int((assignment.cost[:-1].isfinite().sum(dim=0) > 1).sum())
    positive = int(assignment.positive.sum())
    assert f"{several} points could learn several objects; transport decides them all at once" in written
    assert {"3 objects, 80 anchor points", f"{positive} points learn an object", "made up"} <= written


@pytest.mark.parametrize("num_gt", [0, 1])
def test_a_story_without_a_contest_renders(num_gt):
    s = scene(num_gt, ignore=True)
    figure = assignment_story(s.image, s.points, assigned(s), s.targets, NAMES)
    rendered(figure)
    assert "No point is wanted twice: every object has its candidate points to itself" in texts(figure)


def test_making_figures_leaves_no_setting_behind():
    before = dict(matplotlib.rcParams)
    s = scene()
    rendered(assignment_story(s.image, s.points, assigned(s), s.targets))
    assert dict(matplotlib.rcParams) == before


def test_the_story_of_an_assigner_without_transport_is_refused():
    s = scene()
    with pytest.raises(InputError, match="no transport problem"):
        assignment_story(s.image, s.points, assigned(s, "fcos"), s.targets)


def test_the_command_writes_the_same_picture_twice(tmp_path):
    assert main([str(tmp_path / "a.png")]) == 0
    assert main([str(tmp_path / "b.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1605, 600)


def test_the_picture_shows_a_crowd_without_a_detector_and_with_one_and_says_whose_predictions(detector_folder):
    for figure, source in ((hero(), "simulated"), (hero(detector_folder), "a trained detector's")):
        headline = next(text for text in texts(figure) if text.endswith(", at the least total cost"))
        assert int(headline.split()[0]) >= 20
        assert any(text.startswith("5 objects, ") for text in texts(figure))
        assert f"Synthetic scene; predictions: {source}." in texts(figure)


def test_a_checkpoint_of_other_classes_is_refused_in_one_line(tmp_path, capsys):
    settings = {"backbone": "tiny", "num_classes": 2, "assigner": "ota"}
    save_model(tmp_path / "model.safetensors", build_detector(**settings), settings, ["cat", "dog"], [1, 2])
    assert main([str(tmp_path / "out.png"), "--checkpoint", str(tmp_path)]) == 2
    assert "knows the classes cat, dog" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_a_missing_checkpoint_is_named(tmp_path, capsys):
    assert main([str(tmp_path / "out.png"), "--checkpoint", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "none") in error and error.count("\n") == 1
