"""`data shapes` and `data coco` killed at any moment and run again: the same files to the last byte, and no others."""

import shutil

import pytest
from killed import contents, killed_and_run_again

from otalab.data import ShapesConfig, coco_download, make_shapes

KINDS = {"photo by photo": ["--images", 9, "--longest-side", 32], "all of it": []}


def test_shapes_killed_and_drawn_again_are_the_same_files_and_no_others(tmp_path, kills):
    def arguments(folder) -> list:
        return ["data", "shapes", "--out", folder / "shapes", "--train", 4, "--val", 2]

    whole, *others = killed_and_run_again(arguments, tmp_path, kills)
    for folder in others:
        assert contents(folder) == contents(whole), folder.name


def test_shapes_killed_while_they_replace_others_are_drawn_again(tmp_path, kills):
    others = make_shapes(tmp_path / "others", 1, 1, ShapesConfig(seed=1), progress=False)

    def arguments(folder) -> list:
        if not folder.exists():
            shutil.copytree(others, folder / "shapes")
        return ["data", "shapes", "--out", folder / "shapes", "--train", 1, "--val", 1, "--overwrite"]

    whole, *others = killed_and_run_again(arguments, tmp_path, kills._replace(stride=1))
    for folder in others:
        assert contents(folder) == contents(whole), folder.name


@pytest.mark.parametrize("kind", KINDS)
def test_photos_killed_and_fetched_again_are_the_same_files_and_no_others(kind, coco, tmp_path, kills):
    def arguments(folder) -> list:
        return ["data", "coco", "--out", folder / "coco", "--splits", "val", *KINDS[kind]]

    patches = {"COCO_URLS": coco_download.COCO_URLS, "COCO_MD5": coco_download.COCO_MD5}
    coco.pause = 0.01
    whole, *others = killed_and_run_again(arguments, tmp_path, kills, patches)
    for folder in others:
        assert contents(folder) == contents(whole), folder.name
